package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// errorMakers are the functions whose text a user or a model reads, by name.
var errorMakers = []string{
	"Errorf", "errorf", "fail", "failCause", "refuse", "invalid", "bad", "badSetting", "badOAuth", "refusal", "refuseHTTP",
	"rpcError", "labelFault", "outOfReach", "badRequest",
}

// steps are words that a next step begins with. After a comma or a colon they read
// as part of the sentence before.
const steps = `add|allow|append|ask|call|change|check|choose|close|convert|correct|create|delete|drop|enable|end|fetch|fix|free|get|give|` +
	`have|install|keep|leave|list|lower|make|mount|move|name|omit|open|pass|poll|put|raise|read|reduce|remove|repeat|report|` +
	`restart|restore|run|save|say|search|see|send|set|shorten|split|start|stop|take|the operator|try|unpack|use|wait|write`

var misplacedStep = regexp.MustCompile(`[,:] (` + steps + `) `)

// withoutStep are beginnings of texts after which nothing is left to do, or whose
// step is in what they quote.
var withoutStep = []string{
	"%s: %s", "the token file ", "the token file, settings of %s: ", "the call was cancelled", "the entry %q", "line %d of the token file %s",
	"deny-read: %v", "--deny-read: %v", "--read-only does not work here: ", "--staged does not work here: ",
	"%s cannot be used inside the session: %v", "%q lies where %s", "it took longer than %s",
}

// TestErrorShape holds the shape of errors, "what is wrong; the next step", over the
// source of all packages.
func TestErrorShape(t *testing.T) {
	root := filepath.Join("..", "..")
	seen, used := 0, map[string]bool{}
	exempt := func(text string) bool {
		i := slices.IndexFunc(withoutStep, func(s string) bool { return strings.HasPrefix(text, s) })
		if i >= 0 {
			used[withoutStep[i]] = true
		}
		return i >= 0
	}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() && (slices.Contains([]string{"bench", "clients", "third_party", "testdata"}, rel) || strings.HasPrefix(d.Name(), ".") && rel != "." || d.Name() == "testdata" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !makesError(call) {
				return true
			}
			text := literalText(call)
			if !strings.Contains(text, " ") {
				return true
			}
			seen++
			sentence, _, stepped := strings.Cut(text, "; ")
			if found := misplacedStep.FindString(sentence); found != "" {
				t.Errorf("%s: write a semicolon before the next step, not %q: %q", set.Position(call.Pos()), found[:1], text)
			}
			plain := needsStep(call)
			if plain && !stepped && !exempt(text) {
				t.Errorf("%s: %q has no next step; write it after a semicolon", set.Position(call.Pos()), text)
			}
			return true
		})
		return nil
	})
	if err != nil || seen < 700 {
		t.Fatalf("%d errors looked at, %v", seen, err)
	}
	for _, s := range withoutStep {
		if !used[s] {
			t.Errorf("no error without a step begins with %q", s)
		}
	}
}

// makesError tells calls of errorMakers from those of other packages' functions.
func makesError(call *ast.CallExpr) bool {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return slices.Contains(errorMakers, f.Name)
	case *ast.SelectorExpr:
		pkg, ok := f.X.(*ast.Ident)
		return slices.Contains(errorMakers, f.Sel.Name) && !(ok && slices.Contains([]string{"fmt", "t", "f", "b"}, pkg.Name))
	}
	return false
}

// needsStep is whether the call's text is the whole error: the other makers put a
// frame with the step around a reason.
func needsStep(call *ast.CallExpr) bool {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return slices.Contains([]string{"errorf", "badSetting", "badOAuth"}, f.Name)
	case *ast.SelectorExpr:
		pkg, ok := f.X.(*ast.Ident)
		return ok && pkg.Name == "sandbox"
	}
	return false
}

// literalText joins the string literals among the arguments of a call.
func literalText(call *ast.CallExpr) string {
	var b strings.Builder
	for _, arg := range call.Args {
		ast.Inspect(arg, func(n ast.Node) bool {
			if _, nested := n.(*ast.CallExpr); nested {
				return false
			}
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil && strings.Contains(s, " ") {
					b.WriteString(s)
				}
			}
			return true
		})
	}
	return b.String()
}
