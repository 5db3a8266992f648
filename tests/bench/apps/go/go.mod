module wirespan.test/bench

go 1.18
