package workspace

import (
	"archive/tar"
	"context"
	"os"
	"path/filepath"
	"testing"
)

// TestBareByFileTools: no file tool makes a git directory, in one call or together
// with what is there, and names that only look like one stay usable.
func TestBareByFileTools(t *testing.T) {
	write := func(p string) func(*FS, string) error {
		return func(f *FS, _ string) error {
			_, err := f.WriteFile(context.Background(), WriteRequest{Path: p, Content: []byte("x")})
			return err
		}
	}
	extract := func(names ...string) func(*FS, string) error {
		return func(f *FS, dir string) error {
			var members []tar.Header
			for _, n := range names {
				members = append(members, tar.Header{Name: n, Mode: 0o644})
			}
			if err := os.WriteFile(filepath.Join(dir, "a.tar"), tarOf(t, members...), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := f.Extract(context.Background(), ExtractRequest{Path: "a.tar", Destination: "y"})
			return err
		}
	}
	for name, c := range map[string]struct {
		there   []string
		do      func(*FS, string) error
		refused bool
	}{
		"missing parents":           {[]string{"y/refs/", "y/HEAD"}, write("y/objects/x"), true},
		"HEAD last":                 {[]string{"y/refs/", "y/objects/"}, write("y/HEAD"), true},
		"HEAD before the third":     {[]string{"y/refs/"}, write("y/HEAD"), true},
		"config of half a one":      {[]string{"y/HEAD"}, write("y/config"), true},
		"a member completes":        {[]string{"y/refs/", "y/HEAD"}, extract("objects/x"), true},
		"members complete together": {[]string{"y/HEAD"}, extract("objects/x", "refs/x"), true},
		"an archive of one":         {nil, extract("HEAD", "objects/x", "refs/x"), true},
		"one below":                 {nil, extract("d/objects/x", "d/refs/x", "d/HEAD"), true},
		"a file called head":        {nil, write("head"), false},
		"a file called HEAD":        {[]string{"y/other"}, write("y/HEAD"), false},
		"objects and refs":          {nil, extract("objects/x", "refs/x"), false},
		"refs of a .git":            {[]string{"y/.git/refs/", "y/.git/objects/", "y/.git/HEAD"}, write("y/.git/refs/heads/x"), false},
		"HEAD of a .git":            {[]string{"y/.git/refs/", "y/.git/objects/"}, write("y/.git/HEAD"), false},
		"a .git file by file":       {[]string{"y/.git/HEAD"}, write("y/.git/objects/ab/c"), false},
		"another directory's HEAD":  {nil, extract("HEAD", "objects/x", "d/refs/x"), false},
	} {
		t.Run(name, func(t *testing.T) {
			f, dir, _ := newFS(t, Options{Protect: []string{".git/hooks", ".git/config"}})
			for _, p := range c.there {
				at := filepath.Join(dir, p)
				if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
					t.Fatal(err)
				}
				if p[len(p)-1] == '/' {
					os.MkdirAll(at, 0o755)
				} else if err := os.WriteFile(at, nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := c.do(f, dir)
			switch {
			case c.refused:
				wantCode(t, err, codeProtected)
			case err != nil:
				t.Error(err)
			}
			complete := true
			for _, n := range []string{"HEAD", "objects", "refs"} {
				if _, err := os.Lstat(filepath.Join(dir, "y", n)); err != nil {
					complete = false
				}
			}
			if complete {
				t.Error("a git directory was made")
			}
		})
	}
}

// TestDataOfGitByFileTools: what file tools alone may not change, at any depth, a restore
// may.
func TestDataOfGitByFileTools(t *testing.T) {
	f, dir, _ := newFS(t, Options{Protect: []string{"**/.git/hooks"}, ProtectData: []string{"**/.git/*", "!**/.git/info/exclude"}})
	for _, d := range []string{"n/.git/objects/pack", "n/.git/info"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{
		"n/.git/objects/pack/x", "n/.git/rebase-merge/git-rebase-todo", "n/.git/index.lock", "n/.GIT/lfs", "n/.git/info/exclude/x", "n/.git/info/excluded",
		"n/.git/.git/info/exclude", "n/.git/objects/.git/info/exclude",
	} {
		_, err := f.WriteFile(context.Background(), WriteRequest{Path: p, Content: []byte("exec x")})
		wantCode(t, err, codeProtected)
		if f.Rules(context.Background()).Protects(p) {
			t.Errorf("a restore may not change %s", p)
		}
	}
	for _, p := range []string{"n/.git/objects", "n/.git/objects/pack", "n/.git/info", "n/.git", "n"} {
		_, err := f.Remove(context.Background(), p, true)
		wantCode(t, err, codeProtected)
	}
	for _, p := range []string{"n/.git/info/exclude", "n/.gitignore", "n/.github/lfs", "n/git/x"} {
		if _, err := f.WriteFile(context.Background(), WriteRequest{Path: p, Content: []byte("x")}); err != nil {
			t.Error(err)
		}
	}
}
