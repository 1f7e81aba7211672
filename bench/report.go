package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"mcp-sandbox/bench/internal/page"
	"mcp-sandbox/bench/internal/stats"
	"mcp-sandbox/bench/internal/stdio"
)

// result holds what was measured of every peer, by row.
type result struct {
	date    time.Time
	machine string
	took    time.Duration
	rounds  int
	peers   []peerResult
}

type peerResult struct {
	name, version string
	failed        error // why it did not run at all
	values        samples
	missing       map[string]error // why a row has no value
}

func (p *peerResult) add(rows []string, got samples, err error) {
	for _, key := range rows {
		if err != nil {
			// A peer that failed once has no figure: what came before it is
			// not the same work.
			p.missing[key] = err
			delete(p.values, key)
			continue
		}
		p.values[key] = append(p.values[key], got[key]...)
	}
}

// write makes the Markdown report.
func (r *result) write(w io.Writer, table []row) error {
	var b strings.Builder
	b.WriteString("# Benchmarks\n\n")
	b.WriteString("Written by `go run -C bench . -install`, which installs the peers that run without a network into a cache directory, runs the same work on each and on mcp-sandbox in turn, and writes this file. Do not edit it.\n\n")
	fmt.Fprintf(&b, "%s. %s. Rounds: %d, in %s; in each round every peer has its turn at every row, so that noise hits all alike. Less is better in every row; *relative to ours* is the peer's median over ours.\n\n",
		r.date.Format("2006-01-02"), r.machine, r.rounds, r.took.Round(time.Second))
	b.WriteString("The peers do different work: Desktop Commander and server-filesystem confine no process; a wrapper confines one command and has no tools, terminals, files or budgets.\n\n")
	b.WriteString("## Peers\n\n| Peer | Version | |\n|---|---|---|\n")
	for _, p := range r.peers {
		state := "ran"
		if p.failed != nil {
			state = "did not run: " + cell(p.failed.Error())
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", p.name, cmp.Or(cell(p.version), "-"), state)
	}
	b.WriteString("\n## Places\n\nThe rank of mcp-sandbox in each row among those that have a figure; `mcp-sandbox exec`, the same binary as a wrapper, is not counted.\n\n| Row | Place | Ours | Best of the others |\n|---|---|---|---|\n")
	for _, line := range table {
		place, of, best := r.place(r.ranked(line.key))
		ours := r.find(oursName)
		if place == 0 {
			fmt.Fprintf(&b, "| [%s](#%s) | none | %s | |\n", line.title, anchor(line.title), reasonOf(ours, line.key))
			continue
		}
		other := "no other does this"
		if best != nil {
			other = fmt.Sprintf("%s (%s)", line.amount(stats.Median(best.values[line.key])), best.name)
		}
		fmt.Fprintf(&b, "| [%s](#%s) | %d of %d | %s | %s |\n", line.title, anchor(line.title), place, of, line.amount(stats.Median(ours.values[line.key])), other)
	}
	for _, line := range table {
		r.section(&b, line)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *result) section(b *strings.Builder, line row) {
	fmt.Fprintf(b, "\n## %s\n\n", line.title)
	if line.what != "" {
		b.WriteString(line.what + "\n\n")
	}
	b.WriteString("| Peer | Median | p95 | Relative to ours | Samples |\n|---|---|---|---|---|\n")
	ranked := r.ranked(line.key)
	base := math.NaN()
	if ours := r.find(oursName); ours != nil {
		base = stats.Median(ours.values[line.key])
	}
	for _, p := range ranked {
		v := p.values[line.key]
		fmt.Fprintf(b, "| %s | %s | %s | %s | %d |\n", p.name, line.amount(stats.Median(v)), line.amount(stats.Quantile(v, 0.95)), line.ratio(stats.Median(v), base), len(v))
	}
	r.without(b, line)
	if place, _, _ := r.place(ranked); place > 1 {
		reason := line.behind
		if reason == "" {
			reason = "no reason is known; a run on a quiet machine decides whether it is noise."
		}
		fmt.Fprintf(b, "\nWhy ours is not first: %s\n", reason)
	}
}

// without tells who has no figure in the row, those of one reason together.
func (r *result) without(b *strings.Builder, line row) {
	var reasons []string
	names := map[string][]string{}
	for i := range r.peers {
		p := &r.peers[i]
		if p.failed != nil || len(p.values[line.key]) > 0 {
			continue
		}
		why := reasonOf(p, line.key)
		if names[why] == nil {
			reasons = append(reasons, why)
		}
		names[why] = append(names[why], p.name)
	}
	if len(reasons) == 0 {
		return
	}
	b.WriteString("\nNo figure:\n\n")
	for _, why := range reasons {
		fmt.Fprintf(b, "- %s: %s.\n", strings.Join(names[why], ", "), why)
	}
}

func (r *result) find(name string) *peerResult {
	for i := range r.peers {
		if r.peers[i].name == name {
			return &r.peers[i]
		}
	}
	return nil
}

// ranked gives the peers with values in the row, best median first.
func (r *result) ranked(key string) []*peerResult {
	var out []*peerResult
	for i := range r.peers {
		if len(r.peers[i].values[key]) > 0 {
			out = append(out, &r.peers[i])
		}
	}
	slices.SortStableFunc(out, func(a, b *peerResult) int {
		x, y := stats.Median(a.values[key]), stats.Median(b.values[key])
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return out
}

// place is one more than the number of others better than ours, zero without a
// value of this program; how many are ranked and the best of the others come with it.
// The second entry of mcp-sandbox, the same binary as a wrapper, does not count.
func (r *result) place(ranked []*peerResult) (place, of int, best *peerResult) {
	for _, p := range ranked {
		switch p.name {
		case oursExecName:
			continue
		case oursName:
			place = of + 1
		default:
			if best == nil {
				best = p
			}
		}
		of++
	}
	return place, of, best
}

func reasonOf(p *peerResult, key string) string {
	if p == nil {
		return "not measured"
	}
	if p.failed != nil {
		return "did not run"
	}
	err := p.missing[key]
	var na notApplicable
	switch {
	case err == nil:
		return "not measured"
	case errors.As(err, &na):
		return cell(string(na))
	}
	return "failed: " + cell(err.Error())
}

func amount(v float64, unit string) string {
	var s string
	switch {
	case math.IsNaN(v):
		return "-"
	case v == math.Trunc(v) || v >= 100:
		s = page.Thousands(int64(math.Round(v)))
	case v >= 10:
		s = strconv.FormatFloat(v, 'f', 1, 64)
	default:
		s = strconv.FormatFloat(v, 'f', 2, 64)
	}
	if unit != "" {
		s += " " + unit
	}
	return s
}

// amount writes a figure of the row, or that it reached the row's limit, where
// the measurement gave up.
func (l row) amount(v float64) string {
	if l.limit > 0 && v >= l.limit {
		return "over " + amount(l.limit, l.unit)
	}
	return amount(v, l.unit)
}

func (l row) ratio(v, base float64) string {
	if l.limit > 0 && v >= l.limit && base < l.limit {
		return "over " + ratio(v, base)
	}
	return ratio(v, base)
}

func ratio(v, base float64) string {
	if math.IsNaN(v) || math.IsNaN(base) || base == 0 {
		return "-"
	}
	return strconv.FormatFloat(v/base, 'f', 2, 64) + "x"
}

// cell keeps a text inside one cell of a table, and the user's directories out of
// the report.
func cell(s string) string {
	// Which mirror a registry was asked through is the machine's matter.
	s = address.ReplaceAllString(s, "")
	s = strings.ReplaceAll(stdio.FirstLine(s), "|", "\\|")
	for _, hide := range hidden {
		if hide.path != "" && hide.path != "/" {
			s = strings.ReplaceAll(s, hide.path, hide.name)
		}
	}
	return s
}

var address = regexp.MustCompile(`(reading )?https?://\S+:? ?`)

type hiding struct{ path, name string }

// hidden are the directories that cell writes by a name; main sets it.
var hidden []hiding

// anchor is the link target that a heading has on the usual hosts.
func anchor(title string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(title) {
		switch {
		case c == ' ':
			b.WriteByte('-')
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_':
			b.WriteRune(c)
		}
	}
	return b.String()
}
