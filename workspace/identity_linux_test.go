package workspace

import (
	"os"
	"sync"
	"syscall"
	"testing"

	"mcp-sandbox/sandbox"
)

// A root server that acts as the session's user can do what that user can, and
// is root again afterwards.
func TestActAsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can act as others")
	}
	f, dir, _ := newFS(t, Options{OwnerUID: 1234, OwnerGID: 5678, ActAsOwner: true})
	put(t, dir, map[string]string{"secret": "canary", "group": "canary", "open": "canary", "d/x": "canary", "a.tar": string(tarOf(t, reg("e/f", "x")))})
	os.Chmod(dir+"/secret", 0o600)
	os.Chmod(dir+"/group", 0o640) // of group 0, which the server is in
	os.Chmod(dir+"/d", 0o700)
	os.Chown(dir, 1234, 5678)
	for name, op := range looks(f) {
		for _, p := range []string{"secret", "group", "d"} {
			if name == "resolve" || name == "workdir" || name == "list" && p != "d" || name == "find" && p != "d" || p == "d" && (name == "read" || name == "open" || name == "extract from") {
				continue
			}
			if err := op(p); sandbox.CodeOf(err) != codePermission {
				t.Errorf("%s %s: %v", name, p, err)
			}
		}
	}
	s, err := f.Search(ctx, SearchRequest{Pattern: "canary"})
	wantCode(t, err, "")
	if s.Matches != 1 || s.Truncated || s.Unread.Count != 3 {
		t.Errorf("search found %+v", s)
	}
	_, err = f.WriteFile(ctx, WriteRequest{Path: "new/f", Content: []byte("x")})
	wantCode(t, err, "")
	_, err = f.ApplyPatch(ctx, envelope("*** Add File: p/q\n+x\n"))
	wantCode(t, err, "")
	_, err = f.Extract(ctx, ExtractRequest{Path: "a.tar", Destination: "out"})
	wantCode(t, err, "")
	_, err = f.EditFile(ctx, EditRequest{Path: "open", OldText: "canary", NewText: "x"})
	wantCode(t, err, codePermission)
	for _, p := range []string{"new", "new/f", "p/q", "out/e", "out/e/f"} {
		st, err := os.Lstat(dir + "/" + p)
		if err != nil {
			t.Fatal(err)
		}
		if sys := st.Sys().(*syscall.Stat_t); sys.Uid != 1234 || sys.Gid != 5678 {
			t.Errorf("%s belongs to %d:%d", p, sys.Uid, sys.Gid)
		}
	}
	// Every thread is root again.
	var wg sync.WaitGroup
	for range 50 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			f.ReadFile(ctx, ReadRequest{Path: "open"})
			if _, err := os.ReadFile(dir + "/secret"); err != nil {
				t.Errorf("a thread kept the other identity: %v", err)
			}
		}()
	}
	wg.Wait()
	for _, o := range []Options{{ActAsOwner: true}, {ActAsOwner: true, OwnerUID: 5, OwnerGID: -1}} {
		g, err := Open(dir, o)
		if err == nil {
			g.Close()
		}
		wantCode(t, err, codeInvalid)
	}
}
