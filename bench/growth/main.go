// Command growth measures how the cost of the server grows with what it is given,
// and writes docs/benchmarks-growth.md:
//
//	go run -C bench ./growth
//
// One table each for sessions, processes of a session, files of a directory,
// output, and rules of an allow-list. The exponent of a column is the slope of the
// straight line through the logarithms of its last three sizes: 0 does not grow,
// 1 grows as the size does, 2 with its square. It needs Linux and curl.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"mcp-sandbox/bench/internal/build"
	"mcp-sandbox/bench/internal/page"
	"mcp-sandbox/bench/internal/proctree"
)

func main() {
	out := flag.String("out", filepath.Join("..", "docs", "benchmarks-growth.md"), "report to write, - for standard output")
	binary := flag.String("binary", "", "a server that is built already")
	scale := flag.Float64("scale", 1, "part of the largest sizes to go to, such as 0.01 for a try")
	only := flag.String("only", "", "the tables to measure, by their titles with commas; the report keeps the others as they are")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := growth(ctx, *out, *binary, *scale, *only)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "growth:", err)
		os.Exit(1)
	}
}

// A table is one thing that grows.
type table struct {
	title   string
	what    string // what is measured, sentences
	size    string // head of the first column
	sizes   []int
	columns []column
	// measure gives a figure for each column at each size, in the order of sizes.
	measure func(ctx context.Context, l *lab, sizes []int, columns []column) error
}

// A column is a cost at each size.
type column struct {
	head   string
	unit   string
	values []float64
	whole  bool // the cost of all of the work; else of one piece, with the rest there
}

// lab is where the tables work.
type lab struct {
	binary string
	dir    string
}

func growth(ctx context.Context, out, binary string, scale float64, only string) error {
	if err := proctree.AdoptOrphans(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mcp-sandbox-growth-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // an ordinary user's session starts the binary again
		return err
	}
	if binary == "" {
		binary = filepath.Join(dir, "mcp-sandbox")
		if err := build.Server(ctx, "..", binary); err != nil {
			return err
		}
	}
	machine := page.Machine()
	var done []table
	for i, t := range tables() {
		if only != "" && !slices.Contains(strings.Split(only, ","), t.title) {
			continue
		}
		room := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(room, 0o755); err != nil {
			return err
		}
		t.sizes = below(t.sizes, scale)
		err := t.measure(ctx, &lab{binary, room}, t.sizes, t.columns)
		proctree.EndOrphans()
		if err != nil {
			return fmt.Errorf("%s: %w", t.title, err)
		}
		done = append(done, t)
	}
	if len(done) == 0 {
		return fmt.Errorf("-only is %q; give titles such as Processes,Files", only)
	}
	sections := keptSections(out)
	for _, t := range done {
		sections[t.title] = section(t, machine)
	}
	return page.Save(out, func(w io.Writer) error { return report(w, sections) })
}

// keptSections are those of the report that is there, by title.
func keptSections(out string) map[string]string {
	kept := map[string]string{}
	old, err := os.ReadFile(out)
	if err != nil {
		return kept
	}
	for _, s := range strings.Split(string(old), "\n## ")[1:] {
		title, body, _ := strings.Cut(s, "\n")
		kept[title] = strings.TrimSpace(body) + "\n"
	}
	return kept
}

// below keeps the sizes up to a part of the largest, and two at least.
func below(sizes []int, scale float64) []int {
	most := float64(sizes[len(sizes)-1]) * scale
	n := 2
	for n < len(sizes) && float64(sizes[n]) <= most {
		n++
	}
	return sizes[:n]
}

// report writes the tables that there are, in the order of tables.
func report(w io.Writer, sections map[string]string) error {
	var b strings.Builder
	b.WriteString("# Growth\n\nWritten by `go run -C bench ./growth`. Do not edit it.\n\nThe exponent is the slope through the logarithms of the last three sizes: 0 does not grow with the size, 1 grows as it does. A column of *all* is the cost of the whole of the work, which cannot grow by less than 1 in the end; other columns are the cost of one piece of work while the rest is there, and 0 is what is hoped for.\n")
	for _, t := range tables() {
		if body, ok := sections[t.title]; ok {
			fmt.Fprintf(&b, "\n## %s\n\n%s", t.title, body)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// section is one table, with when and where it was measured.
func section(t table, machine string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n%s. %s.\n\n| %s |", t.what, time.Now().UTC().Format(time.DateOnly), machine, t.size)
	for _, c := range t.columns {
		fmt.Fprintf(&b, " %s, %s |", c.head, c.unit)
	}
	b.WriteString("\n|" + strings.Repeat("---|", 1+len(t.columns)) + "\n")
	for i, n := range t.sizes {
		fmt.Fprintf(&b, "| %s |", page.Thousands(int64(n)))
		for _, c := range t.columns {
			fmt.Fprintf(&b, " %s |", figure(c.values[i]))
		}
		b.WriteString("\n")
	}
	b.WriteString("| **exponent** |")
	for _, c := range t.columns {
		fmt.Fprintf(&b, " **%.2f**%s |", exponent(t.sizes, c.values), steeper(t.sizes, c))
	}
	b.WriteString("\n")
	return b.String()
}

// steeper marks a column whose cost grows faster than the work does.
func steeper(sizes []int, c column) string {
	switch e := exponent(sizes, c.values); {
	case c.whole && e > 1.1, !c.whole && e > 0.25:
		return " (steeper than the work)"
	}
	return ""
}

// exponent is the slope of the least-squares line through the logarithms of the
// last three points.
func exponent(sizes []int, values []float64) float64 {
	first := max(0, len(sizes)-3)
	var n, sx, sy, sxx, sxy float64
	for i := first; i < len(sizes); i++ {
		x, y := math.Log(float64(sizes[i])), math.Log(values[i])
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

func figure(v float64) string {
	switch {
	case v >= 100:
		return page.Thousands(int64(v + .5))
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
