package workspace

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// benchTree is a large tree to read: the Go source, or WORKSPACE_BENCH_TREE.
func benchTree(b *testing.B) *FS {
	dir := os.Getenv("WORKSPACE_BENCH_TREE")
	if dir == "" {
		root, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			b.Skipf("go env GOROOT: %v", err)
		}
		dir = filepath.Join(strings.TrimSpace(string(root)), "src")
	}
	f, err := Open(dir, Options{})
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() { f.Close() })
	return f
}

func BenchmarkSearch(b *testing.B) {
	f := benchTree(b)
	for _, bc := range []struct {
		name string
		req  SearchRequest
	}{
		{"rare literal", SearchRequest{Pattern: "RESOLVE_NO_MAGICLINKS"}},
		{"common literal", SearchRequest{Pattern: "func main"}},
		{"regexp", SearchRequest{Pattern: `func \(\w+ \*?\w+\) Close\(`}},
		{"ignore case", SearchRequest{Pattern: "magiclinks", IgnoreCase: true}},
		{"alternatives", SearchRequest{Pattern: "EINPROGRESS|ENOTEMPTY|EXDEV"}},
		{"no literal", SearchRequest{Pattern: `\b[A-Z]{4}\d{3}\b`}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			bc.req.MaxResults = maxSearchMax
			n := 0
			for b.Loop() {
				res, err := f.Search(ctx, bc.req)
				if err != nil {
					b.Fatal(err)
				}
				n = res.Matches
			}
			b.ReportMetric(float64(n), "matches")
		})
	}
}

func BenchmarkFind(b *testing.B) {
	f := benchTree(b)
	for b.Loop() {
		if _, err := f.Find(ctx, FindRequest{Pattern: "**/*_test.go"}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadFile(b *testing.B) {
	f := benchTree(b)
	for _, name := range []string{"os/root.go", "net/http/server.go"} {
		for _, limit := range []int{0, 200} {
			b.Run(fmt.Sprintf("%s limit %d", name, limit), func(b *testing.B) {
				for b.Loop() {
					if _, err := f.ReadFile(ctx, ReadRequest{Path: name, Limit: limit}); err != nil {
						b.Skip(err)
					}
				}
			})
		}
	}
}

func BenchmarkWriteFile(b *testing.B) {
	f, _, _ := newFS(b, Options{})
	content := bytes.Repeat([]byte("x"), 10<<10)
	for b.Loop() {
		if _, err := f.WriteFile(ctx, WriteRequest{Path: "f", Content: content}); err != nil {
			b.Fatal(err)
		}
	}
}
