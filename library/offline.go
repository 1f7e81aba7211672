package library

import (
	"context"
	"sync"
	"time"

	"mcp-sandbox/confine"
	"mcp-sandbox/egress"
	"mcp-sandbox/sandbox"
)

// offline is a sandbox without a network but its own loopback, in which the server
// answers look-ups: no name exists, and the command that asked for one is told so.
type offline struct {
	*confine.Sandbox
	names  *egress.Proxy
	served sync.WaitGroup

	mu   sync.Mutex
	asks windowed // look-ups whose owner was looked for
}

// openOffline starts to answer before the sandbox's first command.
func openOffline(sb *confine.Sandbox, p sandbox.Policy) (*offline, error) {
	c, err := sb.ListenNames()
	if err != nil {
		return nil, err
	}
	s := &offline{Sandbox: sb}
	s.names = egress.NewProxy(egress.Options{Log: p.Log, OnDenial: s.note})
	s.served.Go(func() {
		if err := s.names.ServeNames(c); err != nil && p.Log != nil {
			p.Log.Debug("the socket for names ended", "error", err)
		}
	})
	return s, nil
}

func (s *offline) note(d egress.Denial) {
	s.mu.Lock()
	ask := s.asks.take(d.Time, time.Second, mostOwnersAsked)
	s.mu.Unlock()
	if ask {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.DenyConn(ctx, d.From, sandbox.Denial{Kind: sandbox.DenialName, Subject: d.Host})
	}
}

// AnswersNames reports that each look-up of a name is among what Denied tells.
func (s *offline) AnswersNames() bool { return true }

func (s *offline) Close() error {
	s.names.Close()
	s.served.Wait()
	return s.Sandbox.Close()
}
