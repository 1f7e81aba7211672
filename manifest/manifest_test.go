package manifest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mcp-sandbox/deny"
	"mcp-sandbox/sandbox"
)

func TestRefusals(t *testing.T) {
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
		_, err := Parse([]byte(tc.text), false, "/base")
		if sandbox.CodeOf(err) != tc.code || err != nil && !strings.Contains(err.Error(), tc.mention) {
			t.Errorf("%s\n\t%v, want %s ... %s", tc.text, err, tc.code, tc.mention)
		}
	}
}

func TestFormsAgree(t *testing.T) {
	fromTOML, err := Parse([]byte(`
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
	fromJSON, err := Parse([]byte(`{"version": 1, "exposed_ports": [8000],
		"environment": {"A": "x", "B": {"from_env": "HOME", "description": "d"}},
		"extra_path_grants": [{"path": "/opt/data", "read_only": true}],
		"entries": {"a/b": {"type": "file", "content": "x", "permissions": "0600"},
			"d": {"type": "dir", "children": {"c": {"type": "local_file", "src": "s", "ephemeral": true}}}}}`), false, "/base")
	if err != nil {
		t.Fatal(err)
	}
	key := []byte("k")
	if fromTOML.Digest(key) != fromJSON.Digest(key) {
		t.Error("TOML and JSON of the same are not the same")
	}
	if fromTOML.Digest(key) == fromTOML.Digest([]byte("other")) {
		t.Error("the digest has no key")
	}
	if got := fromTOML.Ephemeral(); len(got) != 1 || got[0] != "d/c" {
		t.Errorf("ephemeral: %v", got)
	}
	if _, err := Parse([]byte("a = 1979-05-27\n"), true, "/"); sandbox.CodeOf(err) != "invalid_argument" {
		t.Error(err)
	}
}

func TestDescribe(t *testing.T) {
	m, err := Parse([]byte(`{"entries": {
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
├── a\x1b[31m    # /w/a\x1b[31m
├── b/           # /w/b: things
│   └── c/       # /w/b/c
└── src/         # /w/src
    └── main.go  # /w/src/main.go: the program
/opt/data        # granted, read-only: numbers
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := m.Describe("/w", 0); sandbox.CodeOf(err) != "invalid_argument" {
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
		m, err := Parse(b, isTOML, "/base")
		if err != nil {
			if sandbox.CodeOf(err) == "" {
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

// TestCopiesNothingHidden: an entry does not copy what the session may
// not read, nor what lies in the server's own directory.
func TestCopiesNothingHidden(t *testing.T) {
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
	a := &applier{Target: Target{Hidden: list}, manifest: &Manifest{base: base}}
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

// TestCopyOfItself: a directory that holds the workspace is not copied into it
// without end.
func TestCopyOfItself(t *testing.T) {
	base := t.TempDir()
	into := filepath.Join(base, "a", "ws")
	if err := os.MkdirAll(filepath.Join(into, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	tree, err := os.OpenRoot(into)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	a := &applier{manifest: &Manifest{base: base}}
	for _, src := range []string{"a", "."} {
		from, err := a.source(item{Entry{Src: src}, "x"})
		if err != nil {
			t.Fatal(err)
		}
		err = a.copyDir(t.Context(), tree, item{Entry{}, "x"}, from, false)
		from.Close()
		if sandbox.CodeOf(err) != "invalid_argument" || !strings.Contains(err.Error(), "holds the workspace") {
			t.Errorf("%s: %v", src, err)
		}
	}
}
