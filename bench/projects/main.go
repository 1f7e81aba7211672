// Command projects takes the first steps of 25 kinds of project outside and
// inside a session, each twice:
//
//	go run -C bench ./projects
//	go run -C bench ./projects -steps npm,pip -out -
//
// It writes docs/projects.md. Packages come from mirrors on loopback that it
// serves itself (mirror.go), with packages it made; a few tools of npm come
// through the same mirror from registry.npmjs.org. What is not installed, or
// cannot be fetched, is a row that says so. It needs Linux.
//
// steps.go and its neighbours are the table, run.go how a row is run.
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
	binary string
	only   []string // names of steps; empty is all
	limit  time.Duration
	out    string
	// upstream is the registry that npm's tools are fetched from.
	upstream string
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "", "a server that is there already, instead of one built from this source")
	only := flag.String("steps", "", "names of the steps to take, with commas (default: all)")
	flag.DurationVar(&o.limit, "limit", 5*time.Minute, "longest time of one command")
	flag.StringVar(&o.upstream, "upstream", "https://registry.npmjs.org", "npm registry that tools such as pnpm are fetched from")
	flag.StringVar(&o.out, "out", filepath.Join("..", "docs", "projects.md"), "report to write, - for standard output")
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
		fmt.Fprintln(os.Stderr, "projects:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, o options) (r *report, err error) {
	list := steps()
	for _, name := range o.only {
		if !slices.ContainsFunc(list, func(s step) bool { return s.name == name }) {
			return nil, fmt.Errorf("there is no step %q", name)
		}
	}
	if err := proctree.AdoptOrphans(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mcp-sandbox-projects-")
	if err != nil {
		return nil, err
	}
	defer func() {
		proctree.EndOrphans()
		// Go's module cache is read-only.
		_ = exec.Command("chmod", "-R", "u+w", dir).Run()
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	// A step of root's that gives its privileges up has to reach its files.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	bin, err := filepath.Abs(o.binary)
	if err != nil {
		return nil, err
	}
	if o.binary == "" {
		bin = filepath.Join(dir, "mcp-sandbox")
		if err := build.Server(ctx, "..", bin); err != nil {
			return nil, err
		}
	}
	m, err := startMirror(o.upstream)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	t := &trial{mirror: m, bin: bin, dir: dir, limit: o.limit}
	who := "an ordinary user"
	if os.Getuid() == 0 {
		who = "root"
	}
	r = &report{date: time.Now().UTC(), machine: page.Machine() + ", run by " + who}
	for _, s := range list {
		if len(o.only) > 0 && !slices.Contains(o.only, s.name) {
			continue
		}
		row := t.take(ctx, s)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		fmt.Fprintf(os.Stderr, "%s: %s\n", s.name, row.verdict())
		r.rows = append(r.rows, row)
	}
	return r, nil
}
