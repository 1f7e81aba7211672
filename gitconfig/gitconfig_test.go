package gitconfig

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var samples = []string{
	"",
	"[core]\n\tbare = false\n[remote \"origin\"]\n\turl = https://example.com/a.git\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n",
	"[core] bare = true\n; c\n# d\n[a.B]\nx\ny=\nz = \"a # b\" c ; d\n",
	"[a \"q\\\"u\\\\o\"]\n  k = one \\\n two\n  k = \"tab\\tq\\\"\"  \n",
	"\ufeff[a]\r\n\tk = v\r\n[A]\n\tK2 = w",
	"[alias]\n\tx = !sh -c 'echo \\\"hi\\\"'\n[include]\n\tpath = ~/x\n",
}

// What git reads is what Parse reads, before and after Set.
func TestAgreesWithGit(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("no git")
	}
	file := filepath.Join(t.TempDir(), "config")
	list := func(text string) []string {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(git, "config", "--file", file, "--null", "--list", "--no-includes").Output()
		if err != nil {
			t.Fatalf("git refuses %q: %v", text, err)
		}
		return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	}
	ours := func(f *File) []string {
		out := []string{}
		for _, e := range f.Entries() {
			s := e.Name()
			if !e.Bare {
				s += "\n" + e.Value
			}
			out = append(out, s)
		}
		if len(out) == 0 {
			out = []string{""}
		}
		return out
	}
	for _, text := range samples {
		f, err := Parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got, want := ours(f), list(text); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, git has %q", text, got, want)
		}
		for _, v := range []string{"plain", " blanks ", "a;b#c", `q"u\o`, "tab\there", ""} {
			for _, at := range [][3]string{{"remote", "origin", "url"}, {"a", "", "k"}, {"new", `x"y\z`, "key"}} {
				g, _ := Parse(text)
				if err := g.Set(at[0], at[1], at[2], []string{v, "second"}); err != nil {
					t.Fatal(err)
				}
				if got := g.Values(at[0], at[1], at[2]); !slices.Equal(got, []string{v, "second"}) {
					t.Errorf("%q: set %v to %q, got %q", text, at, v, got)
				}
				if got, want := ours(g), list(g.Text()); !slices.Equal(got, want) {
					t.Errorf("%q: got %q, git has %q", g.Text(), got, want)
				}
				if err := g.Set(at[0], at[1], at[2], nil); err != nil || len(g.Values(at[0], at[1], at[2])) != 0 {
					t.Errorf("%q: %v is not removed: %v", text, at, err)
				}
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"x = 1\n", "[a\n", "[a]\nk = \"open\n", "[a]\nk = \\q\n", "[]\n", "[a]\n= 1\n", "[a \"b]\nk=1\n", "[a]\nk v\n"} {
		if f, err := Parse(text); err == nil {
			t.Errorf("%q was read as %v", text, f.Entries())
		}
	}
	f, _ := Parse("")
	if err := f.Set("a", "", "k", []string{"x\n[core]\n\tfsmonitor = evil"}); err == nil {
		t.Error("a value with a line end was set")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range samples {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(text)
		if err != nil {
			return
		}
		before := len(c.Entries())
		if err := c.Set("remote", "x", "url", []string{"v"}); err != nil {
			t.Fatal(err)
		}
		if got := c.Values("remote", "x", "url"); len(got) != 1 || got[0] != "v" || len(c.Entries()) > before+1 {
			t.Fatalf("%q became %q", text, c.Text())
		}
	})
}

func TestReadUser(t *testing.T) {
	home := t.TempDir()
	write := func(name, text string) {
		p := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if u := ReadUser(home, ""); u != (User{}) {
		t.Errorf("got %+v of an empty home", u)
	}
	write(".config/git/config", "[user]\n\tname = Xdg\n\temail = x@example.com\n[init]\n\tdefaultBranch = trunk\n")
	write(".gitconfig", "[include]\n\tpath = more\n[core]\n\tpager = evil\n\texcludesFile = ~/ignored\n[credential]\n\thelper = evil\n")
	write("more", "[user]\n\tname = Included Name\n\tsigningKey = secret\n")
	write("ignored", "*.log\n")
	want := User{Name: "Included Name", Email: "x@example.com", DefaultBranch: "trunk", Ignore: "*.log\n"}
	u := ReadUser(home, "")
	if u != want {
		t.Errorf("got %+v, want %+v", u, want)
	}
	if got := u.Text(); got != "[user]\n\temail = x@example.com\n\tname = Included Name\n[init]\n\tdefaultBranch = trunk\n" {
		t.Errorf("the session's file is %q", got)
	}
	for s, ok := range map[string]bool{"A B <a@b>": true, "<a@b>": false, "A": false, "A <>": false, "A <a@b> x": false, "A\nB <a@b>": false} {
		if _, _, got := ParseUser(s); got != ok {
			t.Errorf("ParseUser(%q) is %v", s, got)
		}
	}
}
