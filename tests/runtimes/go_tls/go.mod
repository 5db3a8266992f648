module wirespan.test/tls

go 1.18

