package ptyproctest

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mcp-sandbox/ptyproc"
)

func tableCases() []contract {
	return []contract{
		{name: "ids", only: "pipe", run: ids},
		{name: "unknown id", only: "pipe", run: unknownID},
		{name: "limit refuses and never kills", options: ptyproc.Options{MaxProcesses: 3, WarnAt: 2}, run: limit},
		{name: "prune order", options: ptyproc.Options{MaxProcesses: 4, WarnAt: 100, Protected: 2}, run: prune},
		{name: "full table loses nothing", options: ptyproc.Options{MaxProcesses: 3, WarnAt: 100}, run: fullTable},
		{name: "result stays readable", run: staysReadable},
		{name: "result expires", run: expires},
		{name: "list", run: list},
		{name: "close ends waiting calls", run: closeEndsCalls},
	}
}

func ids(f *fixture) {
	seen := map[int]bool{}
	for range 5 {
		res := f.launch(f.request("sleep 1000"), "")
		if res.ID < 1000 || res.ID > 99_999 || seen[res.ID] {
			f.Errorf("id %d", res.ID)
		}
		seen[res.ID] = true
	}

	// A source that always draws the same number still gives different ids.
	f.use(ptyproc.Options{Identify: func(int) int { return 7 }})
	first := f.launch(f.request("sleep 1000"), "")
	f.kill(first.ID)
	second := f.launch(f.request("sleep 1000"), "")
	if first.ID != 1007 || second.ID == first.ID {
		f.Errorf("ids %d and %d: one was used again while its result is readable", first.ID, second.ID)
	}
}

func unknownID(f *fixture) {
	for _, id := range []int{0, -1, 999, 1000, 99_999, 100_000, 1 << 40} {
		if _, err := f.table.Write(context.Background(), ptyproc.WriteRequest{ID: id}); code(err) != "process_not_found" {
			f.Errorf("write to %d: %v", id, err)
		}
		if _, err := f.table.Kill(context.Background(), id, 0); code(err) != "process_not_found" {
			f.Errorf("kill %d: %v", id, err)
		}
		if _, err := f.table.Screen(id); code(err) != "process_not_found" {
			f.Errorf("screen of %d: %v", id, err)
		}
		if err := f.table.Resize(id, 80, 24); code(err) != "process_not_found" {
			f.Errorf("resize %d: %v", id, err)
		}
	}
}

func limit(f *fixture) {
	var running []int
	for i := range 3 {
		res := f.launch(f.request("echo up; sleep 1000"), "up")
		running = append(running, res.ID)
		if want := i > 0; hasNotice(res, "of 3 processes in use") != want && i > 0 {
			f.Errorf("process %d: notices %q", i+1, res.Notices)
		}
	}
	_, err := f.table.Start(context.Background(), f.request("true"))
	if code(err) != "limit_reached" || !strings.Contains(err.Error(), "kill_process") {
		f.Errorf("fourth: %v", err)
	}
	for _, p := range f.table.List() {
		if p.State != ptyproc.StateRunning {
			f.Errorf("lost: %+v", p)
		}
	}
	f.kill(running[1])
	f.sh("true")

	// An ended command whose child runs on is alive too.
	background := f.sh(`trap '' HUP; sleep 1000 >/dev/null 2>&1 & echo $!`)
	if _, err := f.table.Start(context.Background(), f.request("true")); code(err) != "limit_reached" {
		f.Errorf("with a background child: %v", err)
	}
	if alive := f.table.List(); len(alive) < 3 || background.ID == 0 {
		f.Errorf("%+v", alive)
	}
	f.kill(background.ID)
}

func prune(f *fixture) {
	// In this order of last use: an ended one, a running one, two ended ones.
	oldest := f.launch(f.request("sleep 0.5; echo lost; exit 4"), "")
	running := f.launch(f.request("sleep 1000"), "")
	ended := f.launch(f.request("sleep 0.5; echo kept; exit 5"), "")
	newest := f.launch(f.request("sleep 0.5; echo newest; exit 6"), "")
	if !soon(func() bool {
		over := 0
		for _, p := range f.table.List() {
			if p.State == ptyproc.StateExited {
				over++
			}
		}
		return over == 3
	}) {
		f.Fatalf("%+v", f.table.List())
	}
	fifth := f.launch(f.request("sleep 1000"), "")
	if !hasNotice(fifth, "pruned") || !hasNotice(fifth, "code 4") {
		f.Errorf("notices: %q", fifth.Notices)
	}
	if _, err := f.table.Write(context.Background(), ptyproc.WriteRequest{ID: oldest.ID}); code(err) != "process_not_found" || !strings.Contains(err.Error(), "pruned") {
		f.Errorf("the pruned one: %v", err)
	}
	// Only protected ones have ended now: the older of them goes, no running one.
	sixth := f.launch(f.request("sleep 1000"), "")
	if !hasNotice(sixth, "code 5") {
		f.Errorf("notices: %q", sixth.Notices)
	}
	if _, err := f.table.Write(context.Background(), ptyproc.WriteRequest{ID: ended.ID}); code(err) != "process_not_found" {
		f.Errorf("the second pruned one: %v", err)
	}
	if r := f.write(newest.ID, "", false, 0); r.Exit == nil || text(r.Output) != "newest\n" {
		f.Errorf("the protected one: %+v %q", r, r.Output)
	}
	states := map[int]string{}
	for _, p := range f.table.List() {
		states[p.ID] = p.State
	}
	for _, id := range []int{running.ID, fifth.ID, sixth.ID} {
		if states[id] != ptyproc.StateRunning {
			f.Errorf("process %d is %q", id, states[id])
		}
	}
}

// fullTable: a command that has just ended is still its caller's, however much
// others want its place.
func fullTable(f *fixture) {
	var wg sync.WaitGroup
	var whole atomic.Int64
	for range 8 {
		wg.Go(func() {
			for range 40 {
				r, err := f.table.Start(context.Background(), f.request("echo whole"))
				switch {
				case code(err) == "limit_reached":
				case err != nil || text(r.Output) != "whole\n" || len(r.Notices) != 0:
					f.Errorf("%v %+v %q", err, r, r.Output)
				default:
					whole.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if whole.Load() == 0 {
		f.Error("every start was refused")
	}
}

func staysReadable(f *fixture) {
	res := f.launch(f.request("sleep 0.5; echo last words; exit 9"), "")
	if !soon(func() bool { return f.table.List()[0].State == ptyproc.StateExited }) {
		f.Fatal("did not end")
	}
	if r := f.write(res.ID, "", false, 0); r.ID != 0 || r.Exit.Code != 9 || text(r.Output) != "last words\n" {
		f.Errorf("%+v %q", r, r.Output)
	}
	if r := f.write(res.ID, "", false, 0); r.ID != 0 || r.Exit.Code != 9 || len(r.Output) != 0 {
		f.Errorf("again: %+v %q", r, r.Output)
	}
}

func expires(f *fixture) {
	var ahead atomic.Int64
	f.use(ptyproc.Options{Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	told := f.launch(f.request("sleep 0.3; exit 2"), "")
	f.finish(told)
	untold := f.launch(f.request("sleep 0.3; echo unread; exit 3"), "")
	running := f.launch(f.request("echo up; sleep 1000"), "up")
	if !soon(func() bool { return f.table.List()[1].State == ptyproc.StateExited }) {
		f.Fatal("did not end")
	}
	ahead.Store(int64(9 * time.Minute))
	if len(f.table.List()) != 3 {
		f.Errorf("after 9 minutes: %+v", f.table.List())
	}
	ahead.Store(int64(11 * time.Minute))
	for id, exit := range map[int]string{told.ID: "code 2", untold.ID: "code 3"} {
		_, err := f.table.Write(context.Background(), ptyproc.WriteRequest{ID: id})
		if code(err) != "process_not_found" || !strings.Contains(err.Error(), "ended earlier with "+exit) {
			f.Errorf("process %d after 11 minutes: %v", id, err)
		}
	}
	if rows := f.table.List(); len(rows) != 1 || rows[0].ID != running.ID {
		f.Errorf("after 11 minutes: %+v", rows)
	}
}

func list(f *fixture) {
	first := f.launch(f.request("echo one; sleep 1000"), "one")
	second := f.launch(f.request("echo two; sleep 1000"), "two")
	f.kill(first.ID)
	rows := f.table.List()
	if len(rows) != 2 || rows[0].ID != first.ID || rows[1].ID != second.ID {
		f.Fatalf("%+v", rows)
	}
	if r := rows[0]; r.State != ptyproc.StateSignaled || r.Exit == nil || r.Exit.Code <= 128 || r.Command != "echo one; sleep 1000" || r.TTY != f.tty {
		f.Errorf("%+v", r)
	}
	if r := rows[1]; r.State != ptyproc.StateRunning || r.Exit != nil || r.PID <= 0 || r.Started.IsZero() || r.LastUsed.Before(r.Started) {
		f.Errorf("%+v", r)
	}
}

func closeEndsCalls(f *fixture) {
	res := f.launch(f.request("echo up; sleep 1000"), "up")
	errs := make(chan error, 2)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := f.table.Start(context.Background(), f.request("echo waiting; sleep 1000"))
		errs <- err
	})
	wg.Go(func() {
		_, err := f.table.Write(context.Background(), ptyproc.WriteRequest{ID: res.ID, Yield: 45 * time.Second})
		errs <- err
	})
	if !soon(func() bool {
		rows := f.table.List()
		return len(rows) == 2 && rows[1].Unread > 0
	}) {
		f.Fatalf("%+v", f.table.List())
	}
	f.table.Close()
	wg.Wait()
	for range 2 {
		if err := <-errs; code(err) != "cancelled" && code(err) != "" {
			f.Errorf("%v", err)
		}
	}
	if len(f.table.List()) != 0 {
		f.Errorf("%+v", f.table.List())
	}
}
