module sni-router/tests/clients/go

go 1.19
