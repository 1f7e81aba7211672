package confine

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
)

// TestGrantsAtStart: a read grant is read and no more, a write grant is written,
// both also through a link that leads to them, and what lies beside them is not
// there.
func TestGrantsAtStart(t *testing.T) {
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		base := filepath.Dir(p.Workspace)
		for _, d := range []string{"read", "write", "beside"} {
			dir := filepath.Join(base, d)
			if err := os.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			// The session's user is another than the test's under root.
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "f"), []byte(d+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		link := filepath.Join(base, "link")
		if err := os.Symlink("write", link); err != nil {
			t.Fatal(err)
		}
		p.Read = []string{filepath.Join(base, "read")}
		p.Write = []string{link}
		s := start(t, p)
		out, st := sh(t, s, p.Workspace, `cat `+base+`/read/f `+link+`/f
echo new > `+link+`/g && echo written
(echo x > `+base+`/read/g) 2>/dev/null || echo refused
(echo x > `+base+`/read/f) 2>/dev/null || echo refused
cat `+base+`/beside/f 2>/dev/null || echo hidden`)
		if want := "read\nwrite\nwritten\nrefused\nrefused\nhidden\n"; out != want || st.Code != 0 {
			t.Errorf("%q, want %q", out, want)
		}
		if b, err := os.ReadFile(filepath.Join(base, "write", "g")); err != nil || string(b) != "new\n" {
			t.Errorf("on the host: %q %v", b, err)
		}
		if b, _ := os.ReadFile(filepath.Join(base, "read", "f")); string(b) != "read\n" {
			t.Errorf("on the host: %q", b)
		}
	})
}

// TestDialCancelled: a connection that is not answered is given up with its
// call.
func TestDialCancelled(t *testing.T) {
	p := testPolicy(t)
	s := start(t, p)
	l, err := s.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	// Nobody accepts, so the backlog fills and the next connection waits.
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for range 10000 {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		c, err := s.Dial(ctx, port)
		cancel()
		if err != nil {
			wantRefused(t, "dial a full backlog", err, "cancelled")
			if out, _ := sh(t, s, p.Workspace, "echo alive"); strings.TrimSpace(out) != "alive" {
				t.Errorf("the session after it: %q", out)
			}
			return
		}
		held = append(held, c)
	}
	t.Error("ten thousand connections were taken that nobody accepted")
}
