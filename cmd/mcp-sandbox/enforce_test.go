package main

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"mcp-sandbox/sandbox"
)

// The table of who enforces what: every field of sandbox.Policy and of its
// Limits, for each of the policy's users. policyRows in doors_test.go then walks
// the promises about files at every door.
//
// To add a field: give it a row, and say for each user where its code reads the
// field ("p.Field", an expression that must occur in the user's sources), or
// "-: " and why this user has nothing to enforce. TestEveryFieldIsEnforced fails
// until every user has an answer, and when one that claims to read the field
// does not.
//
// To add a user, such as another package that opens files: append it to
// policyUsers and answer for it in each row.
var policyUsers = []struct {
	name, dir, goos string
}{
	{"commands on Linux", "confine", "linux"},
	{"commands on macOS", "confine", "darwin"},
	{"file tools and snapshots", "session", "linux"},
}

var enforced = map[string][]string{
	"Workspace":      {"p.Workspace", "p.Workspace", "p.Workspace"},
	"WorkspaceFile":  {"p.WorkspaceFile", "p.WorkspaceFile", "-: workspace.Open looks at the identity itself, and the session compares it"},
	"WorkspaceName":  {"p.WorkspaceName", "-: commands see the host's own links there", "-: a root is recognised under every name that leads to it"},
	"WorkspaceAlias": {"p.WorkspaceAlias", "-: macOS has no file system per session", "p.WorkspaceAlias"},
	"UID":            {"p.UID", "p.UID", "-: files are made as the owner of the workspace, whom -1 stands for"},
	"GID":            {"p.GID", "p.GID", "-: as UID"},
	"AllowRoot":      {"p.AllowRoot", "p.AllowRoot", "-: they do as the sandbox's Owner says, which comes of it"},
	"Home":           {"p.Home", "p.Home", "-: a private home is out of reach, another is the workspace"},
	"Cache":          {"p.Cache", "-: only Linux sessions keep caches, as docs/sessions.md says", "-: it is for commands; the file tools do not reach it"},
	"Path":           {"p.Path", "p.Path", "-: toolchains are for commands; the file tools do not reach them"},
	"Read":           {"p.Read", "p.Read", "p.Read"},
	"Write":          {"p.Write", "p.Write", "p.Write"},
	"DenyRead":       {"p.DenyRead", "p.DenyRead", "p.DenyRead"},
	"Protect":        {"l.p.Protect", "p.Protect", "p.Protect"},
	"StateDirs":      {"l.p.StateDirs", "p.StateDirs", "p.StateDirs"},
	"GitConfig":      {"p.GitConfig", "-: gitFiles is shared with Linux", "-: it is about commands"},
	"GitIgnore":      {"p.GitIgnore", "-: as GitConfig", "-: it is about commands"},
	"ReadOnly":       {"p.ReadOnly", "p.ReadOnly", "-: Config.ReadOnly, which is set with it, has them change nothing at all"},
	"JavaTrust":      {"p.JavaTrust", "-: as GitConfig", "-: it is about commands"},
	"GitStage":       {"l.p.GitStage", "-: it needs Linux; macOS protects what git runs by its names", "p.GitStage"},
	"GitDirs":        {"l.p.GitDirs", "-: as GitStage; Read shows them", "-: commands use them; the file tools do not reach them"},
	"Stage":          {"l.p.Stage", "-: an overlay needs Linux; a session with it is refused", "p.Stage"},
	"StageProtect":   {"l.p.StageProtect", "-: as Stage", "p.StageProtect"},
	"TempDir":        {"l.p.TempDir", "p.TempDir", "-: it is no grant, so the file tools do not reach it"},
	"Network":        {"p.Network", "p.Network", "-: files need no network"},
	"Limits":         {"p.Limits", "p.Limits", "-: they bound processes; Config.WorkspaceLimit bounds what is written"},
	"Level":          {"p.Level", "p.Level", "-: it is about commands"},
	"MinLevel":       {"p.MinLevel", "p.MinLevel", "-: it is about commands"},
	"Log":            {"p.Log", "p.Log", "-: nothing to enforce"},

	"Limits.Procs":     {"l.Procs", "-: macOS has no limit per session; the report says so", "-: no processes"},
	"Limits.FileSize":  {"l.FileSize", "s.lim.FileSize", "-: a call's own limits bound what it writes"},
	"Limits.OpenFiles": {"l.OpenFiles", "s.lim.OpenFiles", "-: no processes"},
	"Limits.Tmp":       {"p.Limits.Tmp", "-: macOS has no private file system; the report says so", "-: the private /tmp is out of reach"},
	"Limits.Shm":       {"p.Limits.Shm", "-: macOS has no /dev/shm", "-: /dev/shm is out of reach"},
	"Limits.Memory":    {"l.Memory", "-: macOS has no limit per session; the gaps of the plan say so", "-: no processes"},
	"Limits.CPU":       {"l.CPU", "-: as Memory", "-: no processes"},

	"Limits.BestEffort": {"l.BestEffort", "l.BestEffort", "-: no processes"},
}

func TestEveryFieldIsEnforced(t *testing.T) {
	reads := make([]map[string]bool, len(policyUsers))
	for i, u := range policyUsers {
		reads[i] = selectors(t, filepath.Join("..", "..", u.dir), u.goos)
	}
	var fields []string
	for _, of := range []struct {
		prefix string
		typ    reflect.Type
	}{{"", reflect.TypeFor[sandbox.Policy]()}, {"Limits.", reflect.TypeFor[sandbox.Limits]()}} {
		for f := range of.typ.Fields() {
			fields = append(fields, of.prefix+f.Name)
		}
	}
	for _, field := range fields {
		row := enforced[field]
		if len(row) != len(policyUsers) {
			t.Errorf("sandbox.Policy has the field %s and the table has %d answers for it, want one for each of %v", field, len(row), policyUsers)
			continue
		}
		_, name, sub := strings.Cut(field, ".")
		if !sub {
			name = field
		}
		for i, u := range policyUsers {
			why, none := strings.CutPrefix(row[i], "-: ")
			switch {
			case none && strings.TrimSpace(why) == "":
				t.Errorf("%s, %s: no reason is given", field, u.name)
			case none:
			case !strings.HasSuffix(row[i], "."+name):
				t.Errorf("%s, %s: %q does not read the field", field, u.name, row[i])
			case !reads[i][row[i]]:
				t.Errorf("%s, %s: %s/ does not hold %q: the field is not enforced there", field, u.name, u.dir, row[i])
			}
		}
	}
	for field := range enforced {
		if !slices.Contains(fields, field) {
			t.Errorf("the table has the field %s, sandbox.Policy has not", field)
		}
	}
}

// noEnforcer are functions that look at fields without enforcing them.
var noEnforcer = map[string]bool{"normalise": true, "withDefaults": true, "encode": true, "report": true, "gaps": true}

// selectors are the expressions such as a.B.C that the sources of a package read
// on one system. What is only assigned to is not read.
func selectors(t *testing.T, dir, goos string) map[string]bool {
	t.Helper()
	ctx := build.Default
	ctx.GOOS, ctx.GOARCH, ctx.CgoEnabled = goos, "amd64", false
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, e := range entries {
		if ok, err := ctx.MatchFile(dir, e.Name()); err != nil || !ok || filepath.Ext(e.Name()) != ".go" || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, e.Name()), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		written := map[ast.Expr]bool{}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				return !noEnforcer[n.Name.Name]
			case *ast.AssignStmt:
				for _, x := range n.Lhs {
					written[x] = true
				}
			case *ast.SelectorExpr:
				if !written[n] {
					out[dotted(n)] = true
				}
			}
			return true
		})
	}
	if len(out) < 100 {
		t.Fatalf("%s: only %d expressions were read: the test looks in the wrong place", dir, len(out))
	}
	return out
}

func dotted(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return dotted(x.X) + "." + x.Sel.Name
	}
	return "?"
}
