# `make help` describes every target.

SHELL := /bin/bash
.DEFAULT_GOAL := help

TOOLS := $(CURDIR)/.tools
BIN   := $(TOOLS)/bin
GO    := go

# The tools are pinned in modules of their own, so that berth's module does not depend
# on theirs. They are built again only when their module changes.
export PATH := $(BIN):$(PATH)
export GOBIN := $(BIN)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## Build berth and serve ./berth-data at http://127.0.0.1:5000
	./berth serve

# berth uses the JSON API of Cloud Storage. The client library's gRPC transport would
# add a quarter to the binary, and 8 MiB to the memory of every process.
TAGS := disable_grpc_modules

.PHONY: build
build: ## Build ./berth
	$(GO) build -tags $(TAGS) -o berth ./cmd/berth

# These tests count requests and bytes of large uploads, one after another. With the
# race detector they would take minutes and find nothing.
COUNTING := ^Test(Budgets|BytesOfChunks|HugeUploads|ManyPatches)$$

# These tests search for interleavings and faults that break a rule. `make test` runs a
# share of each, which is another one each time. In their schedules one call runs at a
# time, so the race detector would find little and take minutes: only `make test-long`
# runs a share with it.
SEARCHES := ^Test(EveryInterleaving|EveryLateWrite|Attack|Faults|Search|StoreThatHangs|BrokenRules)

# `make test` runs the tests of these packages with the race detector. The others, most
# of which wait for servers of stores or run the binary, would take minutes more with it:
# `make test-long` does that.
RACED  := ./blobstore/... ./upload/... ./redirect/... ./cmd/berth/server ./drivers/envelope ./drivers/filesystem ./drivers/memory ./drivers/presign
OTHERS := $$($(GO) list ./... | grep -vxF "$$($(GO) list $(RACED))")

# These packages have no goroutines of their own: the race detector is left out.
SEQUENTIAL := ./cmd/berth/config ./cmd/berth/policy ./deploy ./drivers/inspect
CONCURRENT := $$($(GO) list ./... | grep -vxF "$$($(GO) list $(RACED) $(SEQUENTIAL))")

# `make check` vets the tests, so that the other targets need not.
TEST := $(GO) test -tags $(TAGS) -vet=off

# What the tests need besides Go.
NEEDS := $(addprefix $(TOOLS)/,clients.stamp servers.stamp peers.stamp azurite.stamp nginx.stamp haproxy.stamp containers.stamp)

.PHONY: test
test: $(NEEDS) ## Run the tests, those of concurrent code with the race detector; installs what they need
	$(TEST) -race -timeout 20m -skip '$(COUNTING)|$(SEARCHES)' $(RACED)
	$(TEST) -timeout 20m -run '$(COUNTING)|$(SEARCHES)' ./blobstore ./upload
	$(TEST) -timeout 20m $(OTHERS)

.PHONY: test-long
test-long: $(NEEDS) $(TOOLS)/deploy.stamp ## Run the tests that take minutes: every interleaving and fault, all TestLong…, and the race detector everywhere
	BERTH_TEST_LONG=1 $(TEST) -run '$(SEARCHES)' -timeout 60m ./blobstore
	BERTH_TEST_LONG=1 $(TEST) -run '^TestLong' -timeout 60m -count 1 ./...
	cd testdata/tools/deploy && $(GO) test ./...
	$(TEST) -race -run '$(SEARCHES)' -timeout 60m -count 1 ./blobstore
	$(TEST) -race -timeout 60m -count 1 $(CONCURRENT)

.PHONY: race
race: $(TOOLS)/servers.stamp $(TOOLS)/azurite.stamp ## Run the tests that search for races, longer than `make test` does
	$(TEST) -race -timeout 30m -count 3 ./upload/... ./blobstore/... ./drivers/...

FUZZTIME ?= 30s

.PHONY: fuzz
fuzz: ## Run every fuzzer for FUZZTIME (30s)
	@set -euo pipefail; $(GO) list ./... | while read -r pkg; do \
	  $(TEST) -list '^Fuzz' $$pkg | { grep ^Fuzz || true; } | while read -r f; do \
	    echo "== $$pkg $$f"; $(TEST) -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg </dev/null; \
	  done; \
	done

.PHONY: soak
soak: $(NEEDS) $(TOOLS)/largeclients.stamp ## Run the tests that take tens of minutes (BERTH_TEST_SOAK=1)
	BERTH_TEST_SOAK=1 $(TEST) -timeout 2h -count 1 ./...

DIST := $(CURDIR)/dist
PACKAGES ?= $(DIST)

.PHONY: docs
docs: build ## Write man pages and shell completions into dist/docs
	rm -rf $(DIST)/docs
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) ./berth docs $(DIST)/docs
	gzip -9n $(DIST)/docs/man/*.1

# A version such as 1.2.3, or 0.0.0~20261201120000.abcdef0 between releases.
VERSION ?= $$(git describe --tags --exact-match --match 'v*' 2>/dev/null | sed s/^v// | grep . || git log -1 --date=format:%Y%m%d%H%M%S --format=0.0.0~%cd.%h)

.PHONY: package
package: docs $(TOOLS)/deploy.stamp ## Build dist/*.deb and dist/*.rpm for this machine's processor
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -tags $(TAGS) -o $(DIST)/berth ./cmd/berth
	for kind in deb rpm; do ARCH=$$($(GO) env GOARCH) VERSION=$(VERSION) nfpm package --config deploy/packages/nfpm.yaml --packager $$kind --target $(PACKAGES)/ || exit; done

# Helm takes minutes to build. `make test` compares the golden output with berth, and
# fails if the chart has changed since Helm wrote it.
.PHONY: helm
helm: $(TOOLS)/helm.stamp ## Check the chart with Helm; UPDATE=-update writes its golden output
	BERTH_TEST_HELM=1 $(GO) test -tags $(TAGS) -count 1 -run '^TestHelm$$' ./deploy $(UPDATE)

.PHONY: requests
requests: $(TOOLS)/servers.stamp $(TOOLS)/azurite.stamp ## Count the requests to each store, compare them with the README, and print its table
	BERTH_TEST_REQUESTS=1 $(TEST) -count 1 -timeout 30m -run '^TestRequests$$' ./cmd/berth/system
	@sed -n '/^<!-- requests -->/,/^<!-- end of requests -->/ { /^|/p }' README.md

.PHONY: bench
bench: ## Run the benchmarks
	$(TEST) -run '^$$' -bench . -benchmem -timeout 30m ./...

.PHONY: check
check: $(TOOLS)/lint.stamp cross ## Run the linter and go vet, and check go.mod and the builds for every platform
	$(GO) vet -tags $(TAGS) ./...
	$(GO) mod tidy -diff
	golangci-lint run ./...

PLATFORMS := linux/amd64 linux/arm64 linux/386 linux/arm darwin/arm64 windows/amd64

.PHONY: cross
cross: $(addprefix cross-,$(PLATFORMS)) ## Build berth for every platform and discard the binaries

# Without optimizations, which would double the time: these binaries are not kept.
.PHONY: $(addprefix cross-,$(PLATFORMS))
$(addprefix cross-,$(PLATFORMS)): cross-%:
	GOOS=$(*D) GOARCH=$(*F) CGO_ENABLED=0 $(GO) build -gcflags='all=-N -l' -tags $(TAGS) -o /dev/null ./cmd/berth

.PHONY: tidy
tidy: $(TOOLS)/lint.stamp ## Format the code and tidy go.mod
	$(GO) mod tidy
	golangci-lint fmt ./...

$(TOOLS)/%.stamp: testdata/tools/%/go.mod testdata/tools/%/go.sum
	@mkdir -p $(BIN)
	cd $(<D) && $(GO) install tool
	@touch $@

# The module of large clients has Helm, and others that take longer.
$(TOOLS)/helm.stamp: testdata/tools/largeclients/go.mod testdata/tools/largeclients/go.sum
	@mkdir -p $(BIN)
	cd $(<D) && $(GO) install helm.sh/helm/v4/cmd/helm
	@touch $@

# toxiproxy calls its command "server".
$(TOOLS)/servers.stamp: testdata/tools/servers/go.mod testdata/tools/servers/go.sum
	@mkdir -p $(BIN)
	cd $(<D) && $(GO) install tool
	mv $(BIN)/server $(BIN)/toxiproxy-server
	@touch $@

$(TOOLS)/azurite.stamp: testdata/tools/azurite/package.json testdata/tools/azurite/package-lock.json
	@mkdir -p $(TOOLS)/azurite
	cp $^ $(TOOLS)/azurite
	cd $(TOOLS)/azurite && npm ci --no-audit --no-fund
	ln -sf ../azurite/node_modules/.bin/azurite-blob $(BIN)/azurite-blob
	@touch $@

$(TOOLS)/nginx.stamp $(TOOLS)/haproxy.stamp $(TOOLS)/containers.stamp: $(TOOLS)/%.stamp: testdata/tools/%.sh
	$< $(TOOLS)
	@touch $@
