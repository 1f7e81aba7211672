package gitstage

import (
	"strings"
	"testing"
)

// TestWhatIsData: what would have git outside evaluate words, show other objects, lose
// history or overwrite branches is not published, and what git writes itself is.
func TestWhatIsData(t *testing.T) {
	a, b := strings.Repeat("a", 40), strings.Repeat("b", 40)
	for _, c := range []struct {
		p, now, want string
		fresh, ok    bool
	}{
		{"BISECT_NAMES", "", "\n", false, true},
		{"BISECT_NAMES", "", " 'a b' 'it'\\''s'\n", false, true},
		{"BISECT_NAMES", "", "; touch x\n", false, false},
		{"BISECT_NAMES", "", " 'a' $(touch x)\n", false, false},
		{"BISECT_LOG", "", "git bisect start 'HEAD' 'HEAD~1' '--' 'a b'\n# status: waiting\ngit bisect good " + a + "\n", false, true},
		{"BISECT_LOG", "", "git bisect start; touch x\n", false, false},
		{"BISECT_TERMS", "", "bad\ngood\n", false, true},
		{"BISECT_TERMS", "", "bad\n`x`\n", false, false},
		{"shallow", "", a + "\n", true, true},
		{"shallow", "", a + "\n", false, false},
		{"shallow", "", b + "\n", false, true},
		{"shallow", a + "\n", a + "\nx\n", false, false},
		{"shallow", a + "\n" + b + "\n", b + "\n", false, true},
		{"MERGE_MSG", "", "$(x)", false, true},
	} {
		if got := goodText(c.p, c.now, c.want, c.fresh, func(oid string) bool { return oid != b }); got != c.ok {
			t.Errorf("%s %q: %v", c.p, c.want, got)
		}
	}
	for spec, ok := range map[string]bool{
		"+refs/heads/*:refs/remotes/o/*": true, "refs/tags/*:refs/tags/*": true, "+refs/heads/*:refs/heads/*": false,
		"refs/heads/*:refs/heads/*": false, "+refs/*:refs/*": false, "+refs/tags/*:refs/tags/*": false,
	} {
		if got := goodRefspec(spec, &configCheck{}); got != ok {
			t.Errorf("%s: %v", spec, got)
		}
		if !goodRefspec(spec, &configCheck{bare: true}) {
			t.Errorf("%s is refused for a new bare repository", spec)
		}
	}
	inside := &configCheck{writable: func(p string) bool { return p == "/w" || strings.HasPrefix(p, "/w/") }}
	for u, ok := range map[string]bool{
		"https://h/x": true, "ssh://u@h/x": true, "git@h:x": true, "/srv/x.git": true, "file:///srv/a%20b.git": true,
		"/w/x": false, "//w/./x": false, "file:///w/x": false, "file:///%77/x": false, "file:///%2fw/x": false, "file:///%/x": false,
		"/srv/link/../x": false, "file:///srv/%2e%2e/x": false, "ssh://%2doProxyCommand=x/y": false, "ssh://u%40-o/x": false,
	} {
		if got := goodURL(u, inside); got != ok {
			t.Errorf("%s: %v", u, got)
		}
	}
	for p, want := range map[string]class{
		"objects/pack/pack-" + a + ".bitmap": classSilent, "objects/pack/pack-" + a + ".rev": classSilent, "objects/pack/pack-" + a + ".pack": classPack,
		"refs/replace/" + a: classKept, "refs/notes/commits": classRef,
	} {
		if got := classify(p); got != want {
			t.Errorf("%s is of class %d", p, got)
		}
	}
}
