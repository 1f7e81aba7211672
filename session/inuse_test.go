package session

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"mcp-sandbox/workspace"
)

// TestCallOutlivesItsSession: a call that is in flight when its session ends goes on in its
// own workspace, whatever has been opened meanwhile, and the descriptors end with it.
func TestCallOutlivesItsSession(t *testing.T) {
	for name, work := range map[string]func(context.Context, *Session) error{
		"write": func(ctx context.Context, s *Session) error {
			_, err := s.Files().WriteFile(ctx, workspace.WriteRequest{Path: "x", Content: []byte("x")})
			return err
		},
		"mkdir": func(ctx context.Context, s *Session) error {
			_, err := s.Files().Mkdir(ctx, "x", false)
			return err
		},
		"snapshot": func(ctx context.Context, s *Session) error {
			_, err := s.Snapshots()
			wantCode(t, err, "session_not_found")
			return nil
		},
		"change": func(ctx context.Context, s *Session) error {
			if dirs := s.topDirs(); len(dirs) != 1 || dirs[0] != "mine" {
				t.Errorf("the directories are %q", dirs)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			root, other := t.TempDir(), t.TempDir()
			if err := os.Mkdir(filepath.Join(root, "mine"), 0o755); err != nil {
				t.Fatal(err)
			}
			before := openFDs(t)
			m := w.manager(Config{Root: root})
			idle := openFDs(t)
			s, done, err := m.Use(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Delete("a"); err != nil {
				t.Fatal(err)
			}
			var taken []*os.File
			for range 40 {
				f, err := os.Open(other)
				if err != nil {
					t.Fatal(err)
				}
				taken = append(taken, f)
			}
			if err := work(t.Context(), s); err != nil {
				t.Errorf("%v", err)
			}
			if names, err := os.ReadDir(other); err != nil || len(names) > 0 {
				t.Errorf("another directory has %v, %v", names, err)
			}
			for _, f := range taken {
				f.Close()
			}
			if openFDs(t) <= idle {
				t.Error("nothing was held for the call")
			}
			done()
			if _, ok := s.uses.begin(); ok {
				t.Error("a call begins in an ended session")
			}
			if now := openFDs(t); now > idle {
				t.Errorf("%d descriptors, %d before the session", now, idle)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			if now := openFDs(t); now > before {
				t.Errorf("%d descriptors, %d before", now, before)
			}
		})
	}
}
