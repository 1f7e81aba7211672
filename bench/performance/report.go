package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"mcp-sandbox/bench/internal/stats"
)

// report is what was measured.
type report struct {
	machine, note       string
	level               string
	calls               int
	layers              []layer
	floors              []floor
	packages, functions []share
	init                float64 // processor time of init in a call, in microseconds
	server, inside      []syscalls
}

func (r *report) write(w io.Writer) error {
	var b strings.Builder
	if r.note != "" {
		r.note = " " + r.note
	}
	out := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	out("# Where the time of a command goes\n")
	out("Written by `make bench-performance`, from a run of `bench/performance`. Do not edit it. How fast this is next to others stands in [benchmarks](benchmarks.md); `go run -C bench ./growth` measures how it grows.\n")
	out("%s. %s, level %s. Times are medians of %d calls of each row, turn by turn.%s\n", time.Now().UTC().Format(time.DateOnly), r.machine, r.level, len(r.layers[0].took), r.note)
	out("## One `exec_command`, layer by layer\n")
	out("Each row runs the command through one layer more than the row above it; *added* is the difference to that row, and what the layer does for it.\n")
	out("| | Median | p95 | Added | For |\n|---|---|---|---|---|")
	before := 0.0
	for _, l := range r.layers {
		m := stats.Median(l.took)
		out("| %s | %.2f ms | %.2f ms | %+.2f ms | %s |", l.name, m/1e3, stats.Quantile(l.took, .95)/1e3, (m-before)/1e3, l.adds)
		before = m
	}
	plain := stats.Median(r.layers[1].took)
	out("\n`exec_command` over the same shell by os/exec: %.2fx.\n", before/plain)
	out("## Floors\n")
	out("What the kernel of this machine takes for the least that a call is made of.\n")
	out("| | Time |\n|---|---|")
	for _, f := range r.floors {
		out("| %s | %.2f us |", f.name, f.us)
	}
	out("\n## The server's processor time\n")
	total := 0.0
	for _, s := range r.packages {
		total += s.us
	}
	out("A profile of %d calls, without the client's part: %.0f us of processor time a call in the server, and %.0f us in init. A sample counts for the innermost function of this repository on its stack, with the library and system calls it makes.\n", r.calls, total, r.init)
	out("| Package | us a call | Share |\n|---|---|---|")
	for _, s := range r.packages {
		if s.us >= total/200 {
			out("| %s | %.1f | %.0f %% |", s.name, s.us, 100*s.us/total)
		}
	}
	out("\nThe functions that take most:\n")
	out("| Function | us a call |\n|---|---|")
	for _, s := range r.functions[:min(len(r.functions), 15)] {
		out("| `%s` | %.1f |", s.name, s.us)
	}
	out("\n## System calls\n")
	if r.server == nil {
		out("Not counted: strace is not installed, or may not trace here.")
	} else {
		out("Counted by strace in %d calls, which are slower for it; those that come less than once in two calls are left out. The server's are with the two pipes of the client; init's are with those of the command.\n", 100)
		out("| Server | a call | Init and command | a call |\n|---|---|---|---|")
		for i := range max(len(r.server), len(r.inside)) {
			row := "|"
			for _, list := range [][]syscalls{r.server, r.inside} {
				if i < len(list) {
					row += fmt.Sprintf(" %s | %.1f |", list[i].name, list[i].times)
				} else {
					row += " | |"
				}
			}
			out("%s", row)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
