package stage

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStageRepository: a repository that is applied path by path is never without what
// it names, whatever a person chooses of it and in which order.
func TestStageRepository(t *testing.T) {
	s, root, upper := newTestStage(t, map[string]string{"HEAD": "h", "objects/11/old": "o", "objects/11/same": "s", "objects/pack/pack-1.pack": "p", "refs/heads/x": "1", "refs/heads/y": "1", "packed-refs": "1"})
	for name, text := range map[string]string{"objects/11/same": "other", "objects/22/new": "n", "refs/heads/x": "2", "HEAD": "2", "packed-refs": "2", "objects/info/alternates": "a"} {
		putFile(t, upper+"/"+name, text)
	}
	for _, name := range []string{"objects/11/old", "objects/pack", "refs/heads/y"} {
		if err := unix.Mknod(upper+"/"+name, unix.S_IFCHR, 0); err != nil {
			t.Skipf("no marks of removed names here: %v", err)
		}
	}
	all := Choice{Protected: true}
	for _, step := range []struct {
		apply, done, left string
	}{
		{"refs/heads/x", "", "apply objects/22/new first"},
		{"HEAD", "", "apply objects/22/new first"},
		{"packed-refs", "", "apply objects/22/new first"},
		{"objects/11", "", "stay as they are"},
		{"objects/pack", "", "stay as they are"},
		{"objects/22", "objects/22 objects/22/new", ""},
		{"objects/info", "objects/info objects/info/alternates", ""},
		{"refs/heads/y", "", "apply packed-refs first"},
		{"HEAD", "HEAD", ""},
		{"refs", "refs/heads/x", "apply packed-refs first"},
		{"packed-refs", "packed-refs", ""},
		{"refs", "refs/heads/y", ""},
	} {
		res, err := s.Apply([]string{step.apply}, all)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(res.Done)
		if got := strings.Join(res.Done, " "); got != step.done {
			t.Errorf("%s: done %q, want %q", step.apply, got, step.done)
		}
		if (len(res.Left) > 0) != (step.left != "") || len(res.Left) > 0 && !strings.Contains(res.Left[0].Why, step.left) {
			t.Errorf("%s: left %+v, want %q", step.apply, res.Left, step.left)
		}
	}
	for name, text := range map[string]string{"objects/11/old": "o", "objects/11/same": "s", "objects/pack/pack-1.pack": "p"} {
		wantText(t, root+"/"+name, text)
	}
	// Discarded, they are what the project has.
	if res, err := s.Discard([]string{"."}); err != nil || len(res.Left) > 0 || len(kinds(t, s)) > 0 {
		t.Errorf("%+v %v", res, err)
	}
}

// TestStageRepositoryAtOnce: all of a repository is applied in the order in which git
// writes it.
func TestStageRepositoryAtOnce(t *testing.T) {
	s, _, upper := newTestStage(t, nil)
	for _, name := range []string{"r/HEAD", "r/config", "r/index", "r/objects/22/new", "r/packed-refs", "r/refs/heads/x", "a/.git/HEAD", "a/.git/refs/x", "a/.git/objects/1/2"} {
		putFile(t, upper+"/"+name, "x")
	}
	res, err := s.Apply([]string{"."}, Choice{Protected: true})
	if err != nil || len(res.Left) > 0 {
		t.Fatalf("%+v %v", res, err)
	}
	at := func(p string) int { return slices.Index(res.Done, p) }
	for _, order := range [][]string{{"r/objects/22/new", "r/refs/heads/x", "r/HEAD"}, {"r/objects/22/new", "r/packed-refs", "r/index"}, {"a/.git/objects/1/2", "a/.git/refs/x", "a/.git/HEAD"}} {
		if !slices.IsSortedFunc(order, func(a, b string) int { return at(a) - at(b) }) {
			t.Errorf("%q are not in this order: %q", order, res.Done)
		}
	}
	if len(res.Done) < 9 || at("r/HEAD") < 0 {
		t.Errorf("%q", res.Done)
	}
}
