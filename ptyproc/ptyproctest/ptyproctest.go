// Package ptyproctest is the contract that a process table keeps over any
// ptyproc.Spawner: the same cases over pipes and terminals, run by package
// ptyproc over an unconfined spawner and by the confinement over itself.
//
// Start reading at Run. The cases use only sh, the POSIX utilities and setsid,
// "/" as the working directory and no file, so that they run at every level of
// confinement.
package ptyproctest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"mcp-sandbox/ptyproc"
	"mcp-sandbox/sandbox"
)

// Run checks the contract. newSpawner makes a fresh spawner for each case and
// registers its end with t.Cleanup.
func Run(t *testing.T, newSpawner func(t *testing.T) ptyproc.Spawner) {
	groups := []struct {
		name  string
		cases []contract
	}{
		{"exit", exitCases()},
		{"output", outputCases()},
		{"stdin", stdinCases()},
		{"tree", treeCases()},
		{"table", tableCases()},
		{"terminal", terminalCases()},
	}
	// The runtime keeps descriptors from the first process on.
	if err := exec.Command("true").Run(); err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		for _, c := range g.cases {
			for _, mode := range c.modes() {
				t.Run(g.name+"/"+c.name+"/"+mode, func(t *testing.T) {
					f := newFixture(t, newSpawner(t), mode == "tty", c.options)
					c.run(f)
				})
			}
		}
	}
}

type contract struct {
	name string
	// only is "pipe" or "tty"; both when empty.
	only    string
	options ptyproc.Options
	run     func(f *fixture)
}

func (c contract) modes() []string {
	if c.only != "" {
		return []string{c.only}
	}
	return []string{"pipe", "tty"}
}

// fixture is one table and what a case does with it.
type fixture struct {
	*testing.T
	spawner ptyproc.Spawner
	table   *ptyproc.Table
	tty     bool
}

func newFixture(t *testing.T, sp ptyproc.Spawner, tty bool, o ptyproc.Options) *fixture {
	f := &fixture{T: t, spawner: sp, tty: tty}
	f.use(o)
	return f
}

// use goes on with a fresh table, which must leave nothing behind.
func (f *fixture) use(o ptyproc.Options) {
	descriptors, t := openFiles(), f.T
	o.SpoolDir = t.TempDir()
	table := ptyproc.NewTable(f.spawner, o)
	f.table = table
	t.Cleanup(func() {
		table.Close()
		if left, err := os.ReadDir(o.SpoolDir); err != nil || len(left) > 0 {
			t.Errorf("spool directory after Close: %v, %v", left, err)
		}
		// The spawner may let go of its own descriptors a moment later.
		if !soon(func() bool { return openFiles() <= descriptors }) {
			t.Errorf("%d descriptors open after Close, %d before", openFiles(), descriptors)
		}
	})
}

// request is a shell command in the mode of the case.
func (f *fixture) request(script string) ptyproc.StartRequest { return request(script, f.tty) }

func request(script string, tty bool) ptyproc.StartRequest {
	return ptyproc.StartRequest{
		Command: sandbox.Command{
			Argv: []string{"sh", "-c", script},
			Env:  []string{"PATH=" + os.Getenv("PATH"), "TERM=xterm-256color", "LANG=C.UTF-8", "PS1=$ "},
			Dir:  "/", TTY: tty,
		},
		Title: script,
		Yield: 20 * time.Second,
	}
}

func (f *fixture) start(r ptyproc.StartRequest) ptyproc.Result {
	f.Helper()
	res, err := f.table.Start(context.Background(), r)
	if err != nil {
		f.Fatalf("start %q: %v", r.Title, err)
	}
	return res
}

// sh runs a script to its end.
func (f *fixture) sh(script string) ptyproc.Result {
	f.Helper()
	return f.whole(f.request(script))
}

// look runs a script that looks at other processes, always over a pipe.
func (f *fixture) look(script string) []string {
	f.Helper()
	return strings.Fields(string(f.whole(request(script, false)).Output))
}

func (f *fixture) whole(req ptyproc.StartRequest) ptyproc.Result {
	f.Helper()
	r := f.start(req)
	if r.Running {
		f.Fatalf("%q still runs after %v: %q", req.Title, r.Wall, r.Output)
	}
	return r
}

// launch starts a script that stays and returns once its output has want.
func (f *fixture) launch(r ptyproc.StartRequest, want string) ptyproc.Result {
	f.Helper()
	r.Yield, r.WaitFor = 250*time.Millisecond, output(want)
	res := f.start(r)
	if !res.Running {
		f.Fatalf("%q ended: %+v %q", r.Title, res.Exit, res.Output)
	}
	if want == "" || strings.Contains(string(res.Output), want) {
		return res
	}
	return f.until(res, want)
}

// until polls until the collected output holds want.
func (f *fixture) until(res ptyproc.Result, want string) ptyproc.Result {
	f.Helper()
	all := res.Output
	for range 50 {
		if strings.Contains(string(all), want) {
			res.Output = all
			return res
		}
		if res.ID == 0 {
			break
		}
		res = f.send(ptyproc.WriteRequest{ID: res.ID, Yield: 5 * time.Second, WaitFor: output(want)})
		all = append(all, res.Output...)
	}
	f.Fatalf("no %q in %q (running %v)", want, all, res.Running)
	return res
}

// finish polls until nothing of the process is left.
func (f *fixture) finish(res ptyproc.Result) ptyproc.Result {
	f.Helper()
	all := res.Output
	for range 50 {
		if res.ID == 0 {
			res.Output = all
			return res
		}
		res = f.write(res.ID, "", false, 5*time.Second)
		all = append(all, res.Output...)
	}
	f.Fatalf("process %d did not end: %q", res.ID, all)
	return res
}

func (f *fixture) write(id int, chars string, closing bool, yield time.Duration) ptyproc.Result {
	f.Helper()
	return f.send(ptyproc.WriteRequest{ID: id, Chars: []byte(chars), Close: closing, Yield: yield})
}

func (f *fixture) send(r ptyproc.WriteRequest) ptyproc.Result {
	f.Helper()
	res, err := f.table.Write(context.Background(), r)
	if err != nil {
		f.Fatalf("write to %d: %v", r.ID, err)
	}
	return res
}

// output waits for a text; nil for "".
func output(want string) *ptyproc.WaitFor {
	w, err := ptyproc.ParseWaitFor(regexp.QuoteMeta(want))
	if err != nil {
		panic(err)
	}
	return w
}

func (f *fixture) kill(id int) ptyproc.Result {
	f.Helper()
	res, err := f.table.Kill(context.Background(), id, 0)
	if err != nil {
		f.Fatalf("kill %d: %v", id, err)
	}
	return res
}

// text is output as a pipe would have it.
func text(b []byte) string { return string(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))) }

// alive asks, from inside, which of the processes still live; a zombie that
// waits for its parent is dead.
func (f *fixture) alive(pids []string) []string {
	f.Helper()
	return f.look("for p in " + strings.Join(pids, " ") + `; do
		if [ -r /proc/$p/status ]; then grep -q '^State:.[ZX]' /proc/$p/status || echo $p
		elif kill -0 $p 2>/dev/null; then echo $p; fi; done`)
}

// gone waits until none of the processes lives.
func (f *fixture) gone(pids []string) {
	f.Helper()
	if len(pids) == 0 {
		f.Fatal("no process ids to look for")
	}
	var left []string
	if !soon(func() bool { left = f.alive(pids); return len(left) == 0 }) {
		f.Errorf("still alive: %v of %v", left, pids)
	}
}

// soon waits for a condition, up to 10 s.
func soon(ok func() bool) bool {
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok()
}

func openFiles() int {
	if runtime.GOOS != "linux" {
		return 0
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

func code(err error) string {
	return sandbox.CodeOf(err)
}

func hasNotice(r ptyproc.Result, part string) bool {
	return slices.ContainsFunc(r.Notices, func(n string) bool { return strings.Contains(n, part) })
}
