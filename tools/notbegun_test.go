package tools

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// slowLauncher starts nothing, and says so once the call is over.
type slowLauncher struct{ waits, over chan struct{} }

func (l slowLauncher) Start(ctx context.Context, _ sandbox.Policy, _ session.Callbacks) (sandbox.Sandbox, error) {
	close(l.waits)
	select {
	case <-ctx.Done():
	case <-l.over:
	}
	return nil, sandbox.Errorf("cancelled", nil, "the call was cancelled before the sandbox started")
}

// TestNotBegun: a call that a stop meets while its session is made or looked for was not
// begun, so a proxy may send it to another server; a cancelled one may not.
func TestNotBegun(t *testing.T) {
	for name, cause := range map[string]error{"stop": sandbox.ErrStopping, "cancel": context.Canceled} {
		t.Run(name, func(t *testing.T) {
			l := slowLauncher{make(chan struct{}), make(chan struct{})}
			m, err := session.NewManager(session.Config{StateDir: filepath.Join(t.TempDir(), "state"), TempDir: t.TempDir(), NameOf: session.KeptName}, l)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			defer close(l.over)
			s, err := New(m, Options{Remote: true})
			if err != nil {
				t.Fatal(err)
			}
			refused := ""
			ctx, cancel := context.WithCancelCause(WithCaller(t.Context(), Caller{
				Principal: "ann", Key: session.Key("ann", "1"), Refuse: func(text string) { refused = text },
			}))
			go func() {
				<-l.waits
				cancel(cause)
			}()
			for _, one := range s.tools {
				if one.def.Name != "ls" {
					continue
				}
				var req mcp.CallToolRequest
				req.Params.Name, req.Params.Arguments = "ls", map[string]any{"path": "."}
				began := time.Now()
				_, err = s.measured(ctx, one, req)
				if codeOf(err) != "cancelled" || time.Since(began) > 10*time.Second {
					t.Errorf("%v", err)
				}
			}
			if stop := cause == sandbox.ErrStopping; errors.Is(err, errNotBegun) != stop || (refused != "") != stop {
				t.Errorf("%v, refused with %q", err, refused)
			}
		})
	}
}
