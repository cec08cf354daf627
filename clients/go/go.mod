module github.com/freqcap/freqcap/clients/go

go 1.19
