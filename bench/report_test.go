package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func sampleResult() *result {
	return &result{
		date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), machine: "linux/amd64, 2 cores", took: 90 * time.Second, rounds: 3,
		peers: []peerResult{
			{name: oursName, version: "commit abc", values: samples{"one": {2, 2, 8}, "flood": {100}, "end": {30}, "alone": {5}}, missing: map[string]error{}},
			{name: oursExecName, version: "commit abc", values: samples{"one": {1}}, missing: map[string]error{"flood": errors.New("exit status 1: a|b")}},
			{name: "slow", version: "1", values: samples{"one": {4}, "flood": {50}, "end": {3000}}, missing: map[string]error{"alone": noTerminals}},
			{name: "absent", failed: errors.New("no such\nprogram"), values: samples{}, missing: map[string]error{}},
		},
	}
}

func TestReport(t *testing.T) {
	table := []row{
		{"one", "One command", "ms", "What it is.", "never shown", 0},
		{"flood", "40 MB: time", "ms", "", "It counts.", 0},
		{"alone", "Alone", "MiB", "", "", 0},
		{"end", "End", "ms", "", "", 3000},
	}
	var b strings.Builder
	if err := sampleResult().write(&b, table); err != nil {
		t.Fatal(err)
	}
	report := b.String()
	for _, want := range []string{
		"2026-01-02. linux/amd64, 2 cores. Rounds: 3, in 1m30s",
		"| absent | - | did not run: no such |",
		"| mcp-sandbox | 2 ms | 8 ms | 1.00x | 3 |",
		"| slow | 4 ms | 4 ms | 2.00x | 1 |",
		"| slow | 50 ms | 50 ms | 0.50x | 1 |",
		"| [Alone](#alone) | 1 of 1 | 5 MiB | no other does this |",
		"| [40 MB: time](#40-mb-time) | 2 of 2 | 100 ms | 50 ms (slow) |",
		"Why ours is not first: It counts.",
		"- mcp-sandbox exec: failed: exit status 1: a\\|b.",
		"- slow: its processes have pipes, no terminal.",
		"| slow | over 3,000 ms | over 3,000 ms | over 100.00x | 1 |",
		"| [One command](#one-command) | 1 of 2 | 2 ms | 4 ms (slow) |",
	} {
		if !strings.Contains(report, want) {
			t.Errorf("the report lacks %q:\n%s", want, report)
		}
	}
	if strings.Contains(report, "never shown") {
		t.Error("a reason is given for a first place")
	}
	if strings.Contains(report, "- absent") {
		t.Error("a peer that did not run is named in the rows")
	}
}

// Ours has a second entry, the same binary as a wrapper: it takes no place.
func TestPlace(t *testing.T) {
	r := sampleResult()
	place, of, best := r.place(r.ranked("one"))
	if place != 1 || of != 2 || best == nil || best.name != "slow" {
		t.Errorf("place %d of %d, best %v; want 1 of 2 and slow", place, of, best)
	}
	if place, _, _ := r.place(r.ranked("flood")); place != 2 {
		t.Errorf("place %d behind another, want 2", place)
	}
	if place, _, _ := r.place(r.ranked("none")); place != 0 {
		t.Errorf("place %d in a row without figures, want 0", place)
	}
}

func TestAFailureTakesTheFigure(t *testing.T) {
	p := peerResult{values: samples{}, missing: map[string]error{}}
	p.add([]string{"a", "b"}, samples{"a": {1}, "b": {2}}, nil)
	p.add([]string{"a", "b"}, nil, errors.New("broke"))
	if len(p.values["a"])+len(p.values["b"]) != 0 || p.missing["a"] == nil || p.missing["b"] == nil {
		t.Errorf("values %v, missing %v after a failure", p.values, p.missing)
	}
}

func TestCellHidesDirsAndKeepsTheTable(t *testing.T) {
	old := hidden
	defer func() { hidden = old }()
	hidden = []hiding{{"/home/x/.cache/b", "CACHE"}, {"/home/x", "~"}}
	if got := cell("open /home/x/.cache/b/f: a|b\nmore"); got != `open CACHE/f: a\|b` {
		t.Errorf("got %q", got)
	}
	if got := cell("module m: reading https://registry.example/m/@v/list: 403 Forbidden"); got != "module m: 403 Forbidden" {
		t.Errorf("got %q", got)
	}
}

func TestAmounts(t *testing.T) {
	for _, c := range []struct {
		v    float64
		unit string
		want string
	}{
		{1234567.4, "bytes", "1,234,567 bytes"}, {-1234, "", "-1,234"}, {999.6, "ms", "1,000 ms"},
		{12.34, "ms", "12.3 ms"}, {1.234, "ms", "1.23 ms"}, {0, "", "0"},
	} {
		if got := amount(c.v, c.unit); got != c.want {
			t.Errorf("amount(%v): got %q, want %q", c.v, got, c.want)
		}
	}
	if got := ratio(3, 0); got != "-" {
		t.Errorf("a ratio to zero: %q", got)
	}
}

// Every row a job fills is in the table, and every row of the table is filled.
func TestRowsAndJobsAgree(t *testing.T) {
	filled := map[string]bool{"start": true}
	for _, j := range jobs() {
		for _, key := range j.rows {
			if filled[key] {
				t.Errorf("two jobs fill %q", key)
			}
			filled[key] = true
		}
	}
	for _, r := range rows() {
		if !filled[r.key] {
			t.Errorf("no job fills %q", r.key)
		}
		delete(filled, r.key)
	}
	for key := range filled {
		t.Errorf("%q is not in the report", key)
	}
}

func TestStageKnowsWhatItHolds(t *testing.T) {
	source, workspace := t.TempDir(), t.TempDir()
	line := strings.Repeat("x", 99) + "\n"
	write := func(name, body string) {
		t.Helper()
		path := filepath.Join(source, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a/big.go", strings.Repeat(line, 100_001))
	write("a/b_linux_test.go", "ErrShortWrite ErrShortWrite\nErrShortWrite\n")
	write("a/testdata/c_linux_test.go", "ErrShortWrite\n")
	write("notes.txt", "ErrShortWrite\n")
	st, err := newStage(workspace, source)
	if err != nil {
		t.Fatal(err)
	}
	if st.nameCount != 1 || st.needleLines != 2 {
		t.Errorf("%d names, %d lines; want 1 and 2", st.nameCount, st.needleLines)
	}
	for _, f := range []file{st.small, st.middle, st.big} {
		body, err := os.ReadFile(f.path)
		if err != nil || len(body) != f.bytes || strings.Count(string(body), "\n") != f.lines || f.bytes == 0 {
			t.Errorf("%s: %d bytes, want %d in %d lines: %v", f.path, len(body), f.bytes, f.lines, err)
		}
	}
}

// Without -install nothing is fetched: a missing peer says how to get it.
func TestWithoutInstallNothingIsFetched(t *testing.T) {
	c := &cache{dir: t.TempDir()}
	for name, install := range map[string]func() error{
		"npm":    func() error { _, err := c.npm(context.Background(), "a", "1"); return err },
		"debian": func() error { _, err := c.debian(context.Background(), "no-such-program", "p"); return err },
		"go":     func() error { _, err := c.goInstall(context.Background(), "p", "example.com/p"); return err },
	} {
		if err := install(); err == nil || !strings.Contains(err.Error(), "-install") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(c.dir); err != nil || len(left) > 0 {
		t.Errorf("left %v in the cache: %v", left, err)
	}
}

func TestTheReasonOfAFailedInstallIsKept(t *testing.T) {
	c := &cache{dir: t.TempDir()}
	if err := c.refused("@a/b@1", errors.New("403")); err.Error() != "403" {
		t.Errorf("got %v", err)
	}
	if _, err := c.npm(context.Background(), "@a/b", "1"); err == nil || err.Error() != "403" {
		t.Errorf("got %v, want the reason kept", err)
	}
}

func TestTellingLine(t *testing.T) {
	said := "go: downloading x\ngo: x@latest: 403 Forbidden\n\tgo help install\n"
	if got := tellingLine(said); got != "go: x@latest: 403 Forbidden" {
		t.Errorf("got %q", got)
	}
}
