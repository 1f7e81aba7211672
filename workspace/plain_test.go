package workspace

import (
	"context"
	"math/rand"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"mcp-sandbox/deny"
)

// TestRulesAreThoseOfTheCloserLook: what Rules answers without a closer look is what
// that look says, whatever the names, the grants and the links.
func TestRulesAreThoseOfTheCloserLook(t *testing.T) {
	names := []string{
		"a", "src", "http", "HEAD", "head", "objects", "Refs", "config", ".git", ".GIT", ".g\u200cit", "hooks", "\u212aey", "key", ".envrc", "deep", "sub",
		"\u200c", "\u017fsh", ".\u017f\u017fh", "secret", "shared", "lin\u212a", strings.Repeat("x", 70),
	}
	protect := []string{".git/hooks", ".git/config", "HEAD", "key/sub", ".ssh", "**/deep/sub", "link", "**/" + strings.Repeat("X", 70)}
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(base, "ws")
	for _, d := range []string{"ws/a/refs", "ws/src/objects", "ws/src/refs", "ws/shared", "ws/sub", "other", "state"} {
		if err := os.MkdirAll(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "src/HEAD"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		grants []string
		deny   []string
		link   bool
		slow   bool // every path needs the closer look
		spared bool // nothing is hidden by name
	}{
		{name: "alone", spared: true},
		{name: "state outside", deny: []string{base + "/state"}, spared: true},
		{name: "above the root", deny: []string{base}, spared: true},
		{name: "hidden in it", deny: []string{root + "/Secret"}},
		{name: "hidden at any depth", deny: []string{"**/secret"}},
		{name: "grant elsewhere", grants: []string{base + "/other"}, spared: true},
		{name: "grant above", grants: []string{base}, slow: true, spared: true},
		{name: "grant in it", grants: []string{root + "/sub"}, slow: true, spared: true},
		{name: "protected link", link: true, spared: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.link {
				if err := os.Symlink("shared", filepath.Join(root, "link")); err != nil {
					t.Fatal(err)
				}
				defer os.Remove(filepath.Join(root, "link"))
			}
			o := Options{OwnerUID: -1, OwnerGID: -1, Protect: protect, ProtectGrants: protect}
			for _, g := range c.grants {
				o.Grants = append(o.Grants, Grant{Path: g})
			}
			if o.Deny, err = deny.Parse(c.deny, root, nil); err != nil {
				t.Fatal(err)
			}
			f, err := Open(root, o)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			r := f.Rules(context.Background())
			if (r.plain == nil) != c.slow || r.unnamed != c.spared {
				t.Errorf("a closer look at every path: %v, nothing hidden by name: %v", r.plain == nil, r.unnamed)
			}
			rnd := rand.New(rand.NewSource(1))
			protected, hidden := 0, 0
			for range 10000 {
				comps := make([]string, 1+rnd.Intn(4))
				for i := range comps {
					comps[i] = names[rnd.Intn(len(names))]
				}
				rel := strings.Join(comps, "/")
				want := f.guardsAll(path.Join(root, rel))
				if got := r.Protects(rel); got != want {
					t.Fatalf("%q is protected: %v, by a closer look: %v", rel, got, want)
				}
				hides := f.opts.Deny.Covers(path.Join(root, rel))
				if got := r.Hides(rel, 0, 0, 0); got != hides {
					t.Fatalf("%q is hidden: %v, by a closer look: %v", rel, got, hides)
				}
				if want {
					protected++
				}
				if hides {
					hidden++
				}
			}
			if protected == 0 || (hidden == 0) != c.spared {
				t.Errorf("%d paths were protected and %d hidden", protected, hidden)
			}
		})
	}
}
