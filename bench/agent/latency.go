package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// prompt is how long a Python prompt takes somewhere.
type prompt struct {
	name        string
	start, line []time.Duration
}

// interpreter is the system's Python, as the one on PATH may be a script that
// looks for versions first.
func interpreter() string {
	const system = "/usr/bin/python3"
	if _, err := os.Stat(system); err == nil {
		return system
	}
	return "python3"
}

// linesAPrompt are typed into each prompt.
const linesAPrompt = 20

// timePrompts times n prompts in each place, in turns so that noise hits all
// alike. Desktop Commander has no terminal to start one on.
func timePrompts(ctx context.Context, entrants []entrant, dir string, n int) ([]prompt, error) {
	if _, err := exec.LookPath(interpreter()); err != nil {
		return nil, nil
	}
	places := []prompt{{name: "bare terminal"}}
	turns := []func(*prompt) error{barePrompt}
	for i, e := range entrants {
		if e.failed != nil || e.name == commanderName {
			continue
		}
		workspace, home, err := rooms(fmt.Sprintf("%s-%d", dir, i))
		if err != nil {
			return nil, err
		}
		h, err := e.start(ctx, workspace, home)
		if err != nil {
			return nil, err
		}
		defer h.Close()
		a := &agent{hands: h, ctx: ctx}
		if err := a.do(func(a *agent) { a.run("true") }); err != nil {
			return nil, err
		}
		places = append(places, prompt{name: e.name})
		turns = append(turns, a.timePrompt)
	}
	for round := range n {
		for i := range places {
			if places[i].name == beforeName && round > 0 {
				continue // each of its starts takes the whole wait of 10 s
			}
			if err := turns[i](&places[i]); err != nil {
				return nil, fmt.Errorf("%s: %w", places[i].name, err)
			}
		}
	}
	return places, nil
}

// timePrompt is one prompt of a server.
func (a *agent) timePrompt(into *prompt) error {
	return a.do(func(a *agent) {
		begin := time.Now()
		p := a.open(interpreter()+" -q", startOptions{tty: true})
		p.shows(">>>")
		into.start = append(into.start, time.Since(begin))
		for i := range linesAPrompt {
			begin = time.Now()
			p.enter(fmt.Sprintf("%d * 1000", i+1), fmt.Sprintf("\n%d000\r\n>>>", i+1))
			into.line = append(into.line, time.Since(begin))
		}
		p.enter("exit()")
		p.finish()
	})
}

// barePrompt is the same on a terminal of our own.
func barePrompt(into *prompt) error {
	master, slave, err := openTerminal()
	if err != nil {
		return err
	}
	defer master.Close()
	cmd := exec.Command(interpreter(), "-q")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Env = append(os.Environ(), "TERM=xterm")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	begin := time.Now()
	err = cmd.Start()
	slave.Close()
	if err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if err := readUntil(master, ">>> "); err != nil {
		return err
	}
	into.start = append(into.start, time.Since(begin))
	for i := range linesAPrompt {
		begin = time.Now()
		if _, err := fmt.Fprintf(master, "%d * 1000\r", i+1); err != nil {
			return err
		}
		if err := readUntil(master, fmt.Sprintf("\n%d000\r\n>>> ", i+1)); err != nil {
			return err
		}
		into.line = append(into.line, time.Since(begin))
	}
	return nil
}

func readUntil(f *os.File, want string) error {
	var got []byte
	b := make([]byte, 4096)
	for {
		n, err := f.Read(b)
		if got = append(got, b[:n]...); bytes.Contains(got, []byte(want)) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("no %q in %q: %w", want, got, err)
		}
	}
}

func millis(list []time.Duration) string {
	if len(list) == 0 {
		return "-"
	}
	sorted := slices.Sorted(slices.Values(list))
	return fmt.Sprintf("%.1f ms", float64(sorted[len(sorted)/2].Microseconds())/1000)
}
