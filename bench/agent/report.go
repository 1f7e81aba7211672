package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"mcp-sandbox/bench/internal/stdio"
)

// report is what was measured.
type report struct {
	date     time.Time
	machine  string
	entrants []entrant
	rows     []row
	prompts  []prompt
}

type row struct {
	task
	cells []cell // one an entrant
}

// cell is one task on one server.
type cell struct {
	calls int
	took  time.Duration
	err   error
}

func (c cell) String() string {
	var no cannot
	switch {
	case errors.As(c.err, &no):
		return "not possible: " + string(no)
	case c.err != nil:
		return "failed: " + strings.ReplaceAll(stdio.FirstLine(c.err.Error()), "|", "\\|")
	case c.calls == 0:
		return "-"
	case c.calls == 1:
		return fmt.Sprintf("1 call, %s", seconds(c.took))
	}
	return fmt.Sprintf("%d calls, %s", c.calls, seconds(c.took))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func (r *report) write(w io.Writer) error {
	var b strings.Builder
	b.WriteString("# Benchmark of an agent's work\n\n")
	b.WriteString("Written by `go run -C bench ./agent -before -binary OLD`. Do not edit it.\n\n")
	fmt.Fprintf(&b, "%s, %s. A script does what a model would: it reads each result and goes on when the result shows what it needs, else it looks at the screen or waits with one more call. No model runs, so a call here costs no thinking; with one, each call is a turn. Waits are the default ones, and Desktop Commander, which asks for a number, is given the same.\n\n", r.date.Format("2006-01-02"), r.machine)
	for _, e := range r.entrants {
		switch {
		case e.failed != nil:
			fmt.Fprintf(&b, "%s did not take part: %s.\n\n", e.name, stdio.FirstLine(e.failed.Error()))
		case e.name == beforeName:
			b.WriteString("*before* is mcp-sandbox before calls returned when a program waits for input.\n\n")
		case e.name == commanderName:
			fmt.Fprintf(&b, "%s is %s; it confines nothing.\n\n", e.name, commanderPackage)
		}
	}
	b.WriteString("| Task |")
	for _, e := range r.entrants {
		b.WriteString(" " + e.name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(r.entrants)) + "\n")
	for _, row := range r.rows {
		fmt.Fprintf(&b, "| %s: %s |", row.name, row.what)
		for _, c := range row.cells {
			fmt.Fprintf(&b, " %s |", c)
		}
		b.WriteString("\n")
	}
	if len(r.prompts) > 0 {
		b.WriteString("\n## A prompt\n\nMedians of `python3 -q`: from the start to its prompt, and from a line typed to the next prompt. *bare terminal* is the same on a terminal without any server, so what a server adds is the difference.\n\n")
		b.WriteString("| | Start | Line | Samples |\n|---|---|---|---|\n")
		for _, p := range r.prompts {
			fmt.Fprintf(&b, "| %s | %s | %s | %d starts, %d lines |\n", p.name, millis(p.start), millis(p.line), len(p.start), len(p.line))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
