package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var updateCases = flag.Bool("update-cases", false, "rewrite the test names in docs/cases.md from the sources")

var (
	caseNumber = regexp.MustCompile(`\bAC-?([0-9]{2})`)
	caseRow    = regexp.MustCompile(`(?m)^\| (AC-[0-9]{2}) \| ([^|]+) \| ([^|]*) \|$`)
	goFunc     = regexp.MustCompile(`^func (?:\([^)]*\) )?(\w+)`)
)

// caseTests finds the tests that name a case: in the comment above them, in
// their body, or in their name.
func caseTests(t *testing.T, root string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || d.Name() == "cases_doc_test.go" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, filepath.Dir(path))
		var above []string // cases of a comment whose function is still to come
		in := ""
		for line := range strings.Lines(string(text)) {
			var names []string
			for _, m := range caseNumber.FindAllStringSubmatch(line, -1) {
				names = append(names, "AC-"+m[1])
			}
			if m := goFunc.FindStringSubmatch(line); m != nil {
				in = rel + "." + m[1]
				names, above = append(names, above...), nil
			} else if strings.HasPrefix(line, "//") {
				above = append(above, names...)
				continue
			}
			for _, name := range names {
				if !slices.Contains(found[name], in) {
					found[name] = append(found[name], in)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestCasesDoc: every case that the sources name has a row which says what it
// is, every row has tests, and they are those that name it.
func TestCasesDoc(t *testing.T) {
	root := filepath.Join("..", "..")
	file := filepath.Join(root, "docs", "cases.md")
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := caseTests(t, root)
	listed := map[string]bool{}
	got := caseRow.ReplaceAllStringFunc(string(doc), func(row string) string {
		m := caseRow.FindStringSubmatch(row)
		if listed[m[1]] {
			t.Errorf("%s has two rows", m[1])
		}
		listed[m[1]] = true
		if len(found[m[1]]) == 0 {
			t.Errorf("%s has a row and no test", m[1])
		}
		return fmt.Sprintf("| %s | %s | %s |", m[1], m[2], "`"+strings.Join(found[m[1]], "`, `")+"`")
	})
	for name, tests := range found {
		if !listed[name] {
			t.Errorf("%s is named by %v and has no row in docs/cases.md", name, tests)
		}
	}
	if *updateCases {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != string(doc) {
		t.Error("the tests in docs/cases.md are not those of the sources; run with -update-cases")
	}
}
