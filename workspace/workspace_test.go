package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

func TestMain(m *testing.M) {
	if role := os.Getenv("WORKSPACE_TEST_ROLE"); role != "" {
		os.Exit(childRoles()[role]())
	}
	if r, w, err := os.Pipe(); err == nil { // starts the poller, which keeps two descriptors
		r.Close()
		w.Close()
	}
	before := openFDs()
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if after := openFDs(); after > before {
			fmt.Fprintf(os.Stderr, "descriptors leaked: %d before, %d after\n", before, after)
			code = 1
		}
	}
	os.Exit(code)
}

// openFDs counts the open descriptors, 0 where that cannot be told.
func openFDs() int {
	dir := "/proc/self/fd"
	if runtime.GOOS == "darwin" {
		dir = "/dev/fd"
	}
	e, _ := os.ReadDir(dir)
	return len(e)
}

var ctx = context.Background()

// raceEnabled says that the race detector slows everything down.
var raceEnabled bool

// newFS opens a workspace named ws beside an outside directory with a canary in
// it, and checks after the test that the canary is alone and untouched and that
// no temporary file was left behind.
func newFS(t testing.TB, o Options) (f *FS, dir, outside string) {
	t.Helper()
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir, outside = filepath.Join(base, "ws"), filepath.Join(base, "outside")
	for _, d := range []string{dir, outside} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	canary := filepath.Join(outside, "canary")
	if err := os.WriteFile(canary, []byte("canary"), 0o640); err != nil {
		t.Fatal(err)
	}
	was, err := os.Lstat(canary)
	if err != nil {
		t.Fatal(err)
	}
	f, err = Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		now, err := os.Lstat(canary)
		if err != nil {
			t.Fatalf("the canary outside is gone: %v", err)
		}
		if b, _ := os.ReadFile(canary); string(b) != "canary" {
			t.Errorf("the canary outside now holds %q", b)
		}
		if now.Mode() != was.Mode() || !now.ModTime().Equal(was.ModTime()) || now.Size() != was.Size() {
			t.Errorf("the canary outside changed: %v %v, was %v %v", now.Mode(), now.ModTime(), was.Mode(), was.ModTime())
		}
		if e, _ := os.ReadDir(outside); len(e) != 1 {
			t.Errorf("outside holds %d entries, want the canary alone: %v", len(e), e)
		}
		filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(d.Name(), tempPrefix) {
				t.Errorf("temporary file left behind: %s", p)
			}
			return nil
		})
	})
	return f, dir, outside
}

// put writes files of a tree; a name ending in "/" is a directory, a value
// starting with "-> " a link.
func put(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, p)
		} else if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(p, 0o755)
		} else {
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func get(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantCode checks the code of err, "" for success, and that its text keeps to
// the rules for messages.
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	if code == "" {
		if err != nil {
			t.Fatalf("unexpected error %s: %v", sandbox.CodeOf(err), err)
		}
		return
	}
	var e *sandbox.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v (%T), want code %s", err, err, code)
	}
	if e.Code() != code {
		t.Fatalf("code is %s (%v), want %s", e.Code(), err, code)
	}
	if strings.Contains(e.Error(), "\n") && code != codeEditNotFound && code != codePatchFailed {
		t.Errorf("message has several lines: %q", e.Error())
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]string{"file": "x", "rootlink": "-> /"})
	for _, tc := range []struct {
		name, root string
		o          Options
		code       string
	}{
		{"missing", dir + "/none", Options{}, codeNotFound},
		{"file", dir + "/file", Options{}, codeNotDirectory},
		{"slash", "/", Options{}, codeInvalid},
		{"empty", "", Options{}, codeInvalid},
		{"link to slash", dir + "/rootlink", Options{}, codeInvalid},
		{"grant slash", dir, Options{Grants: []Grant{{Path: "/"}}}, codeInvalid},
		{"grant link to slash", dir, Options{Grants: []Grant{{Path: dir + "/rootlink"}}}, codeInvalid},
		{"grant missing", dir, Options{Grants: []Grant{{Path: dir + "/none"}}}, codeNotFound},
		{"protect absolute", dir, Options{Protect: []string{"/etc"}}, codeInvalid},
		{"protect parent", dir, Options{Protect: []string{"../x"}}, codeInvalid},
		{"protect empty", dir, Options{Protect: []string{""}}, codeInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := Open(tc.root, tc.o)
			if err == nil {
				f.Close()
			}
			wantCode(t, err, tc.code)
		})
	}
}

func TestResolve(t *testing.T) {
	f, dir, outside := newFS(t, Options{})
	put(t, dir, map[string]string{
		"a/b/file": "x", "rel": "-> a/b", "abs": "-> " + dir + "/a/b", "up": "-> a/b/../..",
		"out": "-> " + outside, "outrel": "-> ../outside", "loop": "-> loop", "l1": "-> l2", "l2": "-> l1",
		"dot": "-> .", "a/dot": "-> .", "dangle": "-> nothing", "absup": "-> " + dir + "/a/../../outside",
		"through": "-> rel/file",
	})
	base := filepath.Dir(dir)
	put(t, base, map[string]string{"alias": "-> ws"})
	for _, tc := range []struct{ in, want, code string }{
		{".", ".", ""}, {"", ".", ""}, {"a/./b//file", "a/b/file", ""}, {"a/../a/b", "a/b", ""},
		{dir, ".", ""}, {dir + "/a", "a", ""}, {base + "/alias/a/b", "a/b", ""}, {"../ws/a", "a", ""},
		{"rel", "a/b", ""}, {"abs/file", "a/b/file", ""}, {"up/a", "a", ""}, {"dot/dot/a", "a", ""}, {"a/dot", "a", ""},
		{"dangle", "nothing", ""}, {"new", "new", ""}, {"through", "a/b/file", ""}, {"rel/../rel", "a/b", ""},
		{"..", "", codeOutside}, {"../outside/canary", "", codeOutside}, {outside + "/canary", "", codeOutside},
		{"out/canary", "", codeOutside}, {"out", "", codeOutside}, {"outrel/canary", "", codeOutside},
		{"absup/canary", "", codeOutside},
		{dir + "_evil/x", "", codeOutside}, {dir + "/../outside/x", "", codeOutside}, // AC-01
		{"/proc/self/root" + dir + "/a", "", codeOutside}, {"/proc/self/cwd", "", codeOutside}, // AC-07
		{"loop", "", codeInvalid}, {"l1/x", "", codeInvalid},
		{"nothing/x", "", codeNotFound}, {"a/b/file/x", "", codeNotDirectory},
		{"a\x00b", "", codeInvalid}, {strings.Repeat("a/", 3000), "", codeInvalid}, {strings.Repeat("n", 300) + "/x", "", codeInvalid},
	} {
		t.Run(tc.in, func(t *testing.T) {
			got, err := f.Resolve(tc.in)
			wantCode(t, err, tc.code)
			if got != tc.want {
				t.Errorf("Resolve(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
	got, err := f.ResolveDir("rel")
	wantCode(t, err, "")
	if got != dir+"/a/b" {
		t.Errorf("ResolveDir = %q", got)
	}
	_, err = f.ResolveDir("a/b/file")
	wantCode(t, err, codeNotDirectory)
	_, err = f.ResolveDir("missing")
	wantCode(t, err, codeNotFound)
}

// A path of 40 links works, one more is refused (AC-02).
func TestLinkChain(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	files := map[string]string{"l0": "end"}
	for i := 1; i <= 41; i++ {
		files[fmt.Sprintf("l%d", i)] = fmt.Sprintf("-> l%d", i-1)
	}
	put(t, dir, files)
	r, err := f.ReadFile(ctx, ReadRequest{Path: "l40"})
	wantCode(t, err, "")
	if r.Text != "end" || r.Path != "l0" {
		t.Errorf("read %q at %q", r.Text, r.Path)
	}
	_, err = f.ReadFile(ctx, ReadRequest{Path: "l41"})
	wantCode(t, err, codeInvalid)
}

func TestGrants(t *testing.T) {
	base, _ := filepath.EvalSymlinks(t.TempDir())
	put(t, base, map[string]string{
		"rw/f": "rw", "ro/f": "ro", "ro/in/f": "in", "single": "one", "other": "no", "rw/out": "-> ../other",
		"ws/vendor/f": "v", "ws/link": "-> " + base + "/rw", "rolink": "-> ro",
	})
	f, err := Open(base+"/ws", Options{Grants: []Grant{
		{Path: base + "/rw"}, {Path: base + "/rolink", ReadOnly: true}, {Path: base + "/ro/in"},
		{Path: base + "/single"}, {Path: base + "/ws/vendor", ReadOnly: true},
	}})
	wantCode(t, err, "")
	defer f.Close()
	for _, tc := range []struct{ path, read, write string }{
		{base + "/rw/f", "", ""}, {"link/f", "", ""}, {"../rw/f", "", ""},
		{base + "/ro/f", "", codePermission}, {base + "/rolink/f", "", codePermission},
		{base + "/ro/in/f", "", ""}, {base + "/rolink/in/f", "", ""},
		{base + "/single", "", ""}, {base + "/single/x", codeNotDirectory, codeNotDirectory},
		{base + "/other", codeOutside, codeOutside}, {base + "/rw/out", codeOutside, codeOutside},
		{"vendor/f", "", codePermission}, {"vendor/new", codeNotFound, codePermission},
		{base + "/ws/vendor/f", "", codePermission}, {base + "/rw_evil/f", codeOutside, codeOutside},
	} {
		_, err := f.ReadFile(ctx, ReadRequest{Path: tc.path})
		wantCode(t, err, tc.read)
		_, err = f.WriteFile(ctx, WriteRequest{Path: tc.path, Content: []byte("new")})
		wantCode(t, err, tc.write)
	}
	if r, err := f.ReadFile(ctx, ReadRequest{Path: base + "/ws/vendor/f"}); err != nil || r.Path != "vendor/f" {
		t.Errorf("a nested grant is shown as %q %v", r.Path, err)
	}
	if got := get(t, base+"/single"); got != "new" {
		t.Errorf("single file grant holds %q", got)
	}
	// Renaming the parent of a read-only grant does not open it.
	if err := os.Rename(base+"/ws/vendor", base+"/ws/v2"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"v2/f", "v2/new", "v2/deep/new"} {
		_, err = f.WriteFile(ctx, WriteRequest{Path: p, Content: []byte("x")})
		wantCode(t, err, codePermission)
	}
	if got := get(t, base+"/ws/v2/f"); got != "v" {
		t.Errorf("read-only grant was written: %q", got)
	}
}

// The workspace keeps to the directory it was opened on when its name is given
// to something else (AC-10).
func TestRootReplaced(t *testing.T) {
	f, dir, outside := newFS(t, Options{})
	put(t, dir, map[string]string{"f": "old"})
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, dir); err != nil {
		t.Fatal(err)
	}
	defer func() {
		os.Remove(dir)
		os.Rename(dir+".moved", dir)
	}()
	r, err := f.ReadFile(ctx, ReadRequest{Path: dir + "/f"})
	wantCode(t, err, "")
	if r.Text != "old" {
		t.Errorf("read %q", r.Text)
	}
	_, err = f.ReadFile(ctx, ReadRequest{Path: "canary"})
	wantCode(t, err, codeNotFound)
	_, err = f.WriteFile(ctx, WriteRequest{Path: dir + "/g", Content: []byte("x")})
	wantCode(t, err, "")
	if got := get(t, dir+".moved/g"); got != "x" {
		t.Errorf("wrote %q", got)
	}
}

// runtimeUmask is the umask of the test process; modes are only compared under
// the usual one.
var runtimeUmask = func() int {
	m := unix.Umask(0o022)
	unix.Umask(m)
	return m
}()

// Resolve follows path through links and returns where it leads, as shown to the
// model. The last name need not exist.
func (f *FS) Resolve(path string) (string, error) {
	leave, err := f.enter()
	if err != nil {
		return "", err
	}
	defer leave()
	pl, err := f.walk(path, walkOptions{follow: true})
	if err != nil {
		return "", err
	}
	defer pl.close()
	return pl.display(), nil
}
