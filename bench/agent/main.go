// Command agent works tasks that people give to agents, by scripts and without a
// model, and counts the calls and the time that each server needs for them:
//
//	go run -C bench ./agent
//	go run -C bench ./agent -before -binary OLD
//
// It writes docs/benchmarks-agent.md. mcp-sandbox is built from this source;
// Desktop Commander takes part where npx has it or can fetch it. -before adds a
// column for the older server named by -binary, whose calls have no wait_for.
// Without -before, -binary is measured in place of a build. It needs Linux.
//
// tasks.go is the work, agent.go how a result leads to the next call, hands.go
// the tools of each server, latency.go how long a prompt takes next to a bare
// terminal.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
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

type options struct {
	binary    string
	before    bool
	commander bool
	only      []string // names of tasks; empty is all
	prompts   int      // how many prompts are timed
	out       string
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "", "a server that is there already, instead of one built from this source")
	flag.BoolVar(&o.before, "before", false, "measure -binary as an older server, next to this source")
	flag.BoolVar(&o.commander, "commander", true, "measure Desktop Commander too")
	only := flag.String("tasks", "", "names of the tasks to do, with commas (default: all)")
	flag.IntVar(&o.prompts, "prompts", 20, "how many prompts are timed (0: none)")
	flag.StringVar(&o.out, "out", filepath.Join("..", "docs", "benchmarks-agent.md"), "report to write, - for standard output")
	flag.Parse()
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	r, err := measure(ctx, o)
	stop()
	if err == nil {
		err = page.Save(o.out, r.write)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

// entrant is a server that takes part, or why it does not.
type entrant struct {
	name   string
	start  func(ctx context.Context, workspace, home string) (hands, error)
	failed error
}

const (
	oursName      = "mcp-sandbox"
	beforeName    = "before"
	commanderName = "Desktop Commander"
	// taskLimit ends a task that hangs.
	taskLimit = 2 * time.Minute
	// fetchLimit is for npx to fetch a package.
	fetchLimit = 3 * time.Minute
)

func measure(ctx context.Context, o options) (r *report, err error) {
	if o.before && o.binary == "" {
		return nil, errors.New("-before needs the older server: -binary PATH")
	}
	if err := proctree.AdoptOrphans(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mcp-sandbox-agent-")
	if err != nil {
		return nil, err
	}
	defer func() {
		proctree.EndOrphans()
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	list := tasks()
	for _, name := range o.only {
		if !slices.ContainsFunc(list, func(t task) bool { return t.name == name }) {
			return nil, fmt.Errorf("there is no task %q", name)
		}
	}
	entrants, err := enter(ctx, o, dir)
	if err != nil {
		return nil, err
	}
	r = &report{date: time.Now().UTC(), machine: page.Machine(), entrants: entrants}
	for _, t := range list {
		if len(o.only) > 0 && !slices.Contains(o.only, t.name) {
			continue
		}
		row := row{task: t, cells: make([]cell, len(entrants))}
		for i, e := range entrants {
			if e.failed != nil {
				continue
			}
			row.cells[i] = e.do(ctx, t, filepath.Join(dir, fmt.Sprintf("%d-%d", len(r.rows), i)))
			fmt.Fprintf(os.Stderr, "%s, %s: %s\n", t.name, e.name, row.cells[i])
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		r.rows = append(r.rows, row)
	}
	if o.prompts > 0 {
		r.prompts, err = timePrompts(ctx, entrants, filepath.Join(dir, "prompts"), o.prompts)
	}
	return r, err
}

// enter makes the servers ready, ours first.
func enter(ctx context.Context, o options, dir string) ([]entrant, error) {
	serve := func(bin string, older bool) func(context.Context, string, string) (hands, error) {
		return func(ctx context.Context, workspace, home string) (hands, error) {
			return startOurs(ctx, bin, workspace, home, older)
		}
	}
	current, err := filepath.Abs(o.binary)
	if err != nil {
		return nil, err
	}
	var entrants []entrant
	if o.before {
		entrants = append(entrants, entrant{name: beforeName, start: serve(current, true)})
	}
	if o.before || o.binary == "" {
		current = filepath.Join(dir, "mcp-sandbox")
		if err := build.Server(ctx, "..", current); err != nil {
			return nil, err
		}
	}
	entrants = append([]entrant{{name: oursName, start: serve(current, false)}}, entrants...)
	if !o.commander {
		return entrants, nil
	}
	e := entrant{name: commanderName, start: startCommander}
	// The first start may have to fetch it.
	fetch, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	home := filepath.Join(dir, "fetch")
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	h, err := e.start(fetch, home, home)
	if err != nil {
		e.failed = err
		fmt.Fprintf(os.Stderr, "%s does not take part: %v\n", e.name, err)
	} else {
		h.Close()
	}
	return append(entrants, e), nil
}

// do works one task on a server of its own.
func (e *entrant) do(ctx context.Context, t task, dir string) cell {
	for _, program := range t.needs {
		if _, err := exec.LookPath(program); err != nil {
			return cell{err: fmt.Errorf("%s is not installed", program)}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, taskLimit)
	defer cancel()
	workspace, home, err := rooms(dir)
	if err != nil {
		return cell{err: err}
	}
	prepare := exec.CommandContext(ctx, "sh", "-c", "set -e\n"+t.prepare)
	prepare.Dir = workspace
	if out, err := prepare.CombinedOutput(); err != nil {
		return cell{err: fmt.Errorf("prepare: %w: %s", err, out)}
	}
	h, err := e.start(ctx, workspace, home)
	if err != nil {
		return cell{err: err}
	}
	defer h.Close()
	a := &agent{hands: h, ctx: ctx}
	// The first command of a session starts its sandbox.
	a.quietly(func() { err = a.do(func(a *agent) { a.run("true") }) })
	if err != nil {
		return cell{err: err}
	}
	begin := time.Now()
	err = a.do(t.work)
	return cell{a.calls, time.Since(begin), err}
}

func rooms(dir string) (workspace, home string, err error) {
	workspace, home = filepath.Join(dir, "workspace"), filepath.Join(dir, "home")
	return workspace, home, errors.Join(os.MkdirAll(workspace, 0o755), os.MkdirAll(home, 0o700))
}
