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

.PHONY: build test test-long attack lint vuln bench fuzz soak crash cover packages hosts release clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(BIN) ./cmd/mcp-sandbox

test:
	$(GO) test ./...
	cd bench && $(GO) test ./...

# The whole of what the ordinary tests try a part of: all git attacks, the contract of
# processes at every level as root, deep process trees. About an hour with -race.
test-long:
	MCP_SANDBOX_TEST_LONG=1 $(GO) test -timeout 2h ./...

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

# Coverage of all tests together with that of the servers and sandboxes they
# start; see docs/coverage.md.
cover:
	.ci/cover

# Checks every manifest and builds the packages that can be built here.
packages:
	.ci/packages

# On a tag: make release OWNER=account, the account of GitHub that publishes it.
# RELEASE=--snapshot publishes nothing. It wants goreleaser and cyclonedx-gomod.
release:
	@packaging/fill "$(OWNER)" /dev/null
	OWNER="$(OWNER)" goreleaser release --clean $(RELEASE)

clean:
	rm -rf bin dist

# Emulated guests with systemd, see hosts/run; DEB is a package of make packages.
hosts:
	hosts/run bookworm $(DEB)
	hosts/run trixie $(DEB)
