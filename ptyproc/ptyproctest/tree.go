package ptyproctest

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"strings"
	"syscall"
	"time"

	"mcp-sandbox/ptyproc"
)

func treeCases() []contract {
	return []contract{
		{name: "kill", run: killTree},
		{name: "timeout", run: timeoutTree},
		{name: "timeout kept", run: timeoutKept},
		{name: "close", run: closeTree},
		{name: "cancel kills", run: cancelKills},
		{name: "cancel leaves", options: ptyproc.Options{OnCancel: "leave"}, run: cancelLeaves},
		{name: "cancelled poll leaves", run: cancelledPoll},
		{name: "term ignored", run: termIgnored},
		{name: "stopped leader", run: stoppedLeader},
		{name: "one signal", run: oneSignal},
		{name: "kill while a call waits", run: killBesideCall},
	}
}

// family starts every kind of child that outlives its parent (AC-44) and prints
// their process ids.
const family = `
sleep 1000 & echo $!
nohup sleep 1000 >/dev/null 2>&1 & echo $!
(trap '' TERM HUP; exec sleep 1000) & echo $!
setsid sleep 1000 & echo $!
(setsid sh -c 'trap "" HUP; echo $$; exec sleep 1000' &)
(setsid sh -c 'trap "" TERM HUP; echo $$; (sleep 1000; :)' >&2 &)
sleep 1000 & p=$!; kill -STOP $p; echo $p
`
const familySize = 7

// members are the process ids that family has printed.
func (f *fixture) members(r ptyproc.Result) []string {
	f.Helper()
	all := ""
	for range 50 {
		all += text(r.Output)
		if pids := strings.Fields(all); len(pids) >= familySize {
			if alive := f.alive(pids); len(alive) != len(pids) {
				f.Fatalf("only %v of %v live before the kill", alive, pids)
			}
			return pids
		}
		if r.ID == 0 {
			break
		}
		// A poll does not end on mere output.
		r = f.write(r.ID, "", false, 100*time.Millisecond)
	}
	f.Fatalf("family is not whole: %q", all)
	return nil
}

func killTree(f *fixture) {
	other := f.sh(`trap '' HUP; sleep 1000 >/dev/null 2>&1 & echo $!`)
	otherPid := strings.Fields(string(other.Output))
	res := f.launch(f.request(family+"wait"), "")
	pids := f.members(res)
	r := f.kill(res.ID)
	if r.Running || r.Exit == nil || r.ID != 0 || r.BackgroundChildren != 0 {
		f.Errorf("%+v", r)
	}
	f.gone(pids)
	if len(f.alive(otherPid)) != 1 {
		f.Error("the background job of another command was killed too")
	}
	f.kill(other.ID)
	f.gone(otherPid)
}

func timeoutTree(f *fixture) {
	r := f.request(family + "wait")
	r.Timeout = 4 * time.Second
	res := f.launch(r, "")
	pids := f.members(res)
	res.Output = nil
	res = f.finish(res)
	if !res.TimedOut || res.Exit == nil || res.Exit.Signal == 0 {
		f.Errorf("%+v", res)
	}
	f.gone(pids)

	// Within one call, with what was written until then. The shell's own word about
	// its child does not count.
	r = f.request("exec 2>/dev/null; echo begun; sleep 1000")
	r.Timeout = 300 * time.Millisecond
	res = f.start(r)
	if !res.TimedOut || res.Exit == nil || res.ID != 0 || text(res.Output) != "begun\n" {
		f.Errorf("%+v %q", res, res.Output)
	}
}

// timeoutKept: a command that ends in time is not touched, nor what it left.
func timeoutKept(f *fixture) {
	r := f.request(`trap '' HUP; (sleep 1; echo alive) & echo now`)
	r.Timeout = 500 * time.Millisecond
	res := f.start(r)
	res = f.finish(res)
	if res.TimedOut || text(res.Output) != "now\nalive\n" {
		f.Errorf("%+v %q", res, res.Output)
	}
}

func closeTree(f *fixture) {
	var pids []string
	for range 2 {
		pids = append(pids, f.members(f.launch(f.request(family+"wait"), ""))...)
	}
	table := f.table
	table.Close()
	table.Close()
	if _, err := table.Start(context.Background(), f.request("true")); code(err) != "cancelled" {
		f.Errorf("start after close: %v", err)
	}
	f.use(ptyproc.Options{})
	f.gone(pids)
}

// odd gives a sleep that can be told from every other on the machine.
func odd() string {
	n, err := rand.Int(rand.Reader, big.NewInt(1<<40))
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("1000.%d", n)
}

// sleepers counts the processes that sleep that long, as seen from inside.
func (f *fixture) sleepers(duration string) int {
	f.Helper()
	// read leaves out the NUL between the arguments.
	found := f.look(`[ -r /proc/self/cmdline ] || { echo none; exit; }
		for c in /proc/[0-9]*/cmdline; do { l=; read -r l <$c; } 2>/dev/null; [ "$l" = "sleep` + duration + `" ] && echo $c; done; true`)
	if len(found) == 1 && found[0] == "none" {
		f.Skip("there is no /proc inside to look for processes in")
	}
	return len(found)
}

// startCancelled starts a script in a call that is cancelled once it sleeps.
func (f *fixture) startCancelled(script, duration string) error {
	f.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := f.table.Start(ctx, f.request(script))
		failed <- err
	}()
	if !soon(func() bool { return f.sleepers(duration) > 0 }) {
		f.Fatal("the command did not start")
	}
	cancel()
	return <-failed
}

// cancelKills is AC-51 with the default rule.
func cancelKills(f *fixture) {
	d := odd()
	if err := f.startCancelled("echo partial; setsid sleep "+d+" & wait", d); code(err) != "cancelled" {
		f.Errorf("%v", err)
	}
	if !soon(func() bool { return f.sleepers(d) == 0 }) {
		f.Error("the command lives on")
	}
	cancelled := func() bool {
		rows := f.table.List()
		return len(rows) == 1 && rows[0].State == ptyproc.StateCancelled
	}
	if !soon(cancelled) {
		f.Fatalf("listed: %+v", f.table.List())
	}
	row := f.table.List()[0]
	kept, err := f.table.ReadOutput(row.OutputID, 0, 0, "")
	if err != nil || len(kept.Lines) != 1 || text([]byte(kept.Lines[0].Text)) != "partial" {
		f.Errorf("kept of the cancelled command: %+v, %v", kept, err)
	}
	if r := f.write(row.ID, "", false, time.Second); r.Exit == nil || r.OutputID != row.OutputID {
		f.Errorf("polled after the cancel: %+v", r)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.table.Start(ctx, f.request("sleep "+d)); code(err) != "cancelled" || f.sleepers(d) != 0 {
		f.Errorf("a call that was cancelled before: %v", err)
	}
}

func cancelLeaves(f *fixture) {
	d := odd()
	if err := f.startCancelled("echo up; sleep "+d, d); code(err) != "cancelled" {
		f.Errorf("%v", err)
	}
	rows := f.table.List()
	if len(rows) != 1 || rows[0].State != ptyproc.StateRunning || f.sleepers(d) != 1 {
		f.Fatalf("%+v", rows)
	}
	// The shell may say that its child was terminated before it ends itself.
	if r := f.kill(rows[0].ID); !strings.HasPrefix(text(r.Output), "up\n") {
		f.Errorf("output lost: %+v %q", r, r.Output)
	}
}

func cancelledPoll(f *fixture) {
	res := f.launch(f.withStdin("[ -t 0 ] && stty -echo; echo up; sleep 0.3; read x; echo got $x", "", true), "up")
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := f.table.Write(ctx, ptyproc.WriteRequest{ID: res.ID, Yield: 45 * time.Second}); code(err) != "cancelled" {
		f.Errorf("%v", err)
	}
	res = f.finish(f.write(res.ID, "it\n", false, 5*time.Second))
	if text(res.Output) != "got it\n" {
		f.Errorf("%q", res.Output)
	}
}

func termIgnored(f *fixture) {
	res := f.launch(f.request(`trap '' TERM HUP; echo up; while :; do sleep 0.1; done`), "up")
	if r := f.kill(res.ID); r.Exit == nil || r.Exit.Signal != syscall.SIGKILL || r.Exit.Code != 137 {
		f.Errorf("%+v", r)
	}
	// TERM is asked first: a program may clean up.
	res = f.launch(f.request(`trap 'echo cleaned; exit 0' TERM; echo up; while :; do sleep 0.1; done`), "up")
	if r := f.kill(res.ID); r.Exit == nil || r.Exit.Code != 0 || !strings.Contains(string(r.Output), "cleaned") {
		f.Errorf("%+v %+v %q", r, r.Exit, r.Output)
	}
}

func stoppedLeader(f *fixture) {
	res := f.launch(f.request(`echo up; kill -STOP $$; echo never`), "up")
	if r := f.kill(res.ID); r.Exit == nil || r.Exit.Signal == 0 || r.ID != 0 {
		f.Errorf("%+v", r)
	}
}

func oneSignal(f *fixture) {
	res := f.launch(f.request(`trap 'echo caught' USR1; echo up; while :; do sleep 0.1; done`), "up")
	// Its child, the sleep, dies of the signal, the shell lives.
	r, err := f.table.Kill(context.Background(), res.ID, syscall.SIGUSR1)
	if err != nil || !r.Running {
		f.Fatalf("%v %+v", err, r)
	}
	f.until(r, "caught")
	for _, bad := range []syscall.Signal{-1, 65, 1000} {
		if _, err := f.table.Kill(context.Background(), res.ID, bad); code(err) != "invalid_argument" {
			f.Errorf("signal %d: %v", bad, err)
		}
	}
	r, err = f.table.Kill(context.Background(), res.ID, syscall.SIGKILL)
	if err != nil || r.Exit == nil || r.Exit.Signal != syscall.SIGKILL {
		f.Errorf("%v %+v", err, r)
	}
	if r, err = f.table.Kill(context.Background(), res.ID, 0); err != nil || r.Exit == nil {
		f.Errorf("killed again: %v %+v", err, r)
	}
}

func killBesideCall(f *fixture) {
	done := make(chan ptyproc.Result, 1)
	go func() {
		r, err := f.table.Start(context.Background(), f.request("echo up; sleep 1000"))
		if err != nil {
			f.Errorf("%v", err)
		}
		done <- r
	}()
	var id int
	if !soon(func() bool {
		for _, p := range f.table.List() {
			if p.Unread > 0 {
				id = p.ID
			}
		}
		return id != 0
	}) {
		f.Fatal("not listed")
	}
	k := f.kill(id)
	s := <-done
	if k.Exit == nil || s.Exit == nil || text(k.Output)+text(s.Output) != "up\n" {
		f.Errorf("%+v %+v", k, s)
	}
}
