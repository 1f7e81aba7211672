package workspace

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

func TestWriteFile(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"d/": "", "in": "-> real", "real": "r", "dangle": "-> d/made"})
	yes, no := true, false
	for _, tc := range []struct {
		name string
		req  WriteRequest
		want string
		code string
	}{
		{"create", WriteRequest{Path: "new", Content: []byte("1")}, "1", ""},
		{"overwrite longer", WriteRequest{Path: "new", Content: []byte("12345")}, "12345", ""},
		{"overwrite shorter", WriteRequest{Path: "new", Content: []byte("x"), Mode: WriteOverwrite}, "x", ""},
		{"append", WriteRequest{Path: "new", Content: []byte("y"), Mode: WriteAppend}, "xy", ""},
		{"append creates", WriteRequest{Path: "app", Content: []byte("y"), Mode: WriteAppend}, "y", ""},
		{"create exists", WriteRequest{Path: "new", Content: []byte("z"), Mode: WriteCreate}, "xy", codeExists},
		{"create over link", WriteRequest{Path: "dangle", Content: []byte("z"), Mode: WriteCreate}, "", codeExists},
		{"parents", WriteRequest{Path: "p/q/r", Content: []byte("deep")}, "deep", ""},
		{"through link", WriteRequest{Path: "in", Content: []byte("R")}, "R", ""},
		{"through dangling link inside", WriteRequest{Path: "dangle", Content: []byte("m")}, "m", ""},
		{"empty", WriteRequest{Path: "e"}, "", ""},
		{"binary", WriteRequest{Path: "b", Content: []byte{0, 255, 10}}, "\x00\xff\n", ""},
		{"executable", WriteRequest{Path: "x", Content: []byte("#!"), Executable: &yes}, "#!", ""},
		{"not executable", WriteRequest{Path: "x", Content: []byte("#"), Executable: &no}, "#", ""},
		{"directory", WriteRequest{Path: "d", Content: []byte("x")}, "", codeIsDirectory},
		{"slash", WriteRequest{Path: "n/", Content: []byte("x")}, "", codeIsDirectory},
		{"root", WriteRequest{Path: ".", Content: []byte("x")}, "", codeIsDirectory},
		{"below file", WriteRequest{Path: "real/x", Content: []byte("x")}, "", codeNotDirectory},
		{"bad mode", WriteRequest{Path: "new", Mode: "truncate"}, "xy", codeInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, err := f.WriteFile(ctx, tc.req)
			wantCode(t, err, tc.code)
			if err == nil {
				if got := get(t, filepath.Join(dir, tc.req.Path)); got != tc.want {
					t.Errorf("file holds %q, want %q", got, tc.want)
				}
				if res.Bytes != len(tc.req.Content) || res.Size != int64(len(tc.want)) || res.InPlace {
					t.Errorf("result is %+v", res)
				}
			}
			if tc.req.Executable != nil {
				st, _ := os.Stat(dir + "/x")
				if x := st.Mode()&0o111 != 0; x != *tc.req.Executable {
					t.Errorf("mode is %v", st.Mode())
				}
			}
		})
	}
	if l, err := os.Readlink(dir + "/in"); l != "real" {
		t.Errorf("the link became %q %v", l, err)
	}
}

// Mode and owner stay, set-ID bits go, links of the old file are told (AC-06,
// AC-11).
func TestWriteKeeps(t *testing.T) {
	f, dir, outside := newFS(t, Options{})
	put(t, dir, map[string]string{"m": "old", "s": "old"})
	os.Chmod(dir+"/m", 0o640)
	os.Chmod(dir+"/s", 0o755|os.ModeSetuid)
	if os.Geteuid() == 0 {
		os.Chown(dir+"/m", 1234, 5678)
	}
	unix.Setxattr(dir+"/m", "user.note", []byte("kept"), 0)
	noted := make([]byte, 10)
	n0, _ := unix.Getxattr(dir+"/m", "user.note", noted)
	for _, p := range []string{"m", "s"} {
		_, err := f.WriteFile(ctx, WriteRequest{Path: p, Content: []byte("new")})
		wantCode(t, err, "")
	}
	st, _ := os.Stat(dir + "/m")
	sys := st.Sys().(*syscall.Stat_t)
	if st.Mode().Perm() != 0o640 || os.Geteuid() == 0 && (sys.Uid != 1234 || sys.Gid != 5678) {
		t.Errorf("mode %v owner %d:%d", st.Mode(), sys.Uid, sys.Gid)
	}
	if n1, _ := unix.Getxattr(dir+"/m", "user.note", noted); n1 != n0 {
		t.Errorf("extended attribute: %d bytes, was %d", n1, n0)
	}
	if st, _ := os.Stat(dir + "/s"); st.Mode()&os.ModeSetuid != 0 || st.Mode().Perm() != 0o755 {
		t.Errorf("mode %v", st.Mode())
	}
	// AC-06: the outside file under an inside name. newFS checks it is untouched.
	canary := outside + "/canary"
	for i, change := range []func(p string) (int, error){
		func(p string) (int, error) {
			r, err := f.WriteFile(ctx, WriteRequest{Path: p, Content: []byte("x")})
			return r.HardLinks, err
		},
		func(p string) (int, error) {
			r, err := f.WriteFile(ctx, WriteRequest{Path: p, Content: []byte("x"), Mode: WriteAppend})
			return r.HardLinks, err
		},
		func(p string) (int, error) {
			r, err := f.EditFile(ctx, EditRequest{Path: p, OldText: "canary", NewText: "x"})
			return r.HardLinks, err
		},
		func(p string) (int, error) {
			_, err := f.ApplyPatch(ctx, envelope("*** Update File: "+p+"\n@@\n-canary\n+x\n"))
			return 2, err
		},
	} {
		p := fmt.Sprintf("hard%d", i)
		if err := os.Link(canary, filepath.Join(dir, p)); err != nil {
			t.Skip("hard links are not possible: ", err)
		}
		n, err := change(p)
		wantCode(t, err, "")
		if n != 2 {
			t.Errorf("%s: %d links told", p, n)
		}
		if get(t, filepath.Join(dir, p)) == "canary" {
			t.Errorf("%s was not written", p)
		}
	}
}

// New files of a root server belong to the session's user.
func TestWriteOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	f, dir, _ := newFS(t, Options{OwnerUID: 1234, OwnerGID: 5678})
	_, err := f.WriteFile(ctx, WriteRequest{Path: "a/b", Content: []byte("x")})
	wantCode(t, err, "")
	_, err = f.Mkdir(ctx, "m/n", true)
	wantCode(t, err, "")
	_, err = f.ApplyPatch(ctx, envelope("*** Add File: p/q\n+x\n"))
	wantCode(t, err, "")
	put(t, dir, map[string]string{"a.tar": string(tarOf(t, reg("t/u", "x")))})
	_, err = f.Extract(ctx, ExtractRequest{Path: "a.tar", Destination: "e"})
	wantCode(t, err, "")
	for _, p := range []string{"a", "a/b", "m", "m/n", "p", "p/q", "e", "e/t", "e/t/u"} {
		st, err := os.Lstat(filepath.Join(dir, p))
		if err != nil {
			t.Fatal(err)
		}
		if s := st.Sys().(*syscall.Stat_t); s.Uid != 1234 || s.Gid != 5678 {
			t.Errorf("%s belongs to %d:%d", p, s.Uid, s.Gid)
		}
	}
}

// While a private file is replaced, its new content is never readable by more
// people than the old one, and its temporary name cannot be foreseen (AC-13).
func TestTemporaryFiles(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	f.needNames.Store(true) // the way that shows names
	put(t, dir, map[string]string{"secret": "x"})
	os.Chmod(dir+"/secret", 0o600)
	stop, done := make(chan struct{}), make(chan map[string]bool)
	go func() {
		seen := map[string]bool{}
		for {
			select {
			case <-stop:
				done <- seen
				return
			default:
			}
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				if strings.HasPrefix(e.Name(), tempPrefix) {
					if st, err := e.Info(); err == nil {
						seen[e.Name()] = true
						if st.Mode().Perm()&0o077 != 0 {
							t.Errorf("temporary file has mode %v", st.Mode())
						}
					}
				}
			}
		}
	}()
	content := bytes.Repeat([]byte("s"), 4<<20)
	n := 0
	for deadline := time.Now().Add(20 * time.Second); n < 30 && time.Now().Before(deadline); n++ {
		_, err := f.WriteFile(ctx, WriteRequest{Path: "secret", Content: content})
		wantCode(t, err, "")
	}
	close(stop)
	if seen := <-done; len(seen) > n {
		t.Errorf("%d names for %d writes", len(seen), n)
	}
}

// roleWriter overwrites a file with two contents by turns until it is killed.
func roleWriter() int {
	f, err := Open(os.Getenv("WORKSPACE_TEST_DIR"), Options{})
	if err != nil {
		return 1
	}
	f.needNames.Store(os.Getenv("WORKSPACE_TEST_NAMES") != "")
	for i := 0; ; i++ {
		c := bytes.Repeat([]byte{"ab"[i%2]}, 2<<20)
		if _, err := f.WriteFile(ctx, WriteRequest{Path: "f", Content: c}); err != nil {
			fmt.Println(err)
			return 2
		}
		if i == 1 {
			fmt.Println("ready")
		}
	}
}

// AC-11: kill -9 at any moment leaves one of the two contents whole.
func TestKilledInMidWrite(t *testing.T) {
	for _, names := range []string{"", "1"} {
		f, dir, _ := newFS(t, Options{})
		left := 0
		for round := range 8 {
			c := exec.Command(os.Args[0])
			c.Env = append(os.Environ(), "WORKSPACE_TEST_ROLE=writer", "WORKSPACE_TEST_DIR="+dir, "WORKSPACE_TEST_NAMES="+names)
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			line := make([]byte, 5)
			if _, err := out.Read(line); err != nil || string(line) != "ready" {
				t.Fatalf("child said %q %v", line, err)
			}
			time.Sleep(time.Duration(round) * 3 * time.Millisecond) // another moment each round
			c.Process.Kill()
			c.Wait()
			got := get(t, dir+"/f")
			if len(got) != 2<<20 || strings.Count(got, got[:1]) != len(got) {
				t.Fatalf("round %d: %d bytes, mixed", round, len(got))
			}
		}
		// What a kill leaves is hidden from every listing.
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), tempPrefix) {
				left++
				os.Remove(filepath.Join(dir, e.Name()))
			}
		}
		t.Logf("%d temporary files left by 8 kills (named from the start: %q)", left, names)
		res, err := f.List(ctx, ListRequest{All: true})
		wantCode(t, err, "")
		if len(res.Entries) != 1 {
			t.Errorf("listing shows %v", res.Entries)
		}
	}
}

// roleFull fills a 1 MiB file system and checks that old content survives.
func roleFull() int {
	dir := os.Getenv("WORKSPACE_TEST_DIR")
	if err := mountTmpfs(dir, "size=1m"); err != nil {
		fmt.Println("mount:", err)
		return 3
	}
	f, err := Open(dir, Options{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	old := bytes.Repeat([]byte("o"), 100<<10)
	check := func(what string, err error, code string) bool {
		b, rerr := os.ReadFile(dir + "/f")
		entries, _ := os.ReadDir(dir)
		if sandbox.CodeOf(err) != code || rerr != nil || !bytes.Equal(b, old) || len(entries) != 1 {
			fmt.Println(what, "gave", err, "file has", len(b), "bytes", rerr, "entries", len(entries))
			return false
		}
		return true
	}
	_, err = f.WriteFile(ctx, WriteRequest{Path: "f", Content: old})
	ok := check("first write", err, "")
	big := bytes.Repeat([]byte("n"), 2<<20)
	for _, names := range []bool{false, true} {
		f.needNames.Store(names)
		_, err = f.WriteFile(ctx, WriteRequest{Path: "f", Content: big})
		ok = check("overwrite", err, codeDiskFull) && ok
		_, err = f.WriteFile(ctx, WriteRequest{Path: "f", Content: big, Mode: WriteAppend})
		ok = check("append", err, codeDiskFull) && ok
		_, err = f.WriteFile(ctx, WriteRequest{Path: "g", Content: big})
		ok = check("create", err, codeDiskFull) && ok
		_, err = f.EditFile(ctx, EditRequest{Path: "f", OldText: string(old), NewText: string(big)})
		ok = check("edit", err, codeDiskFull) && ok
		_, err = f.ApplyPatch(ctx, envelope("*** Delete File: f\n*** Add File: d/g\n+"+string(big)+"\n"))
		ok = check("patch", err, codeDiskFull) && ok
		p, perr := f.walk("f", walkOptions{write: true})
		if perr == nil {
			err = f.appendInPlace(ctx, p, WriteRequest{Content: big})
			p.close()
		}
		ok = check("append in place", fromErrno(err, "f"), codeDiskFull) && ok
	}
	f.Close()
	if !ok {
		return 1
	}
	return 0
}

// AC-11: a full disk leaves the old bytes.
func TestDiskFull(t *testing.T) {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "WORKSPACE_TEST_ROLE=full", "WORKSPACE_TEST_DIR="+t.TempDir())
	// Not even tried there: a clone that fails leaks descriptors in syscall.
	if !inNamespaces(c) || os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		t.Skip("needs Linux namespaces")
	}
	out, err := c.CombinedOutput()
	if c.ProcessState == nil || c.ProcessState.ExitCode() == 3 {
		skipConfined(t, "no private mount namespace: %v %s", err, out)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// roleLimit writes past the file size limit of the process.
func roleLimit() int {
	signal.Ignore(syscall.SIGXFSZ)
	dir := os.Getenv("WORKSPACE_TEST_DIR")
	f, err := Open(dir, Options{})
	if err != nil {
		return 1
	}
	old := bytes.Repeat([]byte("o"), 10<<10)
	_, err = f.WriteFile(ctx, WriteRequest{Path: "f", Content: old})
	if err != nil {
		return 1
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 64 << 10, Max: 64 << 10}); err != nil {
		return 1
	}
	_, err = f.WriteFile(ctx, WriteRequest{Path: "f", Content: bytes.Repeat([]byte("n"), 1<<20)})
	b, _ := os.ReadFile(dir + "/f")
	entries, _ := os.ReadDir(dir)
	if sandbox.CodeOf(err) != codeTooLarge || !bytes.Equal(b, old) || len(entries) != 1 {
		fmt.Println(err, len(b), len(entries))
		return 1
	}
	return 0
}

func TestFileSizeLimit(t *testing.T) {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "WORKSPACE_TEST_ROLE=limit", "WORKSPACE_TEST_DIR="+t.TempDir())
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// skipConfined skips, or fails where skipping is not allowed.
func skipConfined(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("MCP_SANDBOX_TEST_NOSKIP") == "1" && os.Getenv("MCP_SANDBOX_TEST_LEVEL") != "landlock" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Large files are appended in place.
func TestAppendLarge(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	if err := os.WriteFile(dir+"/log", []byte("start\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	os.Truncate(dir+"/log", 20<<20)
	before, _ := os.Stat(dir + "/log")
	res, err := f.WriteFile(ctx, WriteRequest{Path: "log", Content: []byte("end\n"), Mode: WriteAppend})
	wantCode(t, err, "")
	after, _ := os.Stat(dir + "/log")
	if !os.SameFile(before, after) || after.Size() != before.Size()+4 || res.Size != after.Size() {
		t.Errorf("%+v %d", res, after.Size())
	}
}

func TestReadOnlyWorkspace(t *testing.T) {
	f, dir, _ := newFS(t, Options{ReadOnly: true})
	put(t, dir, map[string]string{"f": "x", "a.tar": string(tarOf(t, reg("x", "x")))})
	before := snapshotTree(t, dir)
	for name, op := range changes(f) {
		wantCode(t, op("f"), codePermission)
		if after := snapshotTree(t, dir); len(after) != len(before) {
			t.Errorf("%s changed the tree", name)
		}
	}
	_, err := f.ReadFile(ctx, ReadRequest{Path: "f"})
	wantCode(t, err, "")
}
