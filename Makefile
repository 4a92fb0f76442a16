# Every target says what it does: make help.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

GO ?= go
STORE ?= sqlite
FUZZTIME ?= 20s
BUYERS ?= 20000
CONCURRENCY ?= 200
ONLY ?=
SHORT ?=
SCENARIO ?= flash
ROUNDS ?= 1
SEED ?=
# Where `make faults` writes its report; empty: results for the whole matrix, nowhere for a part.
OUT ?=
SEEDS ?= $(if $(filter 1,$(SHORT)),1,$(if $(ONLY),1,3))
JOBS ?= 6
# Where `make test` also writes its events as JSON lines; empty: nowhere.
TESTJSON ?=

WITH_POSTGRES = $(GO) run ./internal/withpostgres --
TOOL = $(GO) tool -modfile=tools.mod
GOLANGCI = $(GO) tool -modfile=lint.mod golangci-lint
BUF = $(GO) tool -modfile=buf.mod buf

.PHONY: help
help: ## show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## download modules, and install PostgreSQL where it is missing (root on Debian)
	$(GO) mod download
	$(GO) mod download -modfile=tools.mod
	$(GO) mod download -modfile=lint.mod
	$(WITH_POSTGRES) true

.PHONY: build
build: ## build bin/sluice, stamped with its commit
	$(GO) build -buildvcs=auto -o bin/sluice ./cmd/sluice

# The annotations that the .proto files import come with Kratos.
.PHONY: api
api: ## generate the code of the operations API from api/v1/*.proto, and check their style
	files=$$(mktemp -d); trap 'rm -rf "$$files"' EXIT; \
	mkdir -p $$files/api/v1 && cp api/v1/*.proto $$files/api/v1/ && cp api/buf.yaml $$files/; \
	cp -r "$$($(GO) list -m -f '{{.Dir}}' github.com/go-kratos/kratos/v2)/third_party/google" $$files/; \
	$(BUF) lint $$files --path $$files/api; \
	$(BUF) generate $$files --path $$files/api --template api/buf.gen.yaml

.PHONY: run
run: build ## run everything in one process with a demo sale; data in ./data
	bin/sluice up --demo --data data

.PHONY: demo
demo: build ## a flash sale with a crowd of buyers; fails if it does not add up (STORE=sqlite|postgres BUYERS= CONCURRENCY=)
	$(GO) build -o bin/crowd ./loadtest/crowd
	$(if $(filter postgres,$(STORE)),$(WITH_POSTGRES)) loadtest/demo.sh $(STORE) --buyers $(BUYERS) --concurrency $(CONCURRENCY)

.PHONY: loadtest
loadtest: build ## play a load test and write its report to results/ (SCENARIO=flash STORE=sqlite|postgres ROUNDS=1; bin/sluice loadtest list)
	bin/sluice loadtest $(SCENARIO) --store $(STORE) --rounds $(ROUNDS)

.PHONY: capacity
capacity: build ## search the highest rate that keeps the limits, and write a report to results/ (STORE=sqlite|postgres)
	bin/sluice loadtest search --store $(STORE)

.PHONY: examples
examples: ## run the example services with a small sale; fails if one of them has not got everything, once
	$(GO) run ./examples/demo

.PHONY: slow
slow: ## measure what three slow subscribers cost the buyers (SLUICE_SLOW_ROUNDS=31)
	SLUICE_SLOW_ROUNDS=$${SLUICE_SLOW_ROUNDS:-31} $(GO) test -count=1 -v -timeout 20m -run TestSlowSubscribers ./examples

.PHONY: test
test: ## run all tests, with a private PostgreSQL and with real processes that are killed
	$(WITH_POSTGRES) $(TOOL) gotestsum --format pkgname $(if $(TESTJSON),--jsonfile $(TESTJSON)) -- -timeout 10m ./...

.PHONY: race
race: ## run all tests but the kill tests with the race detector, in the processes under test too
	$(WITH_POSTGRES) $(GO) test -race -timeout 20m -skip 'TestKill|TestFaults' ./...

.PHONY: faults
faults: ## play the fault matrix and write results/faults.* (SEED=1 SEEDS=3 JOBS=6; ONLY=part of a name,… or SHORT=1: a part, written only to OUT=folder)
	$(GO) build -buildvcs=auto -o bin/sluice ./cmd/sluice
	$(GO) build -o bin/checker ./faulttest/checker
	$(GO) build -buildvcs=auto -o bin/faults ./faulttest/matrix
	bin/faults $(if $(ONLY),--only '$(ONLY)') --seed $(or $(SEED),1) --seeds $(SEEDS) --jobs $(JOBS) $(if $(filter 1,$(SHORT)),--short) \
		$(if $(OUT),--out '$(OUT)',$(if $(ONLY)$(filter 1,$(SHORT)),,--out results))

.PHONY: simulate
simulate: ## drive the protocol through random schedules of faults, without sockets or time (FOR=1m; SEED=n repeats one; STEPS=2000 each)
	$(GO) test -count=1 -v -timeout 24h -run TestSimulation_KeepsEveryPromise ./internal/simulate -steps $(or $(STEPS),2000) $(if $(SEED),-seed $(SEED) $(if $(FOR),-for $(FOR)),-for $(or $(FOR),1m))

.PHONY: fewfaults
fewfaults: ## play eleven runs of the fault matrix, of the faults that need no special machine; two minutes
	SLUICE_FAULTS_FEW=1 $(WITH_POSTGRES) $(GO) test -count=1 -v -timeout 10m -run TestFaults_AFewOfTheMatrix ./faulttest/matrix

# FOR is some minutes at least: memory is compared with what it was after two.
.PHONY: soak
soak: ## three times the capacity and a random fault every 20 s, on PostgreSQL with two doors; writes results/soak.* (FOR=20m SEED=1)
	$(GO) build -buildvcs=auto -o bin/sluice ./cmd/sluice
	$(GO) build -o bin/checker ./faulttest/checker
	$(GO) build -buildvcs=auto -o bin/faults ./faulttest/matrix
	bin/faults --soak $(or $(FOR),20m) --seed $(or $(SEED),1) --out results

.PHONY: browser
browser: ## look at the pages through a real browser; installs chromium where it is missing (SLUICE_SCREENSHOTS=dir keeps pictures)
	cd browsertest && $(GO) test -count=1 -timeout 20m ./...

.PHONY: fuzz
fuzz: ## fuzz every fuzz test for a short time (FUZZTIME=20s)
	for package in $$($(GO) list ./...); do \
		for name in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$name"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

.PHONY: bench
bench: ## run all benchmarks
	$(WITH_POSTGRES) $(GO) test -run '^$$' -bench . -benchmem -timeout 30m ./...

.PHONY: scoreboard
scoreboard: ## measure against other sides, write results/scoreboard.* (ONLY=S1,S2; SHORT=1: under a minute a row)
	$(GO) build -o bin/scoreboard ./loadtest/scoreboard
	bin/scoreboard $(if $(ONLY),--only $(ONLY)) $(if $(filter 1,$(SHORT)),--short)

.PHONY: lint
lint: ## check style, import rules and formatting
	$(GO) vet ./...
	$(GO) vet -C loadtest/peers ./...
	$(GOLANGCI) run
	@unformatted=$$($(TOOL) gofumpt -l .); [[ -z $$unformatted ]] || { echo "make fmt would change: $$unformatted"; exit 1; }

.PHONY: deadcode
deadcode: ## list functions that nothing reaches
	$(TOOL) deadcode -test ./...

.PHONY: fmt
fmt: ## format the code and sort its imports
	$(GOLANGCI) fmt

.PHONY: clean
clean: ## remove what was built, and the data of `make run`
	rm -rf bin data coverage.out
