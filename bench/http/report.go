package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mcp-sandbox/bench/internal/stats"
)

// result is what the run found.
type result struct {
	date     time.Time
	machine  string
	version  string
	options  options
	opened   time.Duration // all sessions, from the first request on
	first    []float64     // first commands, in milliseconds
	segments []segment

	before, idle, after usage // without a session, with all of them idle, with all deleted

	answers, crossed, failed int
	examples                 []string
	stopTook                 time.Duration
	left                     []string
}

// forker is the process that forks inits for the server from the third session on, and
// its socket: both stay when all sessions have gone.
const forker = 1

// verdict is an error unless every answer was right and nothing is left.
func (r *result) verdict() error {
	var errs []error
	if r.crossed > 0 {
		errs = append(errs, fmt.Errorf("%d answers belonged to something else", r.crossed))
	}
	if r.failed > 0 {
		errs = append(errs, fmt.Errorf("%d commands failed", r.failed))
	}
	if len(errs) > 0 && len(r.examples) > 0 {
		errs = append(errs, errors.New("such as: "+strings.Join(r.examples, "; ")))
	}
	if r.answers == 0 {
		errs = append(errs, errors.New("no command was answered"))
	}
	if len(r.left) > 0 {
		errs = append(errs, errors.New("left behind: "+strings.Join(r.left, ", ")))
	}
	if r.after.processes > r.before.processes+forker {
		errs = append(errs, fmt.Errorf("%d processes with all sessions deleted, %d before the first", r.after.processes, r.before.processes))
	}
	if r.after.files > r.before.files+forker {
		errs = append(errs, fmt.Errorf("%d open descriptors with all sessions deleted, %d before the first", r.after.files, r.before.files))
	}
	return errors.Join(errs...)
}

// quiet are the times of all quiet segments together, so that the noise of one
// is not a base for the others.
func (r *result) quiet() (times []float64) {
	for _, s := range r.segments {
		if s.attack == nil {
			times = append(times, s.times...)
		}
	}
	return times
}

// write makes the Markdown report.
func (r *result) write(w io.Writer) error {
	var b strings.Builder
	o := r.options
	b.WriteString("# Many clients\n\nWritten by `go run -C bench ./http`, which says in its package comment what it does. Do not edit it.\n\n")
	fmt.Fprintf(&b, "%s. %s. mcp-sandbox %s. %d clients for %s, %d to a principal, each with a session, a sandbox and a listening stream of its own, and a command every %s on average. Clients, attackers and server share the cores.\n\n",
		r.date.Format(time.DateOnly), r.machine, r.version, o.clients, o.duration, clientsPerPrincipal, o.pause)

	b.WriteString("## Answers\n\n")
	fmt.Fprintf(&b, "%d commands were answered right, each with the file of its own session and a number never used before; %d answers belonged to something else; %d commands failed.\n\n", r.answers, r.crossed, r.failed)
	fmt.Fprintf(&b, "All %d clients at once had their sandbox after %s; the first command, which starts it, took %.0f ms (p50) and %.0f ms (p99).\n\n",
		o.clients, r.opened.Round(10*time.Millisecond), stats.Quantile(r.first, 0.5), stats.Quantile(r.first, 0.99))

	quiet := stats.Quantile(r.quiet(), 0.99)
	b.WriteString("## Latency\n\nFrom the request to the answer of `cat who; echo NUMBER`, in ms. The server's sandboxes are not in its processors.\n\n| Next to it | Commands | p50 | p99 | Longest | p99 against quiet | Processors: server | Processors: clients and attack |\n|---|---|---|---|---|---|---|---|\n")
	line := func(name string, times []float64, server, ours float64) {
		p99 := stats.Quantile(times, 0.99)
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s | %s | %.2f | %.2f |\n", name, len(times), ms(stats.Quantile(times, 0.5)), ms(p99), ms(stats.Quantile(times, 1)), ratio(p99, quiet), server, ours)
	}
	var server, ours, n float64
	for _, s := range r.segments {
		if s.attack == nil {
			server, ours, n = server+s.server, ours+s.ours, n+1
		}
	}
	line("nothing (all quiet segments)", r.quiet(), server/n, ours/n)
	for _, s := range r.segments {
		if s.attack != nil {
			line(s.name, s.times, s.server, s.ours)
		}
	}
	lowest, highest := math.Inf(1), math.Inf(-1)
	for _, s := range r.segments {
		if s.attack == nil && len(s.times) > 0 {
			p99 := stats.Quantile(s.times, 0.99)
			lowest, highest = min(lowest, p99), max(highest, p99)
		}
	}
	fmt.Fprintf(&b, "\nQuiet and hostile segments took turns; the p99 of a single quiet one was between %s and %s ms.\n\n", ms(lowest), ms(highest))

	if o.hostile {
		b.WriteString("## Attacks\n\n| Attack | What came of it |\n|---|---|\n")
		for _, s := range r.segments {
			if s.attack != nil {
				fmt.Fprintf(&b, "| %s: %s | %s |\n", s.name, s.what, s.done)
			}
		}
		b.WriteString("\nA number is the HTTP status of the answer; `cut` is a connection that the server closed without one; `held to the end` was still open when the segment ended. Attempts of an attack are 100 ms apart on each connection.\n\n")
	}

	b.WriteString("## Memory, processes, descriptors\n\n| | Server process (resident) | Server and all sandboxes (proportional) | Processes | Descriptors of the server |\n|---|---|---|---|---|\n")
	memory := func(name string, u usage) {
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %d |\n", name, mib(u.server), mib(u.tree), u.processes, u.files)
	}
	memory("before the first session", r.before)
	memory(fmt.Sprintf("%d sessions, idle", o.clients), r.idle)
	var calm usage
	for _, s := range r.segments {
		if s.attack == nil {
			calm = calm.most(s.peak)
		}
	}
	memory("most in quiet segments", calm)
	for _, s := range r.segments {
		if s.attack != nil {
			memory("most next to "+s.name, s.peak)
		}
	}
	memory("all sessions deleted, with the process that forks", r.after)

	b.WriteString("\n## Left behind\n\n")
	left := "nothing: no process, mount, control group or file"
	if len(r.left) > 0 {
		left = strings.Join(r.left, ", ")
	}
	fmt.Fprintf(&b, "After SIGTERM the server was gone in %s and left %s.\n", r.stopTook.Round(time.Millisecond), left)
	_, err := io.WriteString(w, b.String())
	return err
}

func ms(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "-"
	}
	return fmt.Sprintf("%.1f", v)
}

func ratio(v, base float64) string {
	if math.IsNaN(v) || math.IsNaN(base) || base == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2fx", v/base)
}

func mib(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

func save(r *result, path string) error {
	if path == "-" {
		return r.write(os.Stdout)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".benchmarks-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(r.write(f), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
