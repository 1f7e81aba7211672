package stage

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestPathsAsText: any two paths stay two in JSON, and come back.
func TestPathsAsText(t *testing.T) {
	seen := map[string]string{}
	for _, p := range []string{"a", "a/\xff", "a/\xfe", "a/\xffff", "a/ff", "\xc3", "\xc3\xa4", "�", "x\xed\xa0\x80", "\x9b31m", "a\n\x1b", ""} {
		b, err := json.Marshal(EncodePath(p))
		if err != nil {
			t.Fatal(err)
		}
		if old, ok := seen[string(b)]; ok {
			t.Errorf("%q and %q are both %s", old, p, b)
		}
		seen[string(b)] = p
		var back string
		if err := json.Unmarshal(b, &back); err != nil || DecodePath(back) != p {
			t.Errorf("%q comes back as %q: %v", p, DecodePath(back), err)
		}
	}
	if dir, in := EncodePath("d\xff"), EncodePath("d\xff/x\xfe"); !strings.HasPrefix(in, dir+"/") {
		t.Errorf("%q does not begin with %q", in, dir)
	}
	for _, bad := range []string{"\x00", "\x00f", "a\x00zz"} {
		if got := DecodePath(bad); got != bad {
			t.Errorf("%q became %q", bad, got)
		}
	}
}

// TestPick: a path is what it reads, and one that leads out of the project names
// nothing in it.
func TestPick(t *testing.T) {
	all := []Change{{Path: "a"}, {Path: "d"}, {Path: "d/b"}, {Path: "db"}}
	for _, row := range []struct{ path, picked, left string }{
		{".", "a d d/b db", ""}, {"./", "a d d/b db", ""}, {"d/..", "a d d/b db", ""},
		{"a", "a", ""}, {"./a", "a", ""}, {"a/", "a", ""}, {"d/../a", "a", ""}, {"d", "d d/b", ""}, {"d/b/..", "d d/b", ""},
		{"x", "", "changed nothing there"}, {"d/bb", "", "changed nothing there"},
		{"..", "", "not in the project"}, {"../a", "", "not in the project"}, {"d/../../a", "", "not in the project"}, {"/", "", "not in the project"}, {"/a", "", "not in the project"}, {"", "", "not in the project"},
	} {
		picked, res := pick(all, []string{row.path})
		var got []string
		for _, c := range picked {
			got = append(got, c.Path)
		}
		if strings.Join(got, " ") != row.picked || (len(res.Left) > 0) != (row.left != "") || len(res.Left) > 0 && !strings.Contains(res.Left[0].Why, row.left) {
			t.Errorf("%q: %q %+v, want %q %q", row.path, got, res.Left, row.picked, row.left)
		}
	}
}
