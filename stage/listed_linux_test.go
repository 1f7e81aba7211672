package stage

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// TestStageListed: what was shown is applied and discarded, and nothing that has its
// name as a beginning or has changed since.
func TestStageListed(t *testing.T) {
	s, root, upper := newTestStage(t, map[string]string{"x": "x", "f": "f"})
	for _, name := range []string{"x", "d/a", "d/b", "other"} {
		putFile(t, upper+"/"+name, "mine")
	}
	seen := func(paths ...string) map[string]string {
		all, err := s.Changes()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, c := range all {
			if slices.Contains(paths, c.Path) {
				out[c.Path] = c.Seen
			}
		}
		return out
	}
	left := func(res Result, err error, want ...string) {
		t.Helper()
		var got []string
		for _, l := range res.Left {
			got = append(got, l.Path)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("left %q, want %q: %v", got, want, err)
		}
	}
	old := seen("x", "d")
	putFile(t, upper+"/x", "more")
	res, err := s.ApplyListed(old, Choice{})
	left(res, err, "x")
	wantText(t, root+"/x", "x")
	if names, err := os.ReadDir(root + "/d"); err != nil || len(names) > 0 {
		t.Errorf("the directory was not applied alone: %v %v", names, err)
	}
	old = seen("x")
	putFile(t, root+"/x", "theirs")
	res, err = s.DiscardListed(old)
	left(res, err, "x")
	wantText(t, upper+"/x", "more")
	if err := os.Remove(root + "/d"); err != nil {
		t.Fatal(err)
	}
	res, err = s.DiscardListed(seen("d", "d/a"))
	left(res, err, "d")
	wantText(t, upper+"/d/b", "mine")
	res, err = s.DiscardListed(seen("d", "d/b", "other"))
	left(res, err)
	if got, want := kinds(t, s), []string{"modified x"}; !slices.Equal(got, want) {
		t.Errorf("the changes are %q, want %q", got, want)
	}
}

// TestStageNames: a name cannot forge a line of what a person reads.
func TestStageNames(t *testing.T) {
	s, root, upper := newTestStage(t, map[string]string{"d/x": "x"})
	if err := unix.Mknod(upper+"/d", unix.S_IFCHR, 0); err != nil {
		t.Skipf("no marks of removed names here: %v", err)
	}
	putFile(t, root+"/d/a\nb\u202e", "theirs")
	all, err := s.Changes()
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v %v", all, err)
	}
	if want := `"d/a\nb\u202e" was made in the project meanwhile`; all[0].Conflict != want {
		t.Errorf("the conflict is %s, want %s", all[0].Conflict, want)
	}
}

// TestStageResumed: what the user did below what the session removed is a conflict of
// the next session, too.
func TestStageResumed(t *testing.T) {
	s, root, upper := newTestStage(t, map[string]string{"d/x": "x", "a/b/x": "x", "free/x": "x"})
	if err := unix.Mknod(upper+"/d", unix.S_IFCHR, 0); err != nil {
		t.Skipf("no marks of removed names here: %v", err)
	}
	putFile(t, upper+"/a/b/y", "mine")
	if err := unix.Setxattr(upper+"/a", opaqueXattr, []byte("y"), 0); err != nil {
		t.Skipf("no user attributes here: %v", err)
	}
	for _, name := range []string{"d/new", "a/b/x", "free/x"} {
		putFile(t, root+"/"+name, "theirs")
	}
	settle(t)
	s.Scan(os.Getuid(), os.Getgid(), nil)
	s.ready()
	putFile(t, upper+"/free/x", "mine")
	all, err := s.Changes()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"d": "d/new was made in the project meanwhile", "a/b/x": "changed in the project meanwhile", "a/b/y": "", "free/x": ""}
	for _, c := range all {
		if w, ok := want[c.Path]; !ok || w != c.Conflict {
			t.Errorf("%s: conflict %q, want %q", c.Path, c.Conflict, w)
		}
		delete(want, c.Path)
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
}

// TestStageDecided: what either side writes between the look at it and the change of it
// is not lost: looking and changing are one step.
func TestStageDecided(t *testing.T) {
	s, root, upper := newTestStage(t, map[string]string{"x": "1\n2\n", "m": "m", "gone": "g", "kind/in": "in"})
	for name, text := range map[string]string{"x": "1\n2\nmine\n", "m": "mine", "new": "mine", "d/in": "mine"} {
		putFile(t, upper+"/"+name, text)
	}
	marks := unix.Mknod(upper+"/gone", unix.S_IFCHR, 0) == nil
	var err error
	if s.Merged, err = os.Open(upper); err != nil {
		t.Fatal(err)
	}
	all, err := s.Changes()
	if err != nil {
		t.Fatal(err)
	}
	tidy := func() {
		t.Helper()
		for _, dir := range []string{root, upper} {
			if left, _ := filepath.Glob(dir + "/" + treecopy.TempPrefix + "*"); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		}
	}
	// A text: the session's side, then the user's.
	putFile(t, upper+"/x", "1\n2\nmore\n")
	if err := s.write("x", "1\n2\n", "1\n2\nmine\n", nil); err != errMoved {
		t.Errorf("the session's new text was replaced: %v", err)
	}
	wantText(t, upper+"/x", "1\n2\nmore\n")
	if err := s.write("x", "1\n2\n", "1\n2\nmore\n", func() error { return ErrOther }); err != ErrOther {
		t.Errorf("%v", err)
	}
	wantText(t, upper+"/x", "1\n2\nmore\n")
	tidy()
	// What the session saves under the name after the exchange stays.
	swap := func() error { return os.Rename(upper+"/d/in", upper+"/m") }
	putFile(t, upper+"/built", "m")
	putFile(t, upper+"/d/in", "other")
	if err := exchangeIf(int(s.Merged.Fd()), "built", "m", swap); err != errMoved {
		t.Errorf("what the session saved stands for what was built: %v", err)
	}
	wantText(t, upper+"/m", "other")
	putFile(t, upper+"/built", "m")
	putFile(t, upper+"/d/in", "another")
	if err := exchangeIf(int(s.Merged.Fd()), "built", "m", func() error { return errors.Join(swap(), errMoved) }); !errors.Is(err, errMoved) {
		t.Errorf("%v", err)
	}
	wantText(t, upper+"/m", "another")
	putFile(t, upper+"/m", "mine")
	putFile(t, upper+"/d/in", "mine")
	// Whole paths.
	putFile(t, upper+"/m", "longer")
	putFile(t, upper+"/new", "longer")
	putFile(t, upper+"/d/later", "more")
	if marks {
		if err := os.Remove(upper + "/gone"); err != nil {
			t.Fatal(err)
		}
		putFile(t, upper+"/gone", "remade")
	}
	for i := range all {
		c := &all[i]
		if c.Path == "x" || c.Path == "d/in" {
			continue
		}
		if err := s.revertMerged(c); err != errMoved {
			t.Errorf("%s was discarded, though it is another by now: %v", c.Path, err)
		}
	}
	wantText(t, upper+"/m", "longer")
	wantText(t, upper+"/new", "longer")
	wantText(t, upper+"/d/later", "more")
	if marks {
		wantText(t, upper+"/gone", "remade")
	}
	tidy()
	// As listed they go.
	if err := os.Remove(upper + "/gone"); err != nil && marks {
		t.Fatal(err)
	}
	for _, p := range []string{"d", "m", "new"} {
		if res, err := s.Discard([]string{p}); err != nil || len(res.Left) > 0 {
			t.Errorf("%+v %v", res, err)
		}
	}
	wantText(t, upper+"/m", "m")
	for _, p := range []string{"d", "new"} {
		if _, err := os.Lstat(upper + "/" + p); !os.IsNotExist(err) {
			t.Errorf("%s stays: %v", p, err)
		}
	}
	tidy()
}

// TestStageShownText: what is applied is the text that was shown, also where the
// session writes to a file in ways that leave its times as they are.
func TestStageShownText(t *testing.T) {
	s, root, upper := newTestStage(t, map[string]string{"x": "1\n"})
	putFile(t, upper+"/x", "good\n")
	f, err := os.OpenFile(upper+"/x", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := unix.Mmap(int(f.Fd()), 0, 5, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Skipf("no shared mapping here: %v", err)
	}
	defer unix.Munmap(text)
	copy(text, "good\n") // the page is dirty: later writes change no time
	var before, after unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &before); err != nil {
		t.Fatal(err)
	}
	all, err := s.Changes()
	if err != nil || len(all) != 1 || !strings.Contains(s.Diff(&all[0]), "+good") {
		t.Fatalf("%+v %v", all, err)
	}
	copy(text, "evil\n")
	if err := unix.Fstat(int(f.Fd()), &after); err != nil {
		t.Fatal(err)
	}
	if sigOf(&before) != sigOf(&after) {
		t.Log("the kernel tells the times of this write") // it was written back meanwhile
	}
	if d := s.Diff(&all[0]); strings.Contains(d, "evil") {
		t.Errorf("another text is shown than was listed: %s", d)
	}
	seen := map[string]string{"x": all[0].Seen}
	if res, err := s.ApplyListed(seen, Choice{}); err != nil || len(res.Done) > 0 {
		t.Errorf("%+v %v", res, err)
	}
	a, listed := newTestApplier(t, s, Choice{})
	copy(text, "good\n")
	a.take(&listed[0])
	if len(a.res.Done) > 0 || len(a.res.Left) != 1 || a.res.Left[0].Why != errMoved.Error() {
		t.Errorf("%+v", a.res)
	}
	wantText(t, root+"/x", "1\n")
}
