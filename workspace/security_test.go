package workspace

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// looks are all operations that only read, by path.
func looks(f *FS) map[string]func(p string) error {
	return map[string]func(p string) error{
		"read":    func(p string) error { _, err := f.ReadFile(ctx, ReadRequest{Path: p}); return err },
		"open":    func(p string) error { file, err := f.OpenFile(p); file.Close(); return err },
		"list":    func(p string) error { _, err := f.List(ctx, ListRequest{Path: p, Depth: 3, All: true}); return err },
		"find":    func(p string) error { _, err := f.Find(ctx, FindRequest{Pattern: "**", Path: p}); return err },
		"search":  func(p string) error { _, err := f.Search(ctx, SearchRequest{Pattern: "canary", Path: p}); return err },
		"resolve": func(p string) error { _, err := f.Resolve(p); return err },
		"workdir": func(p string) error { _, err := f.ResolveDir(p); return err },
		"extract from": func(p string) error {
			_, err := f.Extract(ctx, ExtractRequest{Path: p, Destination: "unpacked"})
			return err
		},
	}
}

// changes are all operations that change something, by path. The workspace
// needs files "f" and "a.tar".
func changes(f *FS) map[string]func(p string) error {
	one := func(_ any, err error) error { return err }
	return map[string]func(p string) error{
		"write": func(p string) error { return one(f.WriteFile(ctx, WriteRequest{Path: p, Content: []byte("pwn")})) },
		"append": func(p string) error {
			return one(f.WriteFile(ctx, WriteRequest{Path: p, Content: []byte("pwn"), Mode: WriteAppend}))
		},
		"edit": func(p string) error {
			return one(f.EditFile(ctx, EditRequest{Path: p, OldText: "canary", NewText: "pwn"}))
		},
		"mkdir": func(p string) error { return one(f.Mkdir(ctx, p+"/new/dir", true)) },
		"rm":    func(p string) error { return one(f.Remove(ctx, p, true)) },
		"mv":    func(p string) error { return one(f.Move(ctx, p, "moved")) },
		"mv to": func(p string) error { return one(f.Move(ctx, "f", p)) },
		"patch update": func(p string) error {
			return one(f.ApplyPatch(ctx, envelope("*** Update File: "+p+"\n@@\n-canary\n+pwn\n")))
		},
		"patch add":    func(p string) error { return one(f.ApplyPatch(ctx, envelope("*** Add File: "+p+"\n+pwn\n"))) },
		"patch delete": func(p string) error { return one(f.ApplyPatch(ctx, envelope("*** Delete File: "+p+"\n"))) },
		"patch move": func(p string) error {
			return one(f.ApplyPatch(ctx, envelope("*** Update File: f\n*** Move to: "+p+"\n")))
		},
		"extract": func(p string) error { return one(f.Extract(ctx, ExtractRequest{Path: "a.tar", Destination: p})) },
	}
}

// Paths and links that lead out are refused by every operation (AC-01, AC-02,
// AC-03, AC-05, AC-07, AC-12). newFS checks that nothing outside changed.
func TestNothingLeadsOut(t *testing.T) {
	f, dir, outside := newFS(t, Options{})
	base := filepath.Dir(dir)
	evil := dir + "_evil"
	put(t, base, map[string]string{"ws_evil/canary": "canary", "ws_evil/x": "x"})
	links := map[string]string{
		"f": "f", "a.tar": string(tarOf(t, reg("x", "x"))), "sub/": "",
		"abs": "-> " + outside, "rel": "-> ../outside", "absfile": "-> " + outside + "/canary", "relfile": "-> ../outside/canary",
		"sub/up": "-> ../../outside", "chain": "-> c1", "c1": "-> c2", "c2": "-> abs", "mixed": "-> sub/../../outside",
		"parent": "-> ..", "slash": "-> /", "proc": "-> /proc/self/root" + outside, "cwd": "-> /proc/self/cwd", "fd": "-> /dev/fd",
		"evil": "-> " + evil, "dangling": "-> " + outside + "/nothing", "absdots": "-> " + dir + "/../outside",
	}
	put(t, dir, links)
	paths := []string{
		"../outside", "../outside/canary", "../outside/new", outside, outside + "/canary", outside + "/new/deep",
		"sub/../../outside/canary", dir + "/../outside/canary", evil + "/x", "../ws_evil/x", "/etc/passwd", "/", "..", "/proc/self/root" + dir + "/f",
		"abs/canary", "abs/new", "abs/new/deep/file", "rel/canary", "sub/up/canary", "sub/up/new/x", "chain/canary", "chain/new", "mixed/canary",
		"parent/outside/canary", "slash/etc/passwd", "slash" + outside + "/canary", "proc/canary", "cwd/x", "fd/0", "evil/x", "evil/canary", "absdots/canary",
		"abs/.", "abs/../abs/canary", "dangling/x", "parent/ws_evil/x",
	}
	for _, p := range paths {
		for name, op := range looks(f) {
			t.Run(name+" "+p, func(t *testing.T) { wantCode(t, op(p), codeOutside) })
		}
		for name, op := range changes(f) {
			if p == "abs/." && (name == "rm" || name == "mv" || name == "patch delete" || name == "patch move" || name == "patch add") {
				continue // "." is folded, so this names the link itself
			}
			t.Run(name+" "+p, func(t *testing.T) { wantCode(t, op(p), codeOutside) })
		}
	}
	// The links themselves: followed by most, so refused; never followed by
	// rm and mv, so they can be removed.
	for _, p := range []string{"chain", "abs", "rel", "absfile", "relfile", "dangling", "slash", "proc", "parent", "fd"} {
		for name, op := range looks(f) {
			t.Run(name+" "+p, func(t *testing.T) { wantCode(t, op(p), codeOutside) })
		}
		for _, name := range []string{"write", "append", "edit", "mkdir", "mv to", "patch update", "extract"} {
			t.Run(name+" "+p, func(t *testing.T) { wantCode(t, changes(f)[name](p), codeOutside) })
		}
		_, err := f.Move(ctx, p, p+".moved")
		wantCode(t, err, "")
		_, err = f.Remove(ctx, p+".moved", true)
		wantCode(t, err, "")
		if _, err := os.Lstat(filepath.Join(dir, p)); err == nil {
			t.Errorf("link %s is still there", p)
		}
	}
	if got := get(t, evil+"/x"); got != "x" {
		t.Errorf("sibling was changed: %q", got)
	}
	if e, _ := os.ReadDir(evil); len(e) != 2 {
		t.Errorf("sibling holds %v", e)
	}
	os.RemoveAll(evil)
}

// AC-08, AC-17, AC-18: odd names are names, nothing else.
func TestOddNames(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	for _, name := range []string{
		"--pre=sh", "-rf", "--output=x", "$(touch pwn)", "`touch pwn`", "a;touch pwn", "a\nb", "%2e%2e", "%2e%2e%2fx", "~", "~root", "x.", "x ", " x", "..x", "...",
		"a\\b", "C:", "\u202etxt", "\xff\xfe", strings.Repeat("n", 255), "'\"", "*", "[a", "{a,b}", "\r", "\x1b[31m", "con", "NUL",
	} {
		t.Run(fmt.Sprintf("%.20q", name), func(t *testing.T) {
			_, err := f.WriteFile(ctx, WriteRequest{Path: "d/" + name, Content: []byte("x canary")})
			wantCode(t, err, "")
			r, err := f.ReadFile(ctx, ReadRequest{Path: "d/" + name})
			wantCode(t, err, "")
			if r.Text != "x canary" || r.Path != "d/"+name {
				t.Errorf("read %q at %q", r.Text, r.Path)
			}
			if _, err := os.Lstat(filepath.Join(dir, "d", name)); err != nil {
				t.Error(err)
			}
			s, err := f.Search(ctx, SearchRequest{Pattern: "canary", Path: "d"})
			wantCode(t, err, "")
			if s.Matches != 1 {
				t.Errorf("%d matches", s.Matches)
			}
			_, err = f.Move(ctx, "d/"+name, "d/moved")
			wantCode(t, err, "")
			_, err = f.Remove(ctx, "d", true)
			wantCode(t, err, "")
		})
	}
	all := looks(f)
	for n, op := range changes(f) {
		all[n] = op
	}
	put(t, dir, map[string]string{"f": "x", "a.tar": string(tarOf(t, reg("x", "x")))})
	for name, op := range all {
		for _, p := range []string{"a\x00b", "\x00", strings.Repeat("x/", 2049), strings.Repeat("n", 256)} {
			if err := op(p); sandbox.CodeOf(err) != codeInvalid {
				t.Errorf("%s of %.10q: %v", name, p, err)
			}
		}
	}
	// Case matters where the file system says so.
	if _, err := os.Stat(strings.ToUpper(dir)); err != nil {
		_, err := f.ReadFile(ctx, ReadRequest{Path: filepath.Dir(dir) + "/WS/f"})
		wantCode(t, err, codeOutside)
	}
}

// AC-09: nothing blocks on special files.
func TestSpecialFiles(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"f": "canary", "a.tar": string(tarOf(t, reg("x", "x"))), "zero": "-> /dev/zero"})
	special := []string{"fifo"}
	if err := syscall.Mkfifo(dir+"/fifo", 0o666); err != nil {
		t.Fatal(err)
	}
	if l, err := net.Listen("unix", dir+"/sock"); err == nil {
		defer l.Close()
		special = append(special, "sock")
	}
	if os.Geteuid() == 0 && unix.Mknod(dir+"/dev", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) == nil {
		special = append(special, "dev")
	}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for _, p := range special {
			for _, name := range []string{"read", "open", "search", "extract from"} {
				if err := looks(f)[name](p); sandbox.CodeOf(err) != codeUnsupported {
					t.Errorf("%s %s: %v", name, p, err)
				}
			}
			for _, name := range []string{"write", "append", "edit", "patch update"} {
				if err := changes(f)[name](p); sandbox.CodeOf(err) != codeUnsupported {
					t.Errorf("%s %s: %v", name, p, err)
				}
			}
			r, err := f.List(ctx, ListRequest{Path: p})
			if err != nil || len(r.Entries) != 1 {
				t.Errorf("list %s: %v %v", p, r, err)
			}
		}
		if s, err := f.Search(ctx, SearchRequest{Pattern: "canary", All: true}); err != nil || s.Matches != 1 {
			t.Errorf("search: %+v %v", s, err)
		}
		if err := looks(f)["read"]("zero"); sandbox.CodeOf(err) != codeOutside {
			t.Errorf("zero: %v", err)
		}
		for _, p := range special {
			if _, err := f.Remove(ctx, p, false); err != nil {
				t.Errorf("rm %s: %v", p, err)
			}
		}
	}()
	select {
	case <-finished:
	case <-time.After(60 * time.Second):
		t.Fatal("a call hangs on a special file")
	}
}

// AC-21: protected paths cannot be made, changed, moved, removed or replaced,
// by any name.
func TestProtected(t *testing.T) {
	protect := []string{".git/hooks", ".git/config", ".mcp.json", "**/.envrc", "**/.vscode/settings.json"}
	setup := func(t *testing.T) (*FS, string) {
		t.Helper()
		base, _ := filepath.EvalSymlinks(t.TempDir())
		put(t, base, map[string]string{
			".git/hooks/pre-commit": "canary", ".git/config": "canary", ".git/index": "i", ".mcp.json": "canary", "a/b/.envrc": "canary",
			"f": "x", "a.tar": string(tarOf(t, reg("pre-commit", "pwn"), reg("hooks/x", "pwn"), reg(".envrc", "pwn"))), "alias": "-> .git", "hooksalias": "-> .git/hooks", "ok": "ok",
		})
		f, err := Open(base, Options{Protect: protect})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f, base
	}
	f, dir := setup(t)
	before := snapshotTree(t, dir)
	for _, p := range []string{
		".git/hooks", ".git/hooks/pre-commit", ".git/hooks/new", ".git/hooks/new/deep", ".git/config", ".mcp.json", "a/b/.envrc", ".envrc", "new/dir/.envrc", "a/.envrc/x",
		"alias/hooks/pre-commit", "alias/config", "hooksalias/new", "./a/../.git/config", dir + "/.git/config", ".GIT/hooks/x", ".git/Hooks/x", ".Git/CONFIG", ".MCP.JSON", "A/.Envrc",
		".g\u200cit/config", "sub/.vscode/settings.json",
	} {
		for name, op := range changes(f) {
			// What is not there, or below a file, may be refused for that.
			switch err := op(p); sandbox.CodeOf(err) {
			case codeProtected:
			case codeNotFound:
				if name == "write" || name == "append" || name == "patch add" || name == "extract" {
					t.Errorf("%s %q: %v", name, p, err)
				}
			case codeNotDirectory:
				if name != "mkdir" {
					t.Errorf("%s %q: %v", name, p, err)
				}
			default:
				t.Errorf("%s %q: %v", name, p, err)
			}
		}
	}
	for _, p := range []string{".git", "alias/../.git", "a", "a/b"} { // parents
		for _, name := range []string{"rm", "mv"} {
			if err := changes(f)[name](p); sandbox.CodeOf(err) != codeProtected {
				t.Errorf("%s %s: %v", name, p, err)
			}
		}
	}
	if err := changes(f)["extract"](".git"); sandbox.CodeOf(err) != codeProtected {
		t.Errorf("extract into .git: %v", err)
	}
	after := snapshotTree(t, dir)
	for p, s := range before {
		if after[p] != s {
			t.Errorf("%s changed to %q", p, after[p])
		}
	}
	if len(after) != len(before) {
		t.Errorf("tree grew: %v", after)
	}
	// What is not protected works, and so does reading.
	_, err := f.WriteFile(ctx, WriteRequest{Path: ".git/index", Content: []byte("2")})
	wantCode(t, err, "")
	_, err = f.WriteFile(ctx, WriteRequest{Path: "sub/.mcp.json", Content: []byte("2")})
	wantCode(t, err, "") // protected at the root only
	_, err = f.ReadFile(ctx, ReadRequest{Path: ".git/config"})
	wantCode(t, err, "")
	_, err = f.Remove(ctx, "alias", false)
	wantCode(t, err, "")

	// A command may rename the parent: the hooks stay protected by inode.
	if err := os.Rename(dir+"/.git", dir+"/g2"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"g2/hooks/pre-commit", "g2/hooks/new", "g2/config", "g2/hooks/d/x"} {
		_, err = f.WriteFile(ctx, WriteRequest{Path: p, Content: []byte("pwn")})
		wantCode(t, err, codeProtected)
	}
	_, err = f.Remove(ctx, "g2", true)
	wantCode(t, err, codeProtected)

	// A missing parent cannot be replaced by something that leads elsewhere.
	put(t, dir, map[string]string{"evil/hooks/x": "pwn", "file": "gitdir: evil"})
	for _, src := range []string{"evil", "file"} {
		_, err = f.Move(ctx, src, ".git")
		wantCode(t, err, codeProtected)
	}
	_, err = f.WriteFile(ctx, WriteRequest{Path: ".git", Content: []byte("gitdir: evil")})
	wantCode(t, err, codeProtected)
	_, err = f.Mkdir(ctx, ".git", false)
	wantCode(t, err, "")
	_, err = f.Mkdir(ctx, ".git/hooks", true)
	wantCode(t, err, codeProtected)
}

// AC-04: a process swaps directories and files for links to the outside while
// the operations run. newFS checks the outside; what is read must be inside.
func TestSwapRace(t *testing.T) {
	total := 50_000
	if testing.Short() || raceEnabled {
		total = 5_000
	}
	f, dir, outside := newFS(t, Options{Protect: []string{"guard/hooks"}})
	put(t, dir, map[string]string{
		"d/canary": "inside", "d/x": "inside", "evil": "-> " + outside, "leaf": "inside", "evilleaf": "-> " + outside + "/canary",
		"deep/a/b/canary": "inside", "evildeep": "-> ../../outside", "a.tar": string(tarOf(t, reg("canary", "inside"), reg("n/new", "inside"))),
		"guard/hooks/h": "safe", "plain/": "", "f": "inside",
	})
	swapStop := make(chan struct{})
	var swaps sync.WaitGroup
	var swapped atomic.Int64
	for _, pair := range [][2]string{{"d", "evil"}, {"leaf", "evilleaf"}, {"deep/a", "evildeep"}, {"guard", "plain"}} {
		swaps.Add(1)
		go func() {
			defer swaps.Done()
			a, b := filepath.Join(dir, pair[0]), filepath.Join(dir, pair[1])
			for {
				select {
				case <-swapStop:
					return
				default:
				}
				if renameSwap(unix.AT_FDCWD, a, unix.AT_FDCWD, b) == nil {
					swapped.Add(1)
				}
			}
		}()
	}
	var next, escapes, fine atomic.Int64
	check := func(i int64, what string, texts ...string) {
		for _, s := range texts {
			if strings.Contains(s, "canary") && !strings.Contains(s, "/canary") {
				escapes.Add(1)
				t.Errorf("operation %d, %s: outside content %q", i, what, s)
			}
		}
	}
	var workers sync.WaitGroup
	for range 4 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for {
				i := next.Add(1)
				if i > int64(total) || escapes.Load() > 0 {
					return
				}
				var err error
				switch i % 25 {
				case 0:
					_, err = f.WriteFile(ctx, WriteRequest{Path: "d/w", Content: []byte("inside")})
				case 1:
					_, err = f.WriteFile(ctx, WriteRequest{Path: "leaf", Content: []byte("inside")})
				case 2:
					_, err = f.EditFile(ctx, EditRequest{Path: "d/canary", OldText: "inside", NewText: "inside!"})
				case 3:
					_, err = f.EditFile(ctx, EditRequest{Path: "d/canary", OldText: "inside!", NewText: "inside"})
				case 4:
					_, err = f.Mkdir(ctx, "deep/a/new/dir", true)
				case 5:
					_, err = f.Remove(ctx, "deep/a/new", true)
				case 6:
					_, err = f.Move(ctx, "f", "d/f")
				case 7:
					_, err = f.Move(ctx, "d/f", "f")
				case 8:
					_, err = f.WriteFile(ctx, WriteRequest{Path: "guard/hooks/h", Content: []byte("pwn")})
				case 9:
					if i%250 == 9 {
						_, err = f.Extract(ctx, ExtractRequest{Path: "a.tar", Destination: "d"})
					} else {
						_, err = f.Remove(ctx, "deep/a/b/none", true)
					}
				case 10:
					var r SearchResult
					r, err = f.Search(ctx, SearchRequest{Pattern: "canary|inside", Path: "d"})
					for _, fm := range r.Files {
						for _, l := range fm.Lines {
							check(i, "search", l.Text)
						}
					}
				case 11:
					_, err = f.ApplyPatch(ctx, envelope("*** Add File: d/p/q\n+inside\n"))
				case 12:
					_, err = f.ApplyPatch(ctx, envelope("*** Delete File: d/p/q\n"))
				case 13:
					var r ListResult
					r, err = f.List(ctx, ListRequest{Path: "deep", Depth: 4, All: true})
					for _, e := range r.Entries {
						if e.Size == 6 && e.Name == "canary" && e.Mode.Perm() == 0o640 {
							check(i, "list", "canary")
						}
					}
				case 14:
					_, err = f.Find(ctx, FindRequest{Pattern: "**/canary"})
				case 15:
					_, err = f.WriteFile(ctx, WriteRequest{Path: "deep/a/b/canary", Content: []byte("inside"), Mode: WriteAppend})
				default:
					var r ReadResult
					r, err = f.ReadFile(ctx, ReadRequest{Path: []string{"d/canary", "leaf", "deep/a/b/canary"}[i%3]})
					check(i, "read", r.Text)
				}
				if err == nil {
					fine.Add(1)
				} else if sandbox.CodeOf(err) == "" || sandbox.CodeOf(err) == codeInternal {
					t.Errorf("operation %d: %v (%v)", i, err, err.(*sandbox.Error).Unwrap())
				}
			}
		}()
	}
	workers.Wait()
	close(swapStop)
	swaps.Wait()
	t.Logf("%d operations, %d of them succeeded, against %d swaps", total, fine.Load(), swapped.Load())
	if fine.Load() == 0 || swapped.Load() == 0 {
		t.Error("the race did not happen")
	}
	for _, p := range []string{"guard/hooks/h", "plain/hooks/h"} {
		if b, err := os.ReadFile(filepath.Join(dir, p)); err == nil && string(b) != "safe" {
			t.Errorf("%s was written: %q", p, b)
		}
	}
}
