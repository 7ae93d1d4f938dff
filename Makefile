# Sluice: `make` lists what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BUF_VERSION := 1.75.0
TOOLS := $(CURDIR)/.tools
BUF := $(TOOLS)/node_modules/.bin/buf
LINT := $(TOOLS)/golangci-lint
BIN := $(CURDIR)/bin/sluice

.PHONY: help
help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: $(BIN) ## Build bin/sluice, stripped.

.PHONY: $(BIN)
$(BIN):
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $(BIN) ./cmd/sluice

.PHONY: test
test: ## Run the tests that everyone runs.
	go test ./...

.PHONY: race
race: ## Run the tests with the race detector.
	go test -race -short ./...

FUZZ_TIME ?= 10s
.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZ_TIME (default 10s; or 1000x inputs).
	bash tools/fuzz.sh $(FUZZ_TIME)

.PHONY: generate
generate: $(BUF) ## Make gen/ and docs/openapi/ from proto/; needs Node's npm.
	go run ./tools/protodeps .protodeps
	$(BUF) generate
	go run ./tools/openapi

.PHONY: check-generated
check-generated: generate ## Fail if generated files are not current.
	go test ./internal/fault ./internal/setting -rewrite
	@git diff --exit-code --stat -- gen docs || \
		{ echo 'generated files are not current: run make generate and commit' >&2; exit 1; }
	@test -z "$$(git status --porcelain -- gen docs)" || \
		{ git status --short -- gen docs; echo 'generated files are not committed' >&2; exit 1; }

.PHONY: lint
lint: $(BUF) $(LINT) ## Vet and lint the Go code and the protos.
	go vet ./...
	$(LINT) run --allow-parallel-runners ./...
	go run ./tools/protodeps .protodeps
	$(BUF) lint

AGAINST ?= HEAD~1
.PHONY: breaking
breaking: $(BUF) ## Fail if the protos break clients of the commit AGAINST (default HEAD~1).
	bash tools/breaking.sh $(BUF) $(AGAINST)

.PHONY: tour
tour: ## Run the README's tour and the guides as printed, in fresh clones; needs curl and Python.
	bash tools/tour.sh README.md docs/guide/schemas.md docs/operations.md docs/guide/groups.md \
	  docs/guide/http.md docs/guide/storage.md

.PHONY: tour-machines
tour-machines: build ## Run what the operations page does on several machines, in namespaces; needs root.
	cd tools/etcd && go build -trimpath -o $(CURDIR)/bin/etcd go.etcd.io/etcd/server/v3
	cd tools/etcd && go build -trimpath -o $(CURDIR)/bin/etcdctl go.etcd.io/etcd/etcdctl/v3
	cd tools/etcd && go build -trimpath -o $(CURDIR)/bin/etcdutl go.etcd.io/etcd/etcdutl/v3
	bash tools/machines.sh docs/operations.md bin

SCHEDULES ?= 5000
.PHONY: simulate-groups
simulate-groups: ## Run SCHEDULES (default 5000) random schedules of a group in virtual time.
	go test ./server/group -run SimulatedGroups -count=1 -v -timeout 60m -schedules $(SCHEDULES)

.PHONY: test-browser
test-browser: build ## Open the docs pages in a headless browser; installs what it needs.
	bash tests/browser/run.sh $(BIN)

.PHONY: test-clients
test-clients: build ## Run real Schema Registry and REST Proxy clients; needs npm and Python.
	bash tests/clients/run.sh $(BIN)

.PHONY: crash-short
crash-short: ## Kill, cut power, damage and fill disks for a minute: is all there?
	bash tests/crash/run.sh -timeout 10m

CRASH_MINUTES ?= 10
.PHONY: crash
crash: ## The same for CRASH_MINUTES (default 10); needs root and /dev/fuse.
	CRASH_MINUTES=$(CRASH_MINUTES) bash tests/crash/run.sh -timeout 120m -v

.PHONY: crash-mutations
crash-mutations: ## Leave out the log's rules one by one: is it found? Needs root and /dev/fuse.
	bash tests/crash/mutations.sh

.PHONY: crash-mutations-short
crash-mutations-short: ## The same as far as the tests of storage/ find it; needs nothing.
	bash tests/crash/mutations.sh short

.PHONY: groups-short
groups-short: build ## A consumer group whose members, and node, are killed, a few times.
	GROUPS_SLUICE=$(BIN) GROUPS_ROUNDS=6 go test -count=1 -timeout 10m -v -run Processes \
		./tests/groups

GROUPS_ROUNDS ?= 200
.PHONY: groups
groups: build ## The same GROUPS_ROUNDS times (default 200, some ten minutes).
	GROUPS_SLUICE=$(BIN) GROUPS_ROUNDS=$(GROUPS_ROUNDS) go test -count=1 -timeout 120m -v \
		-run Processes ./tests/groups

SIM_SEEDS ?= 20000
CLUSTER_SEEDS ?= 200
.PHONY: simulate
simulate: ## Simulate replication in SIM_SEEDS schedules of each kind, and CLUSTER_SEEDS clusters.
	go test -count=1 -timeout 24h -v -run TestSimulation ./server/replica -sim.seeds $(SIM_SEEDS)
	CLUSTER_SEEDS=$(CLUSTER_SEEDS) go test -count=1 -timeout 24h -v ./tests/simulate

CHAOS_MINUTES ?= 10
CHAOS_REPLICATION ?= 3
.PHONY: chaos
# CHAOS_SEED, CHAOS_LINKS (namespaces or proxies) and CHAOS_FAULT (a part of a fault's name) of
# the environment repeat a run or narrow it down.
chaos: ## Break a cluster of processes under load for CHAOS_MINUTES (default 10).
	cd tests/chaos && CHAOS_MINUTES=$(CHAOS_MINUTES) CHAOS_REPLICATION=$(CHAOS_REPLICATION) \
		go test -count=1 -v -timeout 24h .

.PHONY: cluster
cluster: build ## Run three nodes of one cluster on this machine, in ./sluice-cluster, until Ctrl-C.
	bash tools/cluster.sh $(BIN) sluice-cluster

.PHONY: soak-retention
soak-retention: build ## Show that disk space comes back under a steady load, in a minute.
	bash tests/soak/retention.sh $(BIN)

ROUNDS ?= 5
.PHONY: bench
bench: build ## Measure produce and fetch; prints the tables of docs/benchmarks.md.
	go run ./tools/bench -bin $(BIN) -rounds $(ROUNDS)

.PHONY: bench-cluster
bench-cluster: build ## Measure three nodes: replicas, fail-over, catching up, many partitions.
	go run ./tools/bench -bin $(BIN) -rounds $(ROUNDS) -cluster

LISTENERS ?= 10000
.PHONY: listeners
listeners: build ## Hold idle listeners of a live stream, and see that each gets what it should.
	go run ./tools/bench -bin $(BIN) -crowd $(LISTENERS)

.PHONY: bench-http
bench-http: build ## Measure the HTTP surfaces, at the handler and over loopback.
	go run ./tools/bench -bin $(BIN) -rounds $(ROUNDS) -http

.PHONY: bench-client
bench-client: build ## Measure the Go client: batch sizes, lingers, reading, allocations.
	go run ./tools/bench -bin $(BIN) -rounds $(ROUNDS) -client
	go test ./clients/go -run '^$$' -bench 'Produce|Consume' -benchtime 2000000x -count $(ROUNDS)

PEER_ROUNDS ?= 5
.PHONY: bench-peers
bench-peers: build ## The same work on Sluice, NATS JetStream and Redis Streams, side by side.
	bash tests/peers/run.sh -bin $(BIN) -rounds $(PEER_ROUNDS)

$(BUF):
	npm install --prefix $(TOOLS) --no-audit --no-fund --silent @bufbuild/buf@$(BUF_VERSION)

$(LINT): tools/lint/go.mod
	cd tools/lint && go build -o $(LINT) github.com/golangci/golangci-lint/v2/cmd/golangci-lint
