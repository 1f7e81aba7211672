package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"mcp-sandbox/confine"
	"mcp-sandbox/egress"
)

// networkSettings are the allow-list of --network allow.
type networkSettings struct {
	allow, deny, presets []string
}

func registerNetwork(f *pflag.FlagSet, n *networkSettings) {
	f.StringSliceVar(&n.allow, "allow-host", nil, "with --network allow: host, *.host, address or range, each with an optional :port, that commands may reach")
	f.StringSliceVar(&n.deny, "deny-host", nil, "with --network allow: the same, refused first")
	f.StringSliceVar(&n.presets, "allow-preset", nil, "with --network allow: hosts of go, npm, pypi, debian, github, crates")
}

// gateway is the way out of sessions with --network allow: one proxy a session,
// one list of rules for all.
type gateway struct {
	log *slog.Logger

	mu      sync.Mutex
	policy  *egress.Policy
	proxies map[*egress.Proxy]bool
}

// newGateway refuses an allow network without a rule: an empty list must never
// be read as "everything" (CVE-2025-66479), and as "nothing" it is a slip.
func newGateway(n networkSettings, log *slog.Logger) (*gateway, error) {
	p, err := egress.NewPolicy(n.allow, n.deny, n.presets)
	if err != nil {
		return nil, err
	}
	return &gateway{log: log, policy: p, proxies: map[*egress.Proxy]bool{}}, nil
}

// proxyAddress is where a session finds its proxy, on its own loopback. It is
// taken before the first command runs, so nothing inside can squat on it.
const proxyAddress = "127.0.0.1:3128"

// open starts a session's proxy on a listener made inside its network: there is
// no route out and so nothing to go around the proxy.
func (g *gateway) open(sb *confine.Sandbox, log *slog.Logger) (*sessionProxy, error) {
	// Elsewhere the listener would be on the host's own loopback, a way out for
	// every user of the machine, and the session could not reach it.
	if level := sb.Report().Level; level != confine.LevelNamespaces && level != confine.LevelNamespacesNoProc {
		return nil, &networkError{fmt.Sprintf("an allow-list network needs namespaces and this host lends the level %s only, see mcp-sandbox doctor or use --network none", level)}
	}
	l, err := sb.Listen("tcp", proxyAddress)
	if err != nil {
		return nil, err
	}
	s := &sessionProxy{gateway: g, served: make(chan struct{})}
	g.mu.Lock()
	s.proxy = egress.NewProxy(egress.Options{Policy: g.policy, Log: log, OnDenial: s.note})
	g.proxies[s.proxy] = true
	g.mu.Unlock()
	go func() {
		defer close(s.served)
		if err := s.proxy.Serve(l); err != nil && log != nil {
			log.Debug("the network proxy ended", "error", err)
		}
	}()
	return s, nil
}

// set changes the rules of every session at once; nil closes the network.
func (g *gateway) set(p *egress.Policy) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.policy = p
	for proxy := range g.proxies {
		proxy.SetPolicy(p)
	}
}

// networkError: the wished network cannot be had.
type networkError struct{ text string }

func (e *networkError) Error() string { return e.text }
func (e *networkError) Code() string  { return "confinement_unavailable" }

// sessionProxy is one session's proxy and what it refused since the model was
// last told.
type sessionProxy struct {
	gateway *gateway
	proxy   *egress.Proxy
	served  chan struct{}

	mu      sync.Mutex
	refused []string
}

// mostNotices bounds what one reply tells; the proxy's own log has all.
const mostNotices = 8

func (s *sessionProxy) note(d egress.Denial) {
	text := "network: " + d.String()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refused) < mostNotices && !slices.Contains(s.refused, text) {
		s.refused = append(s.refused, text)
	}
}

func (s *sessionProxy) notices() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.refused
	s.refused = nil
	return out
}

func (s *sessionProxy) close() {
	s.gateway.mu.Lock()
	delete(s.gateway.proxies, s.proxy)
	s.gateway.mu.Unlock()
	s.proxy.Close()
	<-s.served
}

// hangup gives SIGHUP its meaning: with an allow network and a configuration
// file its rules are read anew, otherwise the terminal has gone and so do we.
func (s *settings) hangup(ctx context.Context) (_ context.Context, stop func()) {
	if s.gateway == nil || s.configFile == "" {
		return signal.NotifyContext(ctx, syscall.SIGHUP)
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-hup:
				s.reload()
			case <-done:
				return
			}
		}
	})
	return ctx, func() {
		signal.Stop(hup)
		close(done)
		wg.Wait()
	}
}

// reload reads the rules of the configuration file anew. A file that is wrong
// closes the network until it is right: rules that somebody wanted to narrow
// must not stay open because of a slip.
func (s *settings) reload() {
	var fresh settings
	f := pflag.NewFlagSet("reload", pflag.ContinueOnError)
	fresh.register(f)
	err := errors.Join(overlayEnviron(f, os.Environ()), overlayFile(f, s.configFile))
	var p *egress.Policy
	if err == nil {
		// What was given as a flag stays: only the file can have changed.
		n := fresh.network
		if s.fixed["allow-host"] {
			n.allow = s.network.allow
		}
		if s.fixed["deny-host"] {
			n.deny = s.network.deny
		}
		if s.fixed["allow-preset"] {
			n.presets = s.network.presets
		}
		p, err = egress.NewPolicy(n.allow, n.deny, n.presets)
	}
	if err != nil {
		s.gateway.set(nil)
		s.session.Log.Error("the network is closed: the configuration could not be read anew", "error", err)
		return
	}
	s.gateway.set(p)
	s.session.Log.Info("network rules read anew", "rules", len(p.Rules()), "at", time.Now().UTC().Format(time.RFC3339))
}
