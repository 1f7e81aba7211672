package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// report is what was measured.
type report struct {
	date    time.Time
	machine string
	rows    []row
}

// verdict says whether the step works inside.
func (r row) verdict() string {
	switch {
	case r.notTried != nil:
		return "not tried: " + r.notTried.Error()
	case r.outside[0].err != nil:
		return "not tried: it fails outside too: " + r.outside[0].failure()
	case r.outside[1].err != nil:
		return "not tried: it fails outside too, the second time: " + r.outside[1].failure()
	case r.inside[0].err != nil:
		return "**no**: " + r.inside[0].failure()
	case r.inside[1].err != nil:
		return "**no**, the second time: " + r.inside[1].failure()
	}
	return "yes"
}

// tried says whether both places were compared.
func (r row) tried() bool {
	return r.notTried == nil && r.outside[0].err == nil && r.outside[1].err == nil
}

func (r row) works() bool { return r.tried() && r.inside[0].err == nil && r.inside[1].err == nil }

// times gives a run's seconds inside and outside, and the one over the other.
func (r row) times(number int) string {
	if !r.tried() {
		return "- | -"
	}
	in, out := r.inside[number], r.outside[number]
	if in.err != nil {
		return fmt.Sprintf("failed / %.2f | -", out.took.Seconds())
	}
	return fmt.Sprintf("%.2f / %.2f | %.2f", in.took.Seconds(), out.took.Seconds(), in.took.Seconds()/out.took.Seconds())
}

// notes gives the notes of both runs inside, each once.
func (r row) notes() (notes []string) {
	for _, run := range r.inside {
		for _, n := range run.notes {
			if !slices.Contains(notes, n) {
				notes = append(notes, n)
			}
		}
	}
	return notes
}

// cell makes text fit into a table, without this run's own paths.
func cell(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, "\n", " "), "|", "\\|") }

func (r *report) write(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# First steps of real projects\n\n")
	b.WriteString("Written by `go run -C bench ./projects`. Do not edit it.\n\n")
	fmt.Fprintf(&b, "%s, %s.\n\n", r.date.Format("2006-01-02"), r.machine)
	b.WriteString("Each command runs in turn outside, in an empty home, and inside a session, over `serve --root` with `--network allow` and one rule, the package mirror on loopback. *Cold* has no caches; *second* is the same command again in the same directory, inside in a new session of a new server, with the caches that the first one kept. The seconds inside include the start of the sandbox. A run outside that does not count comes first. One run each: read the ratios of what takes longer than a second, and no small differences.\n\n")
	b.WriteString("Packages are made by the program and served by it for Go, npm, pip, cargo, maven and gradle (which find their plugins in Debian's `/usr/share/maven-repo`). pnpm, Yarn, TypeScript, esbuild and Playwright come through the same mirror from npm's registry. What Playwright installs from the mirror starts the host's Chromium.\n\n")
	works, tried := 0, 0
	for _, row := range r.rows {
		if row.tried() {
			tried++
		}
		if row.works() {
			works++
		}
	}
	fmt.Fprintf(&b, "%d of %d rows were tried; %d of them work inside.\n\n", tried, len(r.rows), works)
	b.WriteString("| Project | Works inside | Cold: s inside / outside | Ratio | Second: s inside / outside | Ratio | Notes |\n|---|---|---|---|---|---|---|\n")
	for _, row := range r.rows {
		notes := "none"
		if n := len(row.notes()); n > 0 {
			notes = fmt.Sprintf("%d, below", n)
		}
		if !row.tried() {
			notes = "-"
		}
		fmt.Fprintf(&b, "| %s: %s | %s | %s | %s | %s |\n", row.name, row.what, cell(row.verdict()), row.times(0), row.times(1), notes)
	}
	for _, row := range r.rows {
		if notes := row.notes(); len(notes) > 0 {
			fmt.Fprintf(&b, "\n%s shows:\n\n", row.name)
			for _, n := range notes {
				fmt.Fprintf(&b, "- `%s`\n", n)
			}
		}
	}
	_, err := io.WriteString(w, r.clean(b.String()))
	return err
}

// clean takes the paths of this run out of a text.
func (r *report) clean(s string) string {
	s = runPath.ReplaceAllString(s, "PROJECT")
	if home, err := os.UserHomeDir(); err == nil && len(home) > 1 {
		s = strings.ReplaceAll(s, home+"/", "~/")
	}
	return s
}
