package main

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestExponent(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{5, 5, 5, 5}, 0}, {[]float64{100, 1, 10, 100}, 1}, {[]float64{1, 100, 10_000, 1_000_000}, 2}, {[]float64{9, 9, 3, 1}, -0.477}} {
		if got := exponent([]int{1, 10, 100, 1000}, c.values); math.Abs(got-c.want) > 0.01 {
			t.Errorf("%v: %v, want %v", c.values, got, c.want)
		}
	}
	sizes := []int{1, 10, 100}
	for _, c := range []struct {
		column column
		marked bool
	}{
		{column{whole: true, values: []float64{1, 20, 400}}, true}, {column{whole: true, values: []float64{1, 10, 100}}, false},
		{column{values: []float64{1, 3, 9}}, true}, {column{values: []float64{1, 1, 1.2}}, false},
	} {
		if got := steeper(sizes, c.column) != ""; got != c.marked {
			t.Errorf("%v: marked %v", c.column.values, got)
		}
	}
}

// TestGrowth measures the smallest sizes of each table on a real server.
func TestGrowth(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	t.Chdir("..") // as the program is run
	out := filepath.Join(t.TempDir(), "growth.md")
	if err := growth(t.Context(), out, os.Getenv("MCP_SANDBOX_TEST_BIN"), 0, ""); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range tables() {
		if !strings.Contains(string(b), "## "+want.title+"\n") {
			t.Errorf("no table %q in\n%s", want.title, b)
		}
	}
	if n := bytes.Count(b, []byte("**exponent**")); n != len(tables()) {
		t.Errorf("%d rows of exponents", n)
	}
}

// TestKeptSections: a run of some tables leaves the others as they were.
func TestKeptSections(t *testing.T) {
	out := filepath.Join(t.TempDir(), "growth.md")
	first := map[string]string{"Rules": "old rules\n\n| a |\n", "Sessions": "sessions\n"}
	var b bytes.Buffer
	if err := report(&b, first); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(out, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	again := keptSections(out)
	again["Rules"] = "new rules\n"
	b.Reset()
	if err := report(&b, again); err != nil {
		t.Fatal(err)
	}
	if s := b.String(); !strings.HasSuffix(s, "\n## Sessions\n\nsessions\n\n## Rules\n\nnew rules\n") || strings.Contains(s, "old") {
		t.Errorf("the report is now\n%s", s)
	}
}
