module wirespan.test/tls_go

go 1.18
