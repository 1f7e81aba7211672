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

	"mcp-sandbox/deny"
)

func TestManifestRefusals(t *testing.T) {
	entry := func(key, body string) string { return fmt.Sprintf(`{"entries": {%q: {%s}}}`, key, body) }
	file := `"type": "file"`
	for _, tc := range []struct{ text, code, mention string }{
		{`{}`, "", ""},
		{`{"version": 1}`, "", ""},
		{`{"version": 2}`, "invalid_argument", "version 2"},
		{`{"version": 1} {}`, "invalid_argument", "trailing data"},
		{`[]`, "invalid_argument", ""},
		{`{"entrees": {}}`, "invalid_argument", "entrees"},
		{`{"root": "work"}`, "invalid_argument", "not absolute"},
		{`{"users": ["u"]}`, "invalid_argument", "users"},
		{`{"groups": [{"name": "g"}]}`, "invalid_argument", "groups"},
		{`{"entries": {"a": {"type": "file"}, "a": {"type": "dir"}}}`, "invalid_argument", "twice"},
		{`{"version": 1, "Version": 1}`, "invalid_argument", "twice"},
		{`{"exposed_ports": [0]}`, "invalid_argument", "65535"},
		{`{"environment": {"A=B": "x"}}`, "invalid_argument", "A=B"},
		{`{"environment": {"A": "x\u0000"}}`, "invalid_argument", "NUL"},
		{`{"environment": {"A": {}}}`, "invalid_argument", "exactly one"},
		{`{"environment": {"A": {"value": "x", "from_env": "B"}}}`, "invalid_argument", "exactly one"},
		{`{"environment": {"A": {"secret": "x"}}}`, "invalid_argument", "secret"},
		{`{"extra_path_grants": [{"path": "rel"}]}`, "invalid_argument", "rel"},
		{`{"extra_path_grants": [{"path": "//"}]}`, "invalid_argument", "below /"},
		{`{"extra_path_grants": [{"path": "/a", "host_path": "/b"}]}`, "invalid_argument", "host_path"},
		{entry("a", file), "", ""},
		{entry(`a\\b`, file), "", ""},
		{entry("/a", file), "path_outside_workspace", "absolute"},
		{entry("C:/a", file), "path_outside_workspace", "absolute"},
		{entry(`\\\\host\\share`, file), "path_outside_workspace", "absolute"},
		{entry("a/../b", file), "path_outside_workspace", "escape_root"},
		{entry("..", file), "path_outside_workspace", "escape_root"},
		{entry(".", file), "invalid_argument", "workspace itself"},
		{entry("", file), "invalid_argument", "workspace itself"},
		{entry("a", ``), "invalid_argument", "no type"},
		{entry("a", `"type": "s3_mount"`), "invalid_argument", "mounts are not done"},
		{entry("a", `"type": "file", "src": "x"`), "invalid_argument", "src"},
		{entry("a", `"type": "dir", "content": "x"`), "invalid_argument", "content"},
		{entry("a", `"type": "file", "content": "x", "content_base64": "eA=="`), "invalid_argument", "both"},
		{entry("a", `"type": "file", "group": "g"`), "invalid_argument", "group"},
		{entry("a", `"type": "file", "permissions": "rwx"`), "invalid_argument", "octal"},
		{entry("a", `"type": "file", "permissions": "4755"`), "invalid_argument", "octal"},
		{entry("a", `"type": "file", "children": {"b": {"type": "file"}}`), "invalid_argument", "children"},
		{entry("a", `"type": "dir", "children": {"../b": {"type": "file"}}`), "path_outside_workspace", "escape_root"},
		{entry("a", `"type": "local_file"`), "invalid_argument", "no src"},
		{`{"entries": {"a": {"type": "file"}, "a/b": {"type": "file"}}}`, "invalid_argument", "is a file"},
		{`{"entries": {"a/b": {"type": "file"}, "a//b": {"type": "file"}}}`, "invalid_argument", "same path"},
		{entry("a", `"type": "git_repo"`), "invalid_argument", "owner/name"},
		{entry("a", `"type": "git_repo", "repo": "o/n", "ref": "main", "subpath": "x/y"`), "", ""},
		{entry("a", `"type": "git_repo", "repo": "o/n", "host": "git.example.com:8443"`), "", ""},
		{entry("a", `"type": "git_repo", "repo": "o/n", "host": "h/x"`), "invalid_argument", "host"},
		{entry("a", `"type": "git_repo", "repo": "o/n", "host": "user@h"`), "invalid_argument", "host"},
		{entry("a", `"type": "git_repo", "repo": "o/n", "host": "-h"`), "invalid_argument", "host"},
		{entry("a", `"type": "git_repo", "repo": "-o/n"`), "invalid_argument", "owner/name"},
		{entry("a", `"type": "git_repo", "repo": "o/../n"`), "invalid_argument", "owner/name"},
		{entry("a", `"type": "git_repo", "repo": "o/n?x"`), "invalid_argument", "owner/name"},
		{entry("a", `"type": "git_repo", "repo": "o/n", "ref": "--upload-pack=id"`), "invalid_argument", "dash"},
		{entry("a", `"type": "git_repo", "repo": "o/n", "ref": "a b"`), "invalid_argument", "ref"},
		{entry("a", `"type": "git_repo", "repo": "o/n", "ref": "a..b"`), "invalid_argument", "ref"},
		{entry("a", `"type": "git_repo", "repo": "o/n", "ref": "+a:b"`), "invalid_argument", "ref"},
		{entry("a", `"type": "git_repo", "repo": "o/n", "subpath": "/x"`), "invalid_argument", "absolute"},
		{entry("a", `"type": "git_repo", "repo": "o/n", "subpath": "x/../.."`), "invalid_argument", "parent_traversal"},
		{entry("a", `"type": "git_repo", "repo": "o/n", "subpath": "x\\y"`), "invalid_argument", "windows_path"},
		{entry("a", `"type": "git_repo", "repo": "o/n", "subpath": " "`), "invalid_argument", "empty"},
	} {
		_, err := ParseManifest([]byte(tc.text), false, "/base")
		if codeOf(err) != tc.code || err != nil && !strings.Contains(err.Error(), tc.mention) {
			t.Errorf("%s\n\t%v, want %s ... %s", tc.text, err, tc.code, tc.mention)
		}
	}
}

func TestManifestFormsAgree(t *testing.T) {
	fromTOML, err := ParseManifest([]byte(`
version = 1
exposed_ports = [8000]
[environment]
A = "x"
B = { from_env = "HOME", description = "d" }
[[extra_path_grants]]
path = "/opt/data"
read_only = true
[entries."a/b"]
type = "file"
content = "x"
permissions = "0600"
[entries.d]
type = "dir"
[entries.d.children.c]
type = "local_file"
src = "s"
ephemeral = true
`), true, "/base")
	if err != nil {
		t.Fatal(err)
	}
	fromJSON, err := ParseManifest([]byte(`{"version": 1, "exposed_ports": [8000],
		"environment": {"A": "x", "B": {"from_env": "HOME", "description": "d"}},
		"extra_path_grants": [{"path": "/opt/data", "read_only": true}],
		"entries": {"a/b": {"type": "file", "content": "x", "permissions": "0600"},
			"d": {"type": "dir", "children": {"c": {"type": "local_file", "src": "s", "ephemeral": true}}}}}`), false, "/base")
	if err != nil {
		t.Fatal(err)
	}
	key := []byte("k")
	if fromTOML.digest(key) != fromJSON.digest(key) {
		t.Error("TOML and JSON of the same are not the same")
	}
	if fromTOML.digest(key) == fromTOML.digest([]byte("other")) {
		t.Error("the digest has no key")
	}
	if got := fromTOML.ephemeral(); len(got) != 1 || got[0] != "d/c" {
		t.Errorf("ephemeral: %v", got)
	}
	if _, err := ParseManifest([]byte("a = 1979-05-27\n"), true, "/"); codeOf(err) != "invalid_argument" {
		t.Error(err)
	}
}

// source is a folder of things to copy.
func sourceFolder(t *testing.T) string {
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
	man, err := ParseManifest([]byte(text), false, base)
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
	base := sourceFolder(t)
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
	base := sourceFolder(t)
	outside := t.TempDir()
	for _, tc := range []struct{ entry, code, mention string }{
		{`"type": "local_file", "src": "nothing"`, "not_found", "does not exist"},
		{`"type": "local_file", "src": "src"`, "unsupported_file_type", "no plain file"},
		{`"type": "local_dir", "src": "src/plain"`, "not_a_directory", "no folder"},
		{`"type": "local_file", "src": "passwd"`, "unsupported_file_type", "symbolic link"},
		{`"type": "local_file", "src": "linked/alias/f"`, "unsupported_file_type", "symbolic link"},
		{`"type": "local_dir", "src": "linked"`, "unsupported_file_type", "symbolic link"},
		{`"type": "local_dir", "src": "odd"`, "unsupported_file_type", "plain file"},
		{`"type": "local_file", "src": "odd/fifo"`, "unsupported_file_type", "plain file"},
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
	if g := s.Files().Grants(); len(g) != 1 || !g[0].ReadOnly {
		t.Errorf("grants: %+v", g)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestManifestInAPersonsFolder: nothing of theirs is lost, ours is undone when a
// later move cannot be made, and only our own ephemeral entries are replaced.
func TestManifestInAPersonsFolder(t *testing.T) {
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
		t.Error("an ephemeral folder keeps what was put in it")
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
		t.Skip("root may write into any folder, so the step cannot be made to fail by rights")
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

func TestDescribe(t *testing.T) {
	m, err := ParseManifest([]byte(`{"entries": {
		"src/main.go": {"type": "file", "description": "the program"},
		"b": {"type": "dir", "description": "things", "children": {"c": {"type": "dir", "children": {"deep": {"type": "file"}}}}},
		"a\u001b[31m": {"type": "file"}},
		"extra_path_grants": [{"path": "/opt/data", "read_only": true, "description": "numbers"}]}`), false, "/")
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.Describe("/w", 2)
	if err != nil {
		t.Fatal(err)
	}
	want := `/w
├── a?[31m       # /w/a?[31m
├── b/           # /w/b: things
│   └── c/       # /w/b/c
└── src/         # /w/src
    └── main.go  # /w/src/main.go: the program
/opt/data        # granted, read-only: numbers
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := m.Describe("/w", 0); codeOf(err) != "invalid_argument" {
		t.Error(err)
	}
	big := &Manifest{Entries: map[string]Entry{}}
	for i := range 500 {
		big.Entries[fmt.Sprintf("file%03d", i)] = Entry{Type: "file"}
	}
	got, err = big.Describe("/w", 1)
	if err != nil || len([]rune(got)) > maxDescription+40 || !strings.Contains(got, "characters cut") {
		t.Errorf("%d characters, %v", len([]rune(got)), err)
	}
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"entries": {"a": {"type": "file", "content": "x"}}}`), false)
	f.Add([]byte("[entries.a]\ntype = \"dir\"\n"), true)
	f.Fuzz(func(t *testing.T, b []byte, isTOML bool) {
		m, err := ParseManifest(b, isTOML, "/base")
		if err != nil {
			if codeOf(err) == "" {
				t.Errorf("an error without a code: %v", err)
			}
			return
		}
		items, err := m.flatten()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range items {
			if !filepath.IsLocal(e.path) {
				t.Errorf("the path %q leads out", e.path)
			}
		}
		if _, err := m.Describe("/w", 3); err != nil {
			t.Error(err)
		}
	})
}

// TestManifestCopiesNothingHidden: an entry does not copy what the session may
// not read, nor what lies in the server's own folder.
func TestManifestCopiesNothingHidden(t *testing.T) {
	base, root := t.TempDir(), t.TempDir()
	for _, f := range []string{"d/key", "d/open"} {
		if err := os.MkdirAll(filepath.Join(base, "d"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(base, f), []byte(f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	list, err := deny.Parse([]string{base + "/d/key"}, root, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &applier{manifest: &Manifest{base: base}, hidden: list}
	if f, err := a.source(item{Entry{Src: "d/key"}, "x"}); err == nil {
		f.Close()
		t.Error("a hidden source was opened")
	}
	from, err := a.source(item{Entry{Src: "d"}, "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	tree, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if err := tree.Mkdir("x", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := a.copyDir(t.Context(), tree, item{Entry{}, "x"}, from, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(root + "/x/key"); !os.IsNotExist(err) {
		t.Error("a hidden file was copied")
	}
	if _, err := os.Stat(root + "/x/open"); err != nil {
		t.Error(err)
	}
}
