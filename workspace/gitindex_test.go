package workspace

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func gitIn(t *testing.T, dir string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git")
	}
	cmd := exec.Command("git", append([]string{"-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "HOME="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

// foundIn is what Find and Search both find in the tree, as one list.
func foundIn(t *testing.T, f *FS, path string) string {
	t.Helper()
	found, err := f.Find(ctx, FindRequest{Pattern: "**", Path: path})
	wantCode(t, err, "")
	var names, searched []string
	for _, e := range found.Entries {
		names = append(names, e.Path)
	}
	res, err := f.Search(ctx, SearchRequest{Pattern: "text", Path: path})
	wantCode(t, err, "")
	for _, m := range res.Files {
		searched = append(searched, m.Path)
	}
	slices.Sort(names)
	slices.Sort(searched)
	keep := slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		return strings.HasSuffix(n, "ignore") || strings.HasSuffix(n, ".gitmodules") || strings.HasSuffix(n, "/.git")
	})
	if !slices.Equal(keep, searched) {
		t.Errorf("find has %v, search %v", keep, searched)
	}
	if found.Ignored != res.Ignored {
		t.Errorf("find left out %+v, search %+v", found.Ignored, res.Ignored)
	}
	return strings.Join(keep, " ")
}

// TestTrackedAreFound: a file that git tracks is found though it matches
// .gitignore, as git itself treats it.
func TestTrackedAreFound(t *testing.T) {
	for _, tc := range []struct{ name, format, version string }{{"index 2", "sha1", "2"}, {"index 3", "sha1", "3"}, {"index 4", "sha1", "4"}, {"SHA-256", "sha256", "2"}, {"SHA-256, index 4", "sha256", "4"}} {
		t.Run(tc.name, func(t *testing.T) {
			f, dir, _ := newFS(t, Options{})
			put(t, dir, map[string]string{
				"a": "text\n", "gen/kept": "text\n", "gen/other": "text\n", "gen/deep/er/kept": "text\n", "gen/deep/x": "text\n", "gen/none/x": "text\n", "t.log": "text\n", "u.log": "text\n",
				".gitignore": "gen/\n*.log\n", ".ignore": "quiet\n", "quiet": "text\n", "sub/t.log": "text\n", "sub/u.log": "text\n",
			})
			gitIn(t, dir, "init", "-q", "--object-format="+tc.format)
			gitIn(t, dir, "add", "-f", "a", "gen/kept", "gen/deep/er/kept", "t.log", "sub/t.log", "quiet", ".gitignore")
			gitIn(t, dir, "update-index", "--index-version", tc.version)
			if tc.version == "3" {
				gitIn(t, dir, "update-index", "--skip-worktree", "a") // which takes an extended entry
			}
			const want = "a gen/deep/er/kept gen/kept sub/t.log t.log"
			if got := foundIn(t, f, ""); got != want {
				t.Errorf("found %s", got)
			}
			if got := foundIn(t, f, "sub"); got != "sub/t.log" {
				t.Errorf("below: %s", got)
			}
			// Without its index nothing is tracked.
			os.WriteFile(filepath.Join(dir, ".git/index"), []byte("DIRC junk"), 0o644)
			if got := foundIn(t, f, ""); got != "a" {
				t.Errorf("damaged index: %s", got)
			}
		})
	}
}

// TestTrackedElsewhere: nested repositories, submodules and linked working trees
// have indexes of their own.
func TestTrackedElsewhere(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"main/a": "text\n", "main/t.log": "text\n", "main/.gitignore": "*.log\n", "lib/l.log": "text\n", "lib/x": "text\n"})
	for _, repo := range []string{"main", "lib"} {
		gitIn(t, filepath.Join(dir, repo), "init", "-q")
		gitIn(t, filepath.Join(dir, repo), "add", "-f", ".")
		gitIn(t, filepath.Join(dir, repo), "commit", "-qm", "x")
	}
	gitIn(t, dir+"/main", "submodule", "--quiet", "add", dir+"/lib", "mod")
	gitIn(t, dir+"/main", "worktree", "add", "-q", "../linked", "-b", "b")
	put(t, dir, map[string]string{"main/u.log": "text\n", "main/mod/u.log": "text\n", "linked/u.log": "text\n"})
	if got := foundIn(t, f, "main"); got != "main/a main/mod/l.log main/mod/x main/t.log" {
		t.Errorf("main: %s", got)
	}
	if got := foundIn(t, f, "linked"); got != "linked/a linked/t.log" {
		t.Errorf("linked: %s", got)
	}
	if got := foundIn(t, f, "main/mod"); got != "main/mod/l.log main/mod/x" {
		t.Errorf("mod: %s", got)
	}
}

// TestLeftOut: what was ignored or could not be read is counted, apart from what
// there was too much of.
func TestLeftOut(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"a.go": "text\n", "x.log": "text\n", "y.log": "text\n", "z.txt": "text\n", "ign/f": "text\n", ".gitignore": "*.log\nign/\n*.txt\n"})
	s, err := f.Search(ctx, SearchRequest{Pattern: "text"})
	wantCode(t, err, "")
	if s.Ignored != (Ignored{3, 1}) || s.Truncated || s.Unread.Count != 0 {
		t.Errorf("%+v", s)
	}
	s, err = f.Search(ctx, SearchRequest{Pattern: "text", Glob: "*.log"})
	wantCode(t, err, "")
	if s.Ignored != (Ignored{2, 1}) || s.Matches != 0 {
		t.Errorf("glob: %+v", s)
	}
	s, err = f.Search(ctx, SearchRequest{Pattern: "text", All: true})
	wantCode(t, err, "")
	if s.Ignored != (Ignored{}) || s.Matches != 5 {
		t.Errorf("all: %+v", s)
	}
	found, err := f.Find(ctx, FindRequest{Pattern: "*.txt"})
	wantCode(t, err, "")
	if found.Ignored != (Ignored{1, 1}) || found.Total != 0 || found.Truncated {
		t.Errorf("find: %+v", found)
	}
	var u Unread
	for _, n := range strings.Split("a b c d e f g", " ") {
		u.add(n)
	}
	if u.Count != 7 || len(u.Names) != 5 {
		t.Errorf("%+v", u)
	}
}

// TestUnreadable is for an ordinary user: root can read everything.
func TestUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root reads files of any mode; TestActAsOwner has this for a root server")
	}
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"a": "text\n", "nr": "text\n", "nope/x": "text\n"})
	os.Chmod(dir+"/nr", 0)
	os.Chmod(dir+"/nope", 0)
	t.Cleanup(func() { os.Chmod(dir+"/nope", 0o755) })
	s, err := f.Search(ctx, SearchRequest{Pattern: "text"})
	wantCode(t, err, "")
	slices.Sort(s.Unread.Names)
	if s.Truncated || s.Matches != 1 || strings.Join(s.Unread.Names, " ") != "nope nr" {
		t.Errorf("search: %+v", s)
	}
	found, err := f.Find(ctx, FindRequest{Pattern: "*"})
	wantCode(t, err, "")
	if found.Truncated || found.Total != 2 || strings.Join(found.Unread.Names, " ") != "nope" {
		t.Errorf("find: %+v", found)
	}
	list, err := f.List(ctx, ListRequest{Depth: 2})
	wantCode(t, err, "")
	if list.Truncated || len(list.Entries) != 3 || strings.Join(list.Unread.Names, " ") != "nope" {
		t.Errorf("list: %+v", list)
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte("DIRC\x00\x00\x00\x02\x00\x00\x00\x01" + strings.Repeat("\x00", 62) + "a\x00" + strings.Repeat("\x00", 40)))
	f.Add([]byte("DIRC\x00\x00\x00\x04\x00\x00\x00\x02" + strings.Repeat("\x00", 62) + "\x00ab\x00" + strings.Repeat("\x00", 62) + "\x01c\x00" + strings.Repeat("\x00", 40)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		names, err := indexNames(raw)
		if err != nil && names != nil || !slices.IsSorted(names) || slices.Contains(names, "") {
			t.Fatalf("%q %v", names, err)
		}
	})
}
