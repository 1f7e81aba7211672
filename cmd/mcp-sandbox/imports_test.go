package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// leaves may be imported by every package, each with the reason. A leaf imports
// no other package of the product, so whoever imports it can still be read alone.
var leaves = map[string]string{
	"mcp-sandbox/sandbox":   "the nouns all packages speak of; without it each would be declared once per package and copied field by field",
	"mcp-sandbox/gitconfig": "what a session is told of the user, and what of a session reaches a repository, are read by one parser",
	"mcp-sandbox/deny":      "commands, file tools and snapshots read one policy through it",
	"mcp-sandbox/hostpath":  "grants are resolved by one reading wherever they are opened",
	"mcp-sandbox/treecopy":  "what an overlay refuses to rename is copied alike by commands' supervisor, snapshots and stages",
	"mcp-sandbox/fsuser":    "file tools and snapshots take the rights of a session's user by it",
}

// forbidden lists the import edges that must not come to be, each with what
// would be lost.
var forbidden = []struct{ from, to, why string }{
	{"ptyproc", "mcp-sandbox/", "processes are tested over any spawner; they must not know who confines or shows them"},
	{"workspace", "mcp-sandbox/", "the file layer is the one guard against links; it must be readable alone"},
	{"confine", "mcp-sandbox/", "the kernel side runs in the sandbox's init, which must start fast and do nothing else"},
	{"egress", "mcp-sandbox/", "the proxy judges hostile input; it must be readable alone"},
	{"gitconfig", "mcp-sandbox/", "a parser of hostile text; it must be readable alone"},
	{"deny", "mcp-sandbox/", "commands, file tools and snapshots read one policy through it; it must know none of them"},
	{"hostpath", "mcp-sandbox/", "a decision about paths alone"},
	{"fsuser", "mcp-sandbox/", "rights of a thread alone"},
	{"treecopy", "mcp-sandbox/", "it runs in the sandbox's init, too"},
	{"stage", "mcp-sandbox/", "what was staged is compared and applied without a session"},
	{"directory", "mcp-sandbox/", "what keeps two servers from running one session must be readable alone"},
	{"refusal", "mcp-sandbox/", "reading what programs print needs nothing else of the program"},
	{"tokens", "mcp-sandbox/", "counting text needs nothing else of the program"},
	{"audit", "mcp-sandbox/session", "a record is written for sessions, tools and commands alike; it must not know them"},
	{"audit", "mcp-sandbox/tools", "what a record says is decided by its caller"},
	{"audit", "mcp-sandbox/workspace", "the audit log is written by the server, never through a session's files"},
	{"manifest", "mcp-sandbox/session", "a manifest is read and applied without a session; whoever has a sandbox runs git for it"},
	{"manifest", "mcp-sandbox/tools", "no callback points upward"},
	{"manifest", "mcp-sandbox/confine", "confinement is wired in by cmd alone"},
	{"manifest", "mcp-sandbox/workspace", "entries are made below a directory descriptor of their own, before the file tools exist"},
	{"snapshot", "mcp-sandbox/session", "sessions use snapshots, not the other way"},
	{"snapshot", "mcp-sandbox/tools", "no callback points upward"},
	{"snapshot", "mcp-sandbox/confine", "confinement is wired in by cmd alone"},
	{"session", "mcp-sandbox/tools", "no callback points upward"},
	{"session", "mcp-sandbox/serve", "no callback points upward"},
	{"session", "mcp-sandbox/confine", "sessions know confinement as an interface, so that it can be swapped and tested apart"},
	{"session", "mcp-sandbox/egress", "wired in by cmd alone"},
	{"session", "mcp-sandbox/tokens", "what a reply looks like is decided in tools"},
	{"tools", "mcp-sandbox/serve", "a call says by tools.Caller how it came; tools know no transport"},
	{"serve", "mcp-sandbox/confine", "transports see tools and sessions, never the kernel"},
	{"serve", "mcp-sandbox/egress", "transports see tools and sessions, never the proxy"},
	{"serve", "mcp-sandbox/ptyproc", "what a call does is decided in tools"},
	{"serve", "mcp-sandbox/workspace", "what a call does is decided in tools"},
	{"serve", "mcp-sandbox/snapshot", "what a call does is decided in tools"},
	{"serve", "mcp-sandbox/tokens", "what a reply looks like is decided in tools"},
	{"tools", "mcp-sandbox/confine", "tools see a session, never the kernel"},
	{"tools", "mcp-sandbox/egress", "tools see a session, never the proxy"},
	{"tools", "mcp-sandbox/ptyproc", "tools reach processes through their session, which keys them by client"},
	{"tools", "mcp-sandbox/workspace", "tools reach files through their session, which keys them by client"},
	{"tools", "mcp-sandbox/snapshot", "tools reach snapshots through their session, which keys them by client"},
	{"session", "github.com/mark3labs/mcp-go", "the protocol stays in serve and tools"},
	{"ptyproc", "github.com/mark3labs/mcp-go", "the protocol stays in serve and tools"},
	{"workspace", "github.com/mark3labs/mcp-go", "the protocol stays in serve and tools"},
	{"snapshot", "github.com/mark3labs/mcp-go", "the protocol stays in serve and tools"},
	{"confine", "github.com/mark3labs/mcp-go", "the protocol stays in serve and tools"},
	{"tokens", "github.com/mark3labs/mcp-go", "the protocol stays in serve and tools"},
	{"cmd", "github.com/mark3labs/mcp-go", "the protocol stays in serve and tools"},
}

func TestForbiddenImports(t *testing.T) {
	root := filepath.Join("..", "..")
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && rel != "." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		dir, _, _ := strings.Cut(filepath.ToSlash(rel), "/")
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		files++
		for _, imp := range f.Imports {
			target, _ := strconv.Unquote(imp.Path.Value)
			if first, _, _ := strings.Cut(target, "/"); dir == "sandbox" && (first == "mcp-sandbox" || strings.Contains(first, ".")) {
				t.Errorf("%s imports %s: the leaf imports the standard library alone, since every package imports it", rel, target)
			}
			if leaves[target] != "" {
				continue
			}
			if target == "mcp-sandbox/"+dir || strings.HasPrefix(target, "mcp-sandbox/"+dir+"/") {
				continue // a package's own inner rooms
			}
			for _, f := range forbidden {
				if dir == f.from && strings.HasPrefix(target, f.to) {
					t.Errorf("%s imports %s: %s", rel, target, f.why)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Fatalf("only %d files read: the test looks in the wrong place", files)
	}
}

// TestDocsArchitecture holds the table of docs/architecture.md to the imports of the
// packages it names.
func TestDocsArchitecture(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	uses := map[string]string{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if name := strings.Trim(cells[min(1, len(cells)-1)], " `"); len(cells) == 5 {
			uses[name] = strings.TrimSpace(cells[3])
		}
	}
	dirs, _ := filepath.Glob(filepath.Join(root, "*", "*.go"))
	imports := map[string]map[string]bool{}
	for _, path := range dirs {
		dir := filepath.Base(filepath.Dir(path))
		if strings.HasSuffix(path, "_test.go") || dir == "bench" {
			continue
		}
		if imports[dir] == nil {
			imports[dir] = map[string]bool{}
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			target, _ := strconv.Unquote(imp.Path.Value)
			of, own := strings.CutPrefix(target, "mcp-sandbox/")
			of, _, _ = strings.Cut(of, "/")
			if own && of != "sandbox" && of != dir {
				imports[dir][of] = true
			}
		}
	}
	for dir, of := range imports {
		want := strings.Join(slices.Sorted(maps.Keys(of)), ", ")
		got, ok := uses[dir]
		if !ok {
			t.Errorf("docs/architecture.md has no row for %s, which uses %s", dir, want)
		} else if dir != "sandbox" && got != want {
			t.Errorf("docs/architecture.md says that %s uses %q, and it uses %q", dir, got, want)
		}
	}
}
