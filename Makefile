# The README's two commands need Go alone; these targets only save typing.
GO ?= go
BIN := bin/mcp-sandbox

# How long each fuzz target and each soak test runs.
FUZZTIME ?= 1m
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
SOAKTIME ?= 10m
# How often each crash test kills a server.
KILLS ?= 400

.PHONY: build install test test-long clients agents-sdk attack lint vuln bench bench-quick bench-performance fuzz soak crash s3-engine cover packages hosts hosts-quick release clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(BIN) ./cmd/mcp-sandbox

# For the user alone, without rights; PREFIX=/usr/local for all.
PREFIX ?= $(HOME)/.local
install:
	mkdir -p "$(DESTDIR)$(PREFIX)/bin"
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o "$(DESTDIR)$(PREFIX)/bin/mcp-sandbox" ./cmd/mcp-sandbox
	@case ":$$PATH:" in *":$(PREFIX)/bin:"*) ;; *) echo 'Put $(PREFIX)/bin on PATH, or call $(PREFIX)/bin/mcp-sandbox.' ;; esac

test:
	$(GO) test ./...
	cd bench && $(GO) test ./...

# The whole of what the ordinary tests try a part of: all git attacks, the contract of
# processes at every level as root, deep process trees. About an hour with -race.
test-long:
	MCP_SANDBOX_TEST_LONG=1 $(GO) test -timeout 2h ./...

# SDKs, frameworks, bridges and agents that people use, against the server.
clients: build
	clients/run $(BIN)

# The npm package against the SDK it is for.
agents-sdk: build
	sdk/typescript/run $(BIN)

# The attack suite alone, at every level, with counts. By root also as an ordinary
# user, and without user namespaces.
attack:
	.ci/attack

lint:
	$(GO) vet ./...
	cd bench && $(GO) vet ./...
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run gofmt -w on these'; exit 1; }
	$(GO) run $(STATICCHECK) ./...
	@if command -v golangci-lint >/dev/null; then golangci-lint run; else echo 'golangci-lint is not installed: vet and gofmt only'; fi

# Asks the Go vulnerability database, so it needs the network.
vuln:
	$(GO) run $(GOVULNCHECK) ./...

bench:
	$(GO) test -run '^$$' -bench . -benchtime 1s ./...

# The work tree against the last commit, turn by turn, in under three minutes; or
# make bench-quick BASE=v1.2.
bench-quick:
	cd bench && $(GO) run ./quick $(if $(BASE),-base $(BASE))

# Where the time of one exec_command goes, layer by layer: docs/performance.md.
bench-performance:
	cd bench && $(GO) run ./performance

# Every FuzzXxx of every package, one after the other. Inputs that fail are
# written to the package's testdata/fuzz and the run goes on, to find them all.
fuzz:
	@failed=; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "== $$pkg $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5s $$pkg || failed="$$failed $$pkg.$$target"; \
	  done; \
	done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

# The tests that run for as long as they are told, with the race detector.
soak:
	$(GO) test -race -run '^TestSoak$$' -timeout 0 -v ./ptyproc -soak $(SOAKTIME)

# Servers killed at any moment of their lives and of what they write.
crash:
	$(GO) test -run '^TestKilled' -timeout 0 -v ./cmd/mcp-sandbox -kills $(KILLS)

# The tests of servers that share a bucket, against versitygw, which it fetches and
# builds outside go.mod; S3_ENGINE=HOST:PORT names another that runs.
s3-engine:
	.ci/s3-engine

# Coverage of all tests together with that of the servers and sandboxes they
# start; see CONTRIBUTING.md.
cover:
	.ci/cover

# Checks every manifest and builds the packages that can be built here.
packages:
	.ci/packages

# Everything a release holds, by one command. On a tag: make release OWNER=account, the account of GitHub that publishes it.
# RELEASE=--snapshot publishes nothing. It wants goreleaser and cyclonedx-gomod.
release:
	@packaging/fill "$(OWNER)" /dev/null
	OWNER="$(OWNER)" goreleaser release --clean $(RELEASE)
	packaging/assemble "$(OWNER)" "$$(sed -n 's/.*"version":"\([^"]*\)".*/\1/p' dist/metadata.json)" dist

clean:
	rm -rf bin dist

# Emulated guests of other kernels and distributions, see hosts/run; the second is
# Debian 13 alone, with the deb and its unit.
hosts:
	hosts/run

hosts-quick:
	hosts/run debian13 debian13-unit
