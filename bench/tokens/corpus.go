package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

var (
	//go:embed corpus/prose.txt
	proseLines string
	//go:embed corpus/cjk.txt
	cjkLines string
)

type corpus struct{ name, text string }

// corpora are texts of about size bytes, the same on every run of one Go
// version.
func corpora(size int) ([]corpus, error) {
	source, err := goSource(size)
	if err != nil {
		return nil, err
	}
	return []corpus{
		{"source code", source},
		{"prose", clauses(proseLines, " ", size)},
		{"JSON", records(source, size)},
		{"CJK", clauses(cjkLines, "", size)},
	}, nil
}

// goSource is source text of the Go distribution.
func goSource(size int) (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	root := strings.TrimSpace(string(out))
	var b strings.Builder
	for _, dir := range []string{"net/http", "go/types", "cmd/compile/internal/ssagen", "encoding/json"} {
		files, _ := filepath.Glob(filepath.Join(root, "src", filepath.FromSlash(dir), "*.go"))
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				return "", err
			}
			b.Write(text)
			if b.Len() >= size {
				return b.String()[:size], nil
			}
		}
	}
	return "", fmt.Errorf("the Go distribution at %q has too little source; install it with its src directory", root)
}

// clauses strings the clauses of all lines together in a random order, so that
// a text is longer than its source without being one line again and again.
func clauses(lines, space string, size int) string {
	var parts []string
	for line := range strings.Lines(lines) {
		start := 0
		for i, r := range line {
			if strings.ContainsRune(",;:，、；：。.\n", r) && i+len(string(r)) < len(line) {
				parts = append(parts, strings.TrimSpace(line[start:i+len(string(r))]))
				start = i + len(string(r))
			}
		}
		if rest := strings.TrimSpace(line[start:]); rest != "" {
			parts = append(parts, rest)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(parts[rng.IntN(len(parts))])
		b.WriteString(space)
		if rng.IntN(30) == 0 {
			b.WriteString("\n\n")
		}
	}
	return strings.ToValidUTF8(b.String()[:size], "")
}

// records is what an API might answer: indented and compact JSON in turn, with
// names and messages from real source lines.
func records(source string, size int) string {
	lines := strings.Split(source, "\n")
	rng := rand.New(rand.NewPCG(3, 4))
	line := func() string { return strings.TrimSpace(lines[rng.IntN(len(lines))]) }
	var b strings.Builder
	for b.Len() < size {
		record := map[string]any{
			"id":         fmt.Sprintf("%016x", rng.Uint64()),
			"created_at": fmt.Sprintf("2025-%02d-%02dT%02d:%02d:%02dZ", 1+rng.IntN(12), 1+rng.IntN(28), rng.IntN(24), rng.IntN(60), rng.IntN(60)),
			"status":     []string{"ok", "failed", "pending", "cancelled"}[rng.IntN(4)],
			"duration":   rng.Float64() * 1000,
			"count":      rng.IntN(100000),
			"tags":       strings.Fields(line()),
			"message":    line(),
			"position":   map[string]any{"file": "src/" + strings.Trim(line(), "{}() \t") + ".go", "line": rng.IntN(3000), "column": rng.IntN(120)},
			"retry":      rng.IntN(2) == 0,
			"parent":     nil,
		}
		var out []byte
		if rng.IntN(2) == 0 {
			out, _ = json.MarshalIndent(record, "", "  ")
		} else {
			out, _ = json.Marshal(record)
		}
		b.Write(out)
		b.WriteByte('\n')
	}
	return strings.ToValidUTF8(b.String()[:size], "")
}
