package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"mcp-sandbox/bench/internal/build"
)

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		low, high float64
		want      string
	}{{0.99, 1.2, ""}, {1.06, 1.3, "slower"}, {0.5, 0.9, "faster"}, {1.01, 1.04, ""}, {0.9, 0.97, ""}} {
		if got := verdict(c.low, c.high); got != c.want {
			t.Errorf("%v to %v: %q, want %q", c.low, c.high, got, c.want)
		}
	}
}

// TestQuick has a build compared with itself, with all of the work.
func TestQuick(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	binary := os.Getenv("MCP_SANDBOX_TEST_BIN")
	if binary == "" {
		binary = filepath.Join(t.TempDir(), "mcp-sandbox")
		if err := build.Server(t.Context(), filepath.Join("..", ".."), binary); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := quick(t.Context(), &b, options{old: binary, new: binary, budget: time.Minute, rounds: 1, jobs: jobs()}); err != nil {
		t.Fatal(err)
	}
	for _, j := range jobs() {
		if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(j.name) + ` +[0-9.]+ +[0-9.]+ +[0-9.]+x `).MatchString(b.String()) {
			t.Errorf("no row %q in\n%s", j.name, strings.TrimSpace(b.String()))
		}
	}
}
