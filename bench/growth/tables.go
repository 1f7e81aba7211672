package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mcp-sandbox/bench/internal/proctree"
	"mcp-sandbox/bench/internal/stdio"
)

func tables() []table {
	return []table{
		{
			title: "Sessions", size: "sessions",
			what:    "Sessions of one streamable HTTP server, each with a first command behind it. First command: of a session more. Next command: of a session that exists. Memory: proportional, of the server and all it started, for each session. Processor: of the server while nothing is asked, in thousandths of one core.",
			sizes:   []int{1, 10, 100, 300, 1000},
			columns: []column{{head: "first command", unit: "ms"}, {head: "next command", unit: "ms"}, {head: "memory each", unit: "MiB"}, {head: "idle processor", unit: "thousandths"}},
			measure: sessions,
		},
		{
			title: "Processes", size: "processes",
			what:    "Idle processes of one background job, and what else the session is asked for meanwhile. End: `kill_process` of all of them.",
			sizes:   []int{1, 10, 100, 400, 1000},
			columns: []column{{head: "one command", unit: "ms"}, {head: "list_processes", unit: "ms"}, {head: "end all", unit: "ms", whole: true}},
			measure: processes,
		},
		{
			title: "Files", size: "files",
			what:    "Files of a few bytes in one directory. Baseline: the first snapshot of them all; unchanged: the next one. First command: with the automatic baseline before it; one command: after some others. Commands back to back wait for the snapshot of what the one before has changed, within a budget: a row may have such a wait in it or not.",
			sizes:   []int{10, 100, 1_000, 10_000, 100_000},
			columns: []column{{head: "ls of all", unit: "ms", whole: true}, {head: "search_text in all", unit: "ms", whole: true}, {head: "baseline of all", unit: "ms", whole: true}, {head: "unchanged, all", unit: "ms", whole: true}, {head: "first command", unit: "ms", whole: true}, {head: "one command", unit: "ms"}},
			measure: files,
		},
		{
			title: "Output", size: "bytes",
			what:    "One command that prints so much, answered with what fits the budget of tokens.",
			sizes:   []int{1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000},
			columns: []column{{head: "all", unit: "ms", whole: true}},
			measure: outputs,
		},
		{
			title: "Rules", size: "rules",
			what:    "Names of an allow-list. One request: one run of curl inside, for a name that no rule allows, so that all are looked at.",
			sizes:   []int{1, 10, 100, 1_000, 10_000},
			columns: []column{{head: "start to the first command", unit: "ms"}, {head: "one request", unit: "ms"}},
			measure: rules,
		},
	}
}

// median3 is the middle of three times in milliseconds.
func median3(do func() error) (float64, error) {
	var took [3]float64
	for i := range took {
		start := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		took[i] = ms(time.Since(start))
	}
	slices.Sort(took[:])
	return took[1], nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

func (l *lab) command(args ...string) *exec.Cmd {
	cmd := exec.Command(l.binary, args...)
	cmd.Dir = l.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + l.dir, "TMPDIR=" + l.dir}
	return cmd
}

func (l *lab) dial(ctx context.Context, args ...string) (*stdio.Client, error) {
	return stdio.Dial(ctx, l.command(append([]string{"serve", "--structured", "on", "--state-dir", filepath.Join(l.dir, "state")}, args...)...))
}

func run(ctx context.Context, c *stdio.Client, line string) error {
	reply, err := c.Call(ctx, "exec_command", map[string]any{"cmd": line, "yield_time_ms": 55000})
	if err != nil {
		return err
	}
	var r struct {
		ExitCode *int `json:"exit_code"`
	}
	if err := json.Unmarshal(reply.Structured, &r); err != nil {
		return err
	}
	if r.ExitCode == nil || *r.ExitCode != 0 {
		return fmt.Errorf("%s: no exit status 0: %s", stdio.FirstLine(line), stdio.FirstLine(reply.Text()))
	}
	return nil
}

func processes(ctx context.Context, l *lab, sizes []int, columns []column) error {
	c, err := l.dial(ctx, "--limit-procs", fmt.Sprint(4*sizes[len(sizes)-1]+1000))
	if err != nil {
		return err
	}
	defer c.Close()
	for _, n := range sizes {
		reply, err := c.Call(ctx, "exec_command", map[string]any{
			"cmd":           fmt.Sprintf("for i in $(seq %d); do sleep 100000 & done; echo all started; wait", n),
			"yield_time_ms": 30000, "wait_for": "all started",
		})
		if err != nil {
			return err
		}
		var r struct {
			SessionID int `json:"session_id"`
		}
		if err := json.Unmarshal(reply.Structured, &r); err != nil || r.SessionID == 0 {
			return errors.Join(err, errors.New("the processes ended"))
		}
		one, err := median3(func() error { return run(ctx, c, "true") })
		if err != nil {
			return err
		}
		list, err := median3(func() error { _, err := c.Call(ctx, "list_processes", map[string]any{}); return err })
		if err != nil {
			return err
		}
		start := time.Now()
		if _, err := c.Call(ctx, "kill_process", map[string]any{"session_id": r.SessionID, "signal": "KILL"}); err != nil {
			return err
		}
		add(columns, one, list, ms(time.Since(start)))
	}
	return nil
}

func add(columns []column, values ...float64) {
	for i, v := range values {
		columns[i].values = append(columns[i].values, max(v, 0.001))
	}
}

func files(ctx context.Context, l *lab, sizes []int, columns []column) error {
	for _, n := range sizes {
		root := filepath.Join(l.dir, fmt.Sprint("root", n))
		dir := filepath.Join(root, "many")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for i := range n {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%06d", i)), fmt.Appendf(nil, "number %d\n", i), 0o644); err != nil {
				return err
			}
		}
		values, err := filesOf(ctx, l, root)
		if err := errors.Join(err, os.RemoveAll(root)); err != nil {
			return err
		}
		add(columns, values...)
	}
	return nil
}

// filesOf measures one directory: looks and snapshots by a server that takes none by
// itself, and commands by one that does.
func filesOf(ctx context.Context, l *lab, root string) (values []float64, err error) {
	timed := func(f func() error) {
		start := time.Now()
		if err == nil {
			err = f()
		}
		values = append(values, ms(time.Since(start)))
	}
	c, err := l.dial(ctx, "--root", root, "--no-baseline")
	if err != nil {
		return nil, err
	}
	if err = run(ctx, c, "true"); err == nil {
		for _, call := range []struct {
			tool      string
			arguments map[string]any
		}{
			{"ls", map[string]any{"path": "many"}},
			{"search_text", map[string]any{"path": "many", "pattern": "no such text"}},
			{"snapshot_create", map[string]any{}},
			{"snapshot_create", map[string]any{}},
		} {
			timed(func() error { _, err := c.Call(ctx, call.tool, call.arguments); return err })
		}
	}
	c.Close()
	if err != nil {
		return nil, err
	}
	if c, err = l.dial(ctx, "--root", root, "--snapshot-store", filepath.Join(l.dir, "store", filepath.Base(root))); err != nil {
		return nil, err
	}
	defer c.Close()
	timed(func() error { return run(ctx, c, "true") })
	if err != nil {
		return nil, err
	}
	for range 5 { // the first ones wait for what follows a baseline
		if err := run(ctx, c, "true"); err != nil {
			return nil, err
		}
	}
	one, err := median3(func() error { return run(ctx, c, "true") })
	return append(values, one), err
}

func outputs(ctx context.Context, l *lab, sizes []int, columns []column) error {
	c, err := l.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, n := range sizes {
		took, err := median3(func() error { return run(ctx, c, fmt.Sprintf("yes 0123456789abcdef | head -c %d", n)) })
		if err != nil {
			return err
		}
		add(columns, took)
	}
	return nil
}

func rules(ctx context.Context, l *lab, sizes []int, columns []column) error {
	const requests = 10
	for _, n := range sizes {
		var list strings.Builder
		list.WriteString("network = \"allow\"\nallow-host = [\n")
		for i := range n {
			fmt.Fprintf(&list, "  \"host-%d.example.com\",\n", i)
		}
		list.WriteString("]\n")
		config := filepath.Join(l.dir, "config.toml")
		if err := os.WriteFile(config, []byte(list.String()), 0o600); err != nil {
			return err
		}
		start := time.Now()
		c, err := l.dial(ctx, "--config", config)
		if err != nil {
			return err
		}
		err = run(ctx, c, "true")
		started := ms(time.Since(start))
		line := fmt.Sprintf(`for i in $(seq %d); do curl -s -o /dev/null http://other-$i.example.org/; done; true`, requests)
		all, runErr := median3(func() error { return run(ctx, c, line) })
		c.Close()
		if err := errors.Join(err, runErr); err != nil {
			return err
		}
		add(columns, started, all/requests)
	}
	return nil
}

// idle is the part of one core that the server takes while nothing is asked, in
// thousandths.
func idle(pid int) float64 {
	const look = 3 * time.Second
	before := proctree.CPUTime(pid)
	time.Sleep(look)
	return float64(proctree.CPUTime(pid)-before) / float64(look) * 1000
}
