// Command performance says where the time of one exec_command goes, and writes
// docs/performance.md:
//
//	go run -C bench ./performance
//
// It has the server in its own process, so that it can be profiled. The same command
// goes through one layer more each time, turn by turn; what a layer adds is the
// difference. Then a CPU profile over many calls tells which packages the server's
// share is spent in, and strace, where it is installed, counts system calls. Below
// the table stand floors: what the kernel alone takes for the same on this machine.
// It needs Linux and bash.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"mcp-sandbox/bench/internal/page"
	"mcp-sandbox/bench/internal/proctree"
	"mcp-sandbox/confine"
	"mcp-sandbox/library"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

func main() {
	confine.MaybeRunChild()
	out := flag.String("out", filepath.Join("..", "docs", "performance.md"), "report to write, - for standard output")
	calls := flag.Int("calls", 10_000, "calls that are profiled")
	rounds := flag.Int("rounds", 40, "rounds of the layers, 10 calls of each in one")
	note := flag.String("note", "", "a sentence for the report about how it was run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := performance(ctx, *out, *note, *calls, *rounds)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "performance:", err)
		os.Exit(1)
	}
}

func performance(ctx context.Context, out, note string, calls, rounds int) error {
	dir, err := os.MkdirTemp("", "mcp-sandbox-performance-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // an ordinary user's session starts the binary again
		return err
	}
	r := report{machine: page.Machine(), note: note, calls: calls}
	box, err := library.New(ctx, library.Options{Session: session.Config{Root: root, StateDir: filepath.Join(dir, "state")}})
	if err != nil {
		return err
	}
	defer box.Close()
	c, stop := serveInProcess(ctx, box)
	defer stop()
	if err := c.call(); err != nil {
		return err
	}
	s, err := box.Manager().Get(ctx, "stdio")
	if err != nil {
		return err
	}
	r.level = string(s.Sandbox().Report().Level)
	r.layers = layers(ctx, s, c)
	for range rounds {
		for i := range r.layers {
			for range 10 {
				start := time.Now()
				if err := r.layers[i].run(); err != nil {
					return fmt.Errorf("%s: %w", r.layers[i].name, err)
				}
				r.layers[i].took = append(r.layers[i].took, float64(time.Since(start).Nanoseconds())/1e3)
			}
		}
	}
	if r.floors, err = floors(); err != nil {
		return err
	}
	init := initOf(os.Getpid())
	before := proctree.CPUTime(init)
	if r.packages, r.functions, err = profile(dir, calls, c.call); err != nil {
		return err
	}
	r.init = float64((proctree.CPUTime(init) - before).Microseconds()) / float64(calls)
	if r.server, r.inside, err = count(dir, init, c.call); err != nil {
		return err
	}
	return page.Save(out, r.write)
}

// A layer is one way to run the same command, with all that is below it.
type layer struct {
	name, adds string
	run        func() error
	took       []float64 // in microseconds
}

// layers run "true", each through one part of the server more than the one before.
func layers(ctx context.Context, s *session.Session, c *client) []layer {
	env, envErr := s.Environ(false)
	spawn := func(argv ...string) func() error {
		return func() error {
			if envErr != nil {
				return envErr
			}
			p, err := s.Sandbox().Spawn(ctx, sandbox.Command{Argv: argv, Env: env, Dir: s.Root()})
			if err != nil {
				return err
			}
			defer p.Stdout().Close()
			if _, err := io.Copy(io.Discard, p.Stdout()); err != nil {
				return err
			}
			if st := p.Wait(); st.Code != 0 {
				return fmt.Errorf("exit status %d", st.Code)
			}
			return nil
		}
	}
	outside := func(argv ...string) func() error {
		return func() error {
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Env, cmd.Dir = env, s.Root()
			_, err := cmd.CombinedOutput()
			return err
		}
	}
	return []layer{
		{name: "`true` by os/exec, unconfined", adds: "fork, exec, the dynamic loader, a pipe, exit", run: outside("/usr/bin/true")},
		{name: "`bash -c true` by os/exec, unconfined", adds: "the shell that `exec_command` runs its line in", run: outside("bash", "-c", "true")},
		{name: "`bash -c true` by the sandbox", adds: "a message to init and two back, the filter on each system call, the root of mounts", run: spawn("/bin/bash", "-c", "true")},
		{name: "the same by a session", adds: "process table, collected output, git stage, undo, refusals explained", run: func() error {
			r, err := s.Exec(ctx, session.ExecRequest{Cmd: "true", Yield: 20 * time.Second})
			if err == nil && (r.Exit == nil || r.Exit.Code != 0) {
				err = fmt.Errorf("exit status %v", r.Exit)
			}
			return err
		}},
		{name: "`exec_command` over stdio", adds: "JSON both ways, arguments checked, the result rendered and counted, two pipes", run: c.call},
	}
}

// initOf is the session's init among the children of pid.
func initOf(pid int) int {
	for _, child := range proctree.Descendants(pid) {
		if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child)); string(name) == "init\n" && proctree.CPUTime(child) > 0 {
			return child
		}
	}
	return 0
}
