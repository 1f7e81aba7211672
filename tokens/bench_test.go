package tokens

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// goSource is about n bytes of the standard library's source.
func goSource(tb testing.TB, n int) string {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		tb.Skipf("go env GOROOT: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(root)), "src", "net", "http", "*.go"))
	if err != nil || len(files) == 0 {
		tb.Skip("the Go source is not installed")
	}
	var b strings.Builder
	for _, f := range files {
		s, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		b.Write(s)
		if b.Len() >= n {
			break
		}
	}
	s := b.String()
	return s[:min(n, len(s))]
}

// corpusFile repeats a text of bench/tokens.
func corpusFile(tb testing.TB, name string, n int) string {
	s, err := os.ReadFile(filepath.Join("..", "bench", "tokens", "corpus", name))
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Repeat(string(s), n/len(s)+1)
}

func BenchmarkCount(b *testing.B) {
	const size = 1 << 20
	texts := []struct{ name, text string }{
		{"source", goSource(b, size)},
		{"prose", corpusFile(b, "prose.txt", size)},
		{"cjk", corpusFile(b, "cjk.txt", size)},
		{"letters", strings.Repeat("a", size)},
		{"spaces", strings.Repeat(" ", size)},
	}
	for _, name := range []string{"o200k_base", "cl100k_base"} {
		e := get(b, name)
		for _, t := range texts {
			b.Run(fmt.Sprintf("%s/%s", name, t.name), func(b *testing.B) {
				b.SetBytes(int64(len(t.text)))
				b.ReportAllocs()
				for b.Loop() {
					e.Count(t.text)
				}
			})
		}
	}
}
