package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestDemo keeps the picture what a session answers: the script is played again,
// and what it promises must be in the file too.
func TestDemo(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	t.Chdir("..") // as the program is run
	fresh := t.TempDir()
	if err := demo(t.Context(), fresh, os.Getenv("MCP_SANDBOX_TEST_BIN")); err != nil {
		t.Fatal(err)
	}
	for _, p := range pictures {
		for _, dir := range []string{fresh, filepath.Join("..", "docs")} {
			b, err := os.ReadFile(filepath.Join(dir, p.file))
			if err != nil {
				t.Fatal(err)
			}
			text := textOf(t, b)
			for _, s := range p.scenes {
				for _, c := range s.calls {
					if !strings.Contains(text, c.promise) || !strings.Contains(text, c.tool+"  "+c.shown) {
						t.Errorf("%s lacks %s %q, %q; draw it again: go run -C bench ./demo", p.file, c.tool, c.shown, c.promise)
					}
				}
			}
		}
	}
}

// textOf is all that an SVG writes, and fails for one that is not well-formed.
func textOf(t *testing.T, b []byte) string {
	var out strings.Builder
	for d := xml.NewDecoder(strings.NewReader(string(b))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := token.(xml.CharData); ok {
			out.Write(c)
		}
	}
}

func TestWrap(t *testing.T) {
	long := strings.Repeat("word ", 40)
	for _, line := range append(wrap(long), wrap(strings.Repeat("é", 300))...) {
		if n := len([]rune(line)); n > columns {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}
