package session

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mcp-sandbox/manifest"
)

// source is a directory of things to copy.
func sourceDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for p, mode := range map[string]os.FileMode{"src/plain": 0o640, "src/tool": 0o750, "src/deep/er/x": 0o644, "linked/real/f": 0o644, "odd/f": 0o644} {
		p = filepath.Join(dir, p)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(filepath.Base(p)), mode), os.Chmod(p, mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.Mkdir(filepath.Join(dir, "src", "empty"), 0o755),
		os.Symlink("real", filepath.Join(dir, "linked", "alias")),
		os.Symlink("/etc/passwd", filepath.Join(dir, "passwd")),
		syscall.Mkfifo(filepath.Join(dir, "odd", "fifo"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	return dir
}

func applied(t *testing.T, text, base string, c Config) (*world, *Manager, *Session, error) {
	t.Helper()
	man, err := manifest.Parse([]byte(text), false, base)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	c.Manifest = man
	m := w.manager(c)
	s, err := m.Get(t.Context(), "k")
	return w, m, s, err
}

func TestManifestApply(t *testing.T) {
	base := sourceDir(t)
	_, m, s, err := applied(t, `{"entries": {
		"f": {"type": "file", "content": "text"},
		"bin": {"type": "file", "content_base64": "`+base64.StdEncoding.EncodeToString([]byte{0, 0xff, '\n'})+`", "permissions": "0o600"},
		"-x": {"type": "file", "content": "a dash", "permissions": "0755"},
		"d": {"type": "dir", "permissions": "0700", "children": {"e/f": {"type": "file", "content": "below"}}},
		"tree": {"type": "local_dir", "src": "src"},
		"tree/plain": {"type": "file", "content": "over"},
		"none": {"type": "local_dir"},
		"one": {"type": "local_file", "src": "`+base+`/src/tool"}}}`, base, Config{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	err = filepath.WalkDir(s.Root(), func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == s.Root() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(s.Root(), p)
		got[rel] = fmt.Sprintf("%04o", fi.Mode().Perm())
		if d.Type().IsRegular() {
			b, err := os.ReadFile(p)
			got[rel] += " " + string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"f": "0644 text", "bin": "0600 \x00\xff\n", "-x": "0755 a dash", "d": "0700", "d/e": "0755", "d/e/f": "0644 below",
		"tree": "0755", "tree/plain": "0644 over", "tree/tool": "0755 tool", "tree/deep": "0755", "tree/deep/er": "0755",
		"tree/deep/er/x": "0644 x", "tree/empty": "0755", "none": "0755", "one": "0755 tool",
	}
	for p, v := range want {
		if got[p] != v {
			t.Errorf("%s: %q, want %q", p, got[p], v)
		}
		delete(got, p)
	}
	if len(got) > 0 {
		t.Errorf("and more: %v", got)
	}
	if len(s.receipts) != 9 {
		t.Errorf("%d receipts", len(s.receipts))
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestManifestSources: what may not be copied, with the code; nothing is left of
// the entries that could be.
func TestManifestSources(t *testing.T) {
	base := sourceDir(t)
	outside := t.TempDir()
	for _, tc := range []struct{ entry, code, mention string }{
		{`"type": "local_file", "src": "nothing"`, "not_found", "does not exist"},
		{`"type": "local_file", "src": "src"`, "unsupported_file_type", "not a regular file"},
		{`"type": "local_dir", "src": "src/plain"`, "not_a_directory", "not a directory"},
		{`"type": "local_file", "src": "passwd"`, "unsupported_file_type", "symbolic link"},
		{`"type": "local_file", "src": "linked/alias/f"`, "unsupported_file_type", "symbolic link"},
		{`"type": "local_dir", "src": "linked"`, "unsupported_file_type", "symbolic link"},
		{`"type": "local_dir", "src": "odd"`, "unsupported_file_type", "regular file"},
		{`"type": "local_file", "src": "odd/fifo"`, "unsupported_file_type", "regular file"},
		{`"type": "local_file", "src": "../x"`, "permission_denied", "outside_base_dir"},
		{`"type": "local_dir", "src": "` + outside + `"`, "permission_denied", "outside_base_dir"},
		{`"type": "local_file", "src": "/etc/passwd"`, "permission_denied", "outside_base_dir"},
	} {
		project := t.TempDir()
		w, _, _, err := applied(t, `{"entries": {"a": {"type": "file", "content": "x"}, "b": {`+tc.entry+`}}}`, base, Config{Root: project})
		if codeOf(err) != tc.code || !strings.Contains(fmt.Sprint(err), tc.mention) {
			t.Errorf("%s: %v, want %s ... %s", tc.entry, err, tc.code, tc.mention)
		}
		w.empty(project)
		w.empty(filepath.Join(w.state, "sessions"))
		if len(w.launcher.made) != 0 {
			t.Errorf("%s: a sandbox was made", tc.entry)
		}
	}
	// A grant opens its path to sources.
	if err := os.WriteFile(filepath.Join(outside, "f"), []byte("granted"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, m, s, err := applied(t, `{"extra_path_grants": [{"path": "`+outside+`", "read_only": true}], "entries": {"f": {"type": "local_file", "src": "`+outside+`/f"}}}`, base, Config{})
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, s, "cat f"); got != "granted" {
		t.Errorf("%q", got)
	}
	_, err = s.Files().Mkdir(t.Context(), filepath.Join(outside, "new"), false)
	wantCode(t, err, "permission_denied")
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestManifestInAPersonsDir: nothing of theirs is lost, ours is undone when a
// later move cannot be made, and only our own ephemeral entries are replaced.
func TestManifestInAPersonsDir(t *testing.T) {
	text := `{"entries": {"a/new": {"type": "file", "content": "ours"}, "a/old": {"type": "file", "content": "ours"}, "eph": {"type": "dir", "ephemeral": true, "children": {"x": {"type": "file", "content": "1"}}}}}`
	project := t.TempDir()
	write := func(p, content string) {
		t.Helper()
		p = filepath.Join(project, p)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	read := func(p string) string {
		b, err := os.ReadFile(filepath.Join(project, p))
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	write("a/old", "theirs")
	w, m, s, err := applied(t, text, project, Config{Root: project})
	if err != nil {
		t.Fatal(err)
	}
	if read("a/old") != "theirs" || read("a/new") != "ours" || read("eph/x") != "1" {
		t.Errorf("%q %q %q", read("a/old"), read("a/new"), read("eph/x"))
	}
	run(t, s, "echo mess > eph/x; echo more > eph/y; rm a/new")
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	// The next session of the same server makes it anew, since it was its own.
	m = w.manager(m.Config())
	if _, err := m.Get(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if read("eph/x") != "1" || read("a/old") != "theirs" {
		t.Errorf("%q %q", read("eph/x"), read("a/old"))
	}
	if _, err := os.Stat(filepath.Join(project, "eph/y")); !os.IsNotExist(err) {
		t.Error("an ephemeral directory keeps what was put in it")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}

	// Another server does not know it, and leaves it alone.
	write("eph/x", "theirs now")
	_, _, _, err = applied(t, text, project, Config{Root: project})
	wantCode(t, err, "already_exists")
	if read("eph/x") != "theirs now" {
		t.Errorf("%q", read("eph/x"))
	}

	// A kind in the way.
	if err := errors.Join(os.RemoveAll(filepath.Join(project, "eph")), os.RemoveAll(filepath.Join(project, "a"))); err != nil {
		t.Fatal(err)
	}
	write("a", "a file")
	_, _, _, err = applied(t, text, project, Config{Root: project})
	wantCode(t, err, "already_exists")
	if names, _ := os.ReadDir(project); len(names) != 1 {
		t.Errorf("left: %v", names)
	}
}

// TestManifestUndo fails in the middle of the moves.
func TestManifestUndo(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write into any directory, so the step cannot be made to fail by rights")
	}
	project := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(project, "locked"), 0o755), os.Chmod(filepath.Join(project, "locked"), 0o555)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(project, "locked"), 0o755) })
	w, _, _, err := applied(t, `{"entries": {"a": {"type": "file"}, "b/c": {"type": "file"}, "locked/d": {"type": "file"}}}`, project, Config{Root: project})
	wantCode(t, err, "permission_denied")
	if names, _ := os.ReadDir(project); len(names) != 1 {
		t.Errorf("left: %v", names)
	}
	w.empty(filepath.Join(w.state, "sessions"))
}

// TestManifestLinkInTheWay: a link in the workspace is never written through.
func TestManifestLinkInTheWay(t *testing.T) {
	outside, project := t.TempDir(), t.TempDir()
	if err := errors.Join(os.Symlink(outside, filepath.Join(project, "d")), os.Symlink(filepath.Join(outside, "x"), filepath.Join(project, "f"))); err != nil {
		t.Fatal(err)
	}
	w, _, _, err := applied(t, `{"entries": {"d/f": {"type": "file"}}}`, project, Config{Root: project})
	wantCode(t, err, "already_exists")
	w.empty(outside)
	w, m, _, err := applied(t, `{"entries": {"f": {"type": "file", "content": "x"}}}`, project, Config{Root: project})
	if err != nil {
		t.Fatal(err)
	}
	w.empty(outside)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestEnvironmentSources(t *testing.T) {
	base := t.TempDir()
	for body, code := range map[string]string{
		`{"from_env": "MCP_SANDBOX_TEST_NOT_SET"}`: "not_found",
		`{"from_file": "missing"}`:                 "not_found",
		`{"from_file": "."}`:                       "invalid_argument",
		`{"from_file": "nul"}`:                     "invalid_argument",
	} {
		if err := os.WriteFile(filepath.Join(base, "nul"), []byte("a\x00b"), 0o600); err != nil {
			t.Fatal(err)
		}
		w, _, _, err := applied(t, `{"environment": {"A": `+body+`}}`, base, Config{})
		wantCode(t, err, code)
		if err != nil && strings.Contains(err.Error(), base) {
			t.Errorf("a host path is shown: %v", err)
		}
		w.empty(w.temp)
	}
}
