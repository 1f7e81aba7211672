package library_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mcp-sandbox/library"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// TestPreparedInitIsTaken: the init that is booted while the client says hello is the
// one of the first session, and the one booted after that of the second. One that does
// not fit is thrown away, so that a start costs two.
func TestPreparedInitIsTaken(t *testing.T) {
	trial := open(t, library.Options{})
	first, err := trial.Session(context.Background(), "trial")
	if err != nil {
		t.Fatal(err)
	}
	level := first.Sandbox().Report().Level
	trial.Close()
	if level != sandbox.LevelNamespaces && level != sandbox.LevelNamespacesNoProc {
		t.Skipf("the level %s boots none ahead", level)
	}
	for _, c := range []struct {
		name   string
		config func(t *testing.T) session.Config
		own    bool
	}{
		{"a workspace of the server's", func(*testing.T) session.Config { return session.Config{} }, true},
		{"a directory of the caller's", func(t *testing.T) session.Config { return session.Config{Root: t.TempDir()} }, false},
		{"read-only", func(t *testing.T) session.Config {
			return session.Config{Root: t.TempDir(), ReadOnlyRoot: true, ReadOnly: true}
		}, false},
		{"staged", func(t *testing.T) session.Config { return session.Config{Root: t.TempDir(), Staged: true} }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := context.Background()
			config := c.config(t)
			config.StateDir = t.TempDir()
			before := inits(t)
			box, err := library.New(ctx, library.Options{Session: config})
			if err != nil {
				t.Fatal(err)
			}
			defer box.Close()
			keys := []string{"first"}
			if c.own {
				keys = append(keys, "second")
			}
			for _, key := range keys {
				waiting := newInit(t, before)
				s, err := box.Session(ctx, key)
				if err != nil {
					t.Fatal(err)
				}
				res, err := s.Exec(ctx, session.ExecRequest{Cmd: "cut -d' ' -f22 /proc/1/stat", Yield: 20 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				if got := strings.TrimSpace(string(res.Output)); got != waiting {
					t.Errorf("session %q: its init began at tick %s, the one that waited at %s", key, got, waiting)
				}
				before[waiting] = true
			}
		})
	}
}

// inits are the times at which this process's inits began, in ticks since the
// machine's start (proc_pid_stat(5)).
func inits(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(lists) == 0 {
		t.Skip("this kernel does not list a process's children")
	}
	for _, list := range lists {
		pids, _ := os.ReadFile(list)
		for _, pid := range strings.Fields(string(pids)) {
			stat, _ := os.ReadFile("/proc/" + pid + "/stat")
			if _, rest, ok := strings.Cut(string(stat), "(init) "); ok {
				found[strings.Fields(rest)[19]] = true
			}
		}
	}
	return found
}

// newInit waits for one that is not among known.
func newInit(t *testing.T, known map[string]bool) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for began := range inits(t) {
			if !known[began] {
				return began
			}
		}
	}
	t.Fatal("no init was booted ahead")
	return ""
}
