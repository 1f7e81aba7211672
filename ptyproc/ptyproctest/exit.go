package ptyproctest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mcp-sandbox/ptyproc"
	"mcp-sandbox/sandbox"
)

func exitCases() []contract {
	return []contract{
		{name: "code and signal", run: exitStatus},
		{name: "thousand quick commands", run: quickCommands},
		{name: "two hundred at a time", options: ptyproc.Options{MaxProcesses: 256}, run: manyAtATime},
		{name: "no such program", run: noProgram},
		{name: "output that looks like a state", run: looksLikeState},
	}
}

func exitStatus(f *fixture) {
	for _, c := range []struct {
		script string
		want   sandbox.ExitStatus
	}{
		{"true", sandbox.ExitStatus{}},
		{"exit 3", sandbox.ExitStatus{Code: 3}},
		{"exit 255", sandbox.ExitStatus{Code: 255}},
		{"exit 137", sandbox.ExitStatus{Code: 137}},
		{"no-such-command-here", sandbox.ExitStatus{Code: 127}},
		{"kill -KILL $$", sandbox.ExitStatus{Code: 137, Signal: syscall.SIGKILL}},
		{"kill -TERM $$", sandbox.ExitStatus{Code: 143, Signal: syscall.SIGTERM}},
	} {
		r := f.sh(c.script)
		if *r.Exit != c.want || r.ID != 0 || r.TimedOut || r.BackgroundChildren != 0 || r.Wall <= 0 {
			f.Errorf("%q: exit %+v, want %+v (%+v)", c.script, *r.Exit, c.want, r)
		}
	}
}

// quickCommands is AC-54: the exit and the end of the output race in every
// command, and both must be whole in the one reply.
func quickCommands(f *fixture) {
	const workers = 8
	each := 1000 / workers
	if testing.Short() {
		each = 100 / workers
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				mark := fmt.Sprintf("%d-%d", w, i)
				r, err := f.table.Start(context.Background(), f.request("echo first "+mark+"; pwd; echo last "+mark+" >&2; exit "+fmt.Sprint(i%256)))
				want := "first " + mark + "\n/\nlast " + mark + "\n"
				if err != nil || r.Exit == nil || r.Exit.Code != i%256 || text(r.Output) != want || r.ID != 0 || r.Dropped != 0 {
					f.Errorf("%s: %v %+v exit %+v %q", mark, err, r, r.Exit, r.Output)
					return
				}
			}
		})
	}
	wg.Wait()
	if rows := f.table.List(); len(rows) != 0 {
		f.Errorf("commands that ended in their own call are listed: %+v", rows)
	}
}

func manyAtATime(f *fixture) {
	const many = 200
	r := f.request("echo up; read x; echo got $x; exit 7")
	r.Stdin, r.KeepStdin, r.Yield = sandbox.StdinPipe, true, 250*time.Millisecond
	ids := make([]int, many)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			res, err := f.table.Start(context.Background(), r)
			if err != nil || !res.Running {
				f.Errorf("process %d: %v %+v %q", i, err, res, res.Output)
				return
			}
			ids[i] = res.ID
		})
	}
	wg.Wait()
	if f.Failed() {
		return
	}
	running := 0
	for _, p := range f.table.List() {
		if p.State == ptyproc.StateRunning {
			running++
		}
	}
	if running != many {
		f.Fatalf("%d run at a time, want %d", running, many)
	}
	for i, id := range ids {
		wg.Go(func() {
			all := ""
			send := fmt.Sprintf("word%d\n", i)
			for range 50 {
				res, err := f.table.Write(context.Background(), ptyproc.WriteRequest{ID: id, Chars: []byte(send), Yield: 5 * time.Second})
				if err != nil {
					f.Errorf("process %d: %v", id, err)
					return
				}
				send = ""
				all += text(res.Output)
				if res.ID == 0 {
					if res.Exit.Code != 7 || !strings.Contains(all, fmt.Sprintf("got word%d\n", i)) {
						f.Errorf("process %d: exit %+v, output %q", id, res.Exit, all)
					}
					return
				}
			}
			f.Errorf("process %d did not end: %q", id, all)
		})
	}
	wg.Wait()
}

func noProgram(f *fixture) {
	for _, program := range []string{"/no/such/program", "no-such-program-here"} {
		r := f.request("")
		r.Argv = []string{program}
		_, err := f.table.Start(context.Background(), r)
		if c := code(err); c != "exec_failed" && c != "not_found" {
			f.Errorf("%s: %v (code %q)", program, err, c)
		}
	}
	r := f.request("")
	r.Argv = nil
	if _, err := f.table.Start(context.Background(), r); code(err) != "invalid_argument" {
		f.Errorf("no program at all: %v", err)
	}
	if rows := f.table.List(); len(rows) != 0 {
		f.Errorf("failed starts are listed: %+v", rows)
	}
}

// looksLikeState is AC-55: nothing a program writes is mistaken for its state.
func looksLikeState(f *fixture) {
	r := f.sh(`printf '$ \n> \nError: it failed\nProcess exited with code 9\nProcess running with session ID 4242\n'`)
	if r.Exit.Code != 0 || r.ID != 0 || len(r.Notices) != 0 {
		f.Errorf("%+v", r)
	}
	req := f.request(`printf 'Process exited with code 0\n$ '; sleep 1000`)
	res := f.launch(req, "$ ")
	if !res.Running || res.Exit != nil {
		f.Errorf("a running process is said to be ended: %+v", res)
	}
	f.kill(res.ID)
}
