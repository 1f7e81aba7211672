package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// refusedWords are turns that readers stumble over, each with what to write in its
// place. They stand in no comment, message or document. A line has them only if it
// contains one of the words, which is looked for first.
var refusedWords = []struct{ words, pattern, instead string }{
	{"beside", `\bbeside\b`, `"next to", "in addition to" or "concurrently"`},
	{"anew", `\banew\b`, `"again"`},
	{"had", `\b(can|cannot|could|not) be had\b`, `"is available" or "unavailable"`},
	{"ours theirs", `\bof (ours|theirs)\b`, `whose it is`},
	{"but", `\bbut for\b`, `"except"`},
	{"work", `\bat work\b`, `"in flight" or "running"`},
	{"let", `\blet in\b`, `"admitted"`},
	{"taken", `\btaken for\b`, `"treated as" or "mistaken for"`},
	{"way", `\bgives? way\b`, `"is evicted"`},
	{"folder", `\bfolders?\b`, `"directory"`},
	{"without silence", `\bwithout a word\b|\bin silence\b`, `"silently"`},
	{"is are", `\b(is|are) no (bound|cancel|error|secret|plain|socket|part|number|place|change|UTF-8|text|path|configuration|directories|zombie|module|conflict|message)\b`, `"is not a"`},
}

// allowedWords are lines in which a refused word is somebody else's.
var allowedWords = []string{
	`json:"folders"`,                     // stored snapshots have the key
	`"directory", "folder", "workspace"`, // what models call workdir
	`/var/folders`,                       // a directory of macOS
}

// refusedNames are identifiers that said less than the term of the field, see
// docs/glossary.md.
var refusedNames = []string{
	"door", "doors", "mint", "tied", "linger", "lateBy", "owe", "enlarge", "freeBody", "smallBody", "firstPart",
	"enlist", "helloFault", "Worked", "worked", "resting", "giveAway", "takeOver", "bringBack", "park", "Attend",
	"attend", "Asker", "elsewhere", "coversStand", "renewCovers", "booted", "standing", "Standby", "standby", "meet",
	"vault", "crowded", "revealed", "exitTold", "told", "Mark", "astray", "hangup", "allowance",
}

func TestWording(t *testing.T) {
	root := filepath.Join("..", "..")
	var files []string
	for _, dir := range []string{".", "docs"} {
		more, _ := filepath.Glob(filepath.Join(root, dir, "*.md"))
		files = append(files, more...)
	}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && rel != "." || d.Name() == "testdata" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			files = append(files, path)
		}
		return nil
	})
	if err != nil || len(files) < 200 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	var patterns []*regexp.Regexp
	for _, w := range refusedWords {
		patterns = append(patterns, regexp.MustCompile(`(?i)`+w.pattern))
	}
	for _, path := range files {
		rel, _ := filepath.Rel(root, path)
		if rel == "CHANGELOG.md" {
			continue // what a release said stays
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			allowed := false
			for _, a := range allowedWords {
				allowed = allowed || strings.Contains(line, a)
			}
			lower := strings.ToLower(line)
			for k, p := range patterns {
				if !slices.ContainsFunc(strings.Fields(refusedWords[k].words), func(w string) bool { return strings.Contains(lower, w) }) {
					continue
				}
				if found := p.FindString(line); found != "" && !allowed {
					t.Errorf("%s:%d: write %s instead of %q", rel, i+1, refusedWords[k].instead, found)
				}
			}
		}
		if strings.HasSuffix(path, ".go") {
			refuseNames(t, rel, text)
		}
	}
}

// refuseNames looks at the names that a file declares.
func refuseNames(t *testing.T, rel string, text []byte) {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, rel, text, 0)
	if err != nil {
		t.Fatal(err)
	}
	refuse := func(id *ast.Ident) {
		for _, name := range refusedNames {
			if id.Name == name {
				t.Errorf("%s: the name %s says too little, see docs/glossary.md", set.Position(id.Pos()), name)
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			refuse(n.Name)
		case *ast.TypeSpec:
			refuse(n.Name)
		case *ast.StructType:
			for _, field := range n.Fields.List {
				for _, id := range field.Names {
					refuse(id)
				}
			}
		}
		return true
	})
}
