package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/serve"
)

// TestMayShare: what several principals may not share, and how it is asked for.
func TestMayShare(t *testing.T) {
	for _, c := range []struct {
		name    string
		names   int
		root    string
		signals bool
		level   sandbox.Level
		asked   bool
		says    string // "" serves
	}{
		{"one principal", 1, "/work", true, "", false, ""},
		{"nobody in particular", 0, "/work", true, "", false, ""},
		{"two", 2, "", false, "", false, ""},
		{"two in one directory", 2, "/work", false, "", false, "root is one directory"},
		{"two at landlock before 6.12", 2, "", true, "", false, "commands of one can kill those of another"},
		{"the same, asked for", 2, "", true, "", true, ""},
		{"a directory stays refused", 2, "/work", true, "", true, "root is one directory"},
		{"without confinement, by name", 2, "", true, sandbox.LevelNone, false, ""},
	} {
		s := &settings{}
		s.session.Level, s.http.shareSignals = c.level, c.asked
		err := s.mayShare(make([]string, c.names), c.root, c.signals)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestMayShareAtReload: a token file that grows past what may be shared lets nobody
// in until it is right again, and one that was opened to others is refused.
func TestMayShareAtReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	write := func(mode os.FileMode, lines ...string) {
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(0o600, annsToken)
	p, err := serve.LoadPrincipals(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := &settings{}
	if err := p.Restrict(func(f serve.TokenFile) error { return s.mayShare(f.Names, "", true) }); err != nil {
		t.Fatal(err)
	}
	_, ann, _ := strings.Cut(annsToken, ":")
	for _, c := range []struct {
		mode  os.FileMode
		lines []string
		in    bool
	}{
		{0o600, []string{annsToken}, true}, {0o600, []string{annsToken, bobsToken}, false},
		{0o600, []string{annsToken}, true}, {0o644, []string{annsToken}, false},
	} {
		write(c.mode, c.lines...)
		p.Reload()
		if _, _, in := p.Lookup(ann); in != c.in {
			t.Errorf("%v %o: let in %v", c.lines, c.mode, in)
		}
	}
}
