package deny

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestCovers(t *testing.T) {
	const root, grant = "/w/my.key/proj", "/g"
	for _, c := range []struct {
		patterns string
		path     string
		want     bool
	}{
		{"/w/my.key/proj/s", root + "/s", true},
		{"/w/my.key/proj/s", root + "/s/below", true},
		{"/w/my.key/proj/s", root + "/sx", false},
		{"/w/my.key/proj/s", root + "/S", true},
		{"secret.env", root + "/secret.env", true},
		{"./secret.env/", root + "/secret.env", true},
		{"secret.env", root + "/a/secret.env", false},
		{"secret.env", grant + "/secret.env", false},
		{"*.key", root + "/a/b.key", true},
		{"*.key", root + "/b.key", true},
		{"*.key", root + "/dir.key/file", true},
		{"*.key", root + "/plain", false}, // the root's own path is no reason
		{"*.key", grant + "/x/b.KEY", true},
		{"*.key", "/elsewhere/b.key", false},
		{"**/.env", root + "/.env", true},
		{"**/.env", root + "/a/b/.env", true},
		{"**/.env", root + "/a/.envx", false},
		{"**/.aws/credentials", root + "/x/.aws/credentials", true},
		{"**/.aws/credentials", root + "/x/credentials", false},
		{"conf/*.yml", root + "/conf/a.yml", true},
		{"conf/*.yml", root + "/x/conf/a.yml", false},
		{"conf/*.yml", grant + "/conf/a.yml", false},
		{"conf/**", root + "/conf/a/b", true},
		{"conf/**/k", root + "/conf/a/b/k", true},
		{"/g/**/*.pem", grant + "/a/b.pem", true},
		{"/g/**/*.pem", root + "/a/b.pem", false},
		{"{a,b}.txt", root + "/x/b.txt", true},
		{"/w", root + "/s", false}, // holds the workspace
		{"/w", "/w/other", true},
	} {
		l, err := Parse([]string{c.patterns}, root, []string{grant})
		if err != nil {
			t.Errorf("%s: %v", c.patterns, err)
			continue
		}
		if got := l.Covers(c.path); got != c.want {
			t.Errorf("%s covers %s: %v, want %v", c.patterns, c.path, got, c.want)
		}
		if dir := filepath.Dir(c.path); !l.Covers(dir) && l.CoversEntry(dir, filepath.Base(c.path)) != c.want {
			t.Errorf("%s covers the entry %s: %v, want %v", c.patterns, c.path, !c.want, c.want)
		}
	}
}

func TestSecrets(t *testing.T) {
	l, err := Parse(Secrets(), "/w", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		".env": true, ".env.local": true, ".envrc": true, ".env.example": false, ".env.example.local": true,
		"server.pem": true, "tls.key": true, "cacert.pem": false, "api-cert.pem": false, "id_rsa": true, "id_rsa.pub": false,
		".aws/credentials": true, "main.go": false, "keyboard.go": false, "service-account-prod.json": true,
	} {
		for _, dir := range []string{"/w/", "/w/a/b/"} {
			if got := l.Covers(dir + name); got != want {
				t.Errorf("%s%s: %v, want %v", dir, name, got, want)
			}
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for _, p := range []string{"", "!", "a\x00b", "/", "../x", "a/../b", "**", "*", "**/*", "[a", "!a/b", "/**"} {
		if err := Check(p); err == nil {
			t.Errorf("%q is accepted", p)
		}
	}
}

func TestScanFindsHardLinksAndNames(t *testing.T) {
	root := t.TempDir()
	if r, err := filepath.EvalSymlinks(root); err == nil {
		root = r
	}
	grant := t.TempDir()
	for _, f := range []string{"a/.env", "b/plain", "c/x.pem", "lit"} {
		p := filepath.Join(root, f)
		os.MkdirAll(filepath.Dir(p), 0o755)
		os.WriteFile(p, []byte(f), 0o644)
	}
	os.Link(filepath.Join(root, "a/.env"), filepath.Join(root, "b/linked"))
	os.Link(filepath.Join(root, "lit"), filepath.Join(root, "c/lit2"))
	os.WriteFile(filepath.Join(grant, "y.pem"), nil, 0o644)
	os.Symlink(root, filepath.Join(root, "loop"))
	l, err := Parse([]string{"**/.env", "*.pem", "lit"}, root, []string{grant})
	if err != nil {
		t.Fatal(err)
	}
	found, err := l.Scan(context.Background())
	if err != nil || found.Partial {
		t.Fatal(found, err)
	}
	var got []string
	for _, m := range found.Matches {
		rel, _ := filepath.Rel(root, m.Path)
		if filepath.Dir(m.Path) == grant {
			rel = "grant/" + filepath.Base(m.Path)
		}
		got = append(got, rel)
	}
	slices.Sort(got)
	want := []string{"a/.env", "b/linked", "c/lit2", "c/x.pem", "grant/y.pem", "lit"}
	if !slices.Equal(slices.Compact(got), want) {
		t.Errorf("found %q, want %q", got, want)
	}
}
