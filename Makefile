# Two commands do all the work here: `make test`, and `go run ./cmd/writ demo`.

GO      ?= go
LINT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VULN    := golang.org/x/vuln/cmd/govulncheck@v1.9.0
MUTANTS := github.com/go-gremlins/gremlins/cmd/gremlins@v0.6.0
DATA    ?= ../shared/data/airline-agent
FUZZ    ?= 10s
SCOPE   ?=

DURATION    ?= 10s
REPEATS     ?= 3
ENTRIES     ?= 100000
DATABASES   ?= sqlite,postgres
CONNECTIONS ?= 1,16,64
CALLERS     ?= plain
SOAK        ?= 1h
RATE        ?= 200
RESTARTS    ?= 12

.PHONY: test deps vet lint vuln race tamper cover mutate eval bench soak microbench fuzz docs build

## test: everything that must hold before a change lands
test: deps vet lint race tamper

## deps: what the tests need from the distribution
deps:
	@./scripts/deps

vet:
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	$(GO) vet ./...

lint:
	$(GO) run $(LINT) run

## vuln: known vulnerabilities in what we call; needs the network
vuln:
	$(GO) run $(VULN) ./...

race:
	$(GO) test -race -timeout 20m ./...

## tamper: every tampering of every table; the race detector makes do with a sample
tamper:
	$(GO) test -count=1 ./internal/store

## cover: every statement of the pure packages that no test reaches
cover:
	./scripts/cover

## mutate: every change of an operator that no test notices, in SCOPE (packages or files); an hour or more for all
mutate:
	./scripts/mutate $(MUTANTS) $(SCOPE)

## eval: replay a recorded agent through a real server
eval:
	$(GO) run ./examples/airline/eval -data $(DATA) -out $(or $(OUT),eval.json)

## bench: whole governed requests on a real server, against a bare net/http handler. ENTRIES=1000000 takes an hour; CALLERS=plain,dpop,tls,mtls
bench:
	$(GO) run ./bench -duration $(DURATION) -repeats $(REPEATS) -entries $(ENTRIES) -databases $(DATABASES) -connections $(CONNECTIONS) -callers $(CALLERS) -out $(or $(OUT),bench.json)

## soak: an hour of mixed load with expiry, revocation and restarts: nothing is lost, and nothing grows but the log
soak:
	$(GO) run ./bench -soak $(SOAK) -rate $(RATE) -restarts $(RESTARTS) -identities 200 -databases $(or $(SOAKED),sqlite) -out $(or $(OUT),soak.json)

## microbench: the cost of deciding, appending and verifying, in process
microbench:
	$(GO) test -run '^$$' -bench . -benchmem ./evidence ./internal/policy ./internal/store ./internal/control ./internal/authn ./internal/connector/jwt

## fuzz: every fuzz target for FUZZ each
fuzz:
	./scripts/fuzz $(FUZZ)

## docs: docs/configuration.md, from the configuration struct
docs:
	$(GO) test ./internal/app -run TestConfigurationReference -update

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/writ ./cmd/writ
