package ptyproc

import (
	"context"
	"syscall"
	"time"
)

const (
	// How long a signal that cannot be refused may take to show.
	killMost = 2 * time.Second
	// A signal sent by name is given this long to show an effect.
	signalYield = 250 * time.Millisecond
	lastSignal  = 64
)

// Kill signals a process and everything it started, and returns its last
// output. Signal 0 sends TERM, then KILL after Options.KillGrace, and waits for
// the end; KILL waits too; any other is only sent, and the call returns when the
// process ends, its output has settled, or after 250 ms.
//
// Codes: process_not_found, invalid_argument, cancelled.
func (t *Table) Kill(ctx context.Context, id int, sig syscall.Signal) (Result, error) {
	if sig < 0 || sig > lastSignal {
		return Result{}, errorf("invalid_argument", nil, "signal %d does not exist; use 1 to %d, or none to end the process", int(sig), lastSignal)
	}
	p, past, err := t.lookup(id)
	if err != nil {
		return Result{}, err
	}
	if past != nil {
		return t.pastResult(past), nil
	}
	defer p.enter()()
	switch sig {
	case 0, syscall.SIGKILL:
		grace := t.o.KillGrace
		if sig == syscall.SIGKILL {
			grace = 0
		}
		over := make(chan struct{})
		// In the background, so that a cancelled call does not leave half a kill.
		if !t.background(func() { defer close(over); p.end(grace) }) {
			return Result{}, errClosing()
		}
		select {
		case <-over:
		case <-ctx.Done():
			return Result{}, errorf("cancelled", ctx.Err(), "the call was cancelled; process %d is being ended all the same", id)
		case <-t.closing:
			return Result{}, errClosing()
		}
	default:
		if err := p.child.SignalTree(sig); err != nil && !p.exited() {
			return Result{}, errorf("internal", err, "signal %d could not be sent (%s); call again", int(sig), errnoText(err))
		}
		_, err := t.wait(ctx, p, waitFor{yield: signalYield, settle: true, floor: settleFloor})
		if err != nil {
			return Result{}, stoppedWaiting(err, id)
		}
	}
	r := t.result(p)
	if r.Running && (sig == 0 || sig == syscall.SIGKILL) {
		r.Notices = append(r.Notices, "the process survived SIGKILL; it is blocked in the kernel and will exit when that call returns")
	}
	return r, nil
}

// background runs f as work of the table, unless that is closing.
func (t *Table) background(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.work.Go(f)
	return true
}

// timeout is what Start's timer runs. A leader that has ended in time has kept
// it: what it left in the background is not part of the bargain.
func (p *process) timeout() {
	p.t.background(func() {
		if p.exited() {
			return
		}
		p.mu.Lock()
		p.timedOut = true
		p.mu.Unlock()
		p.end(p.t.o.KillGrace)
	})
}

// cancelled ends or leaves the command of a Start whose caller is gone.
func (t *Table) cancelled(p *process, err error) error {
	select {
	case <-t.closing:
		return errClosing()
	default:
	}
	if t.o.OnCancel == "leave" {
		p.idShown.Store(true)
		return errorf("cancelled", err, "the call was cancelled and its command still runs as process %d; poll it or end it by that id", p.id)
	}
	// Nobody was told the id, but list_processes shows it from now on.
	p.idShown.Store(true)
	t.background(func() {
		p.end(t.o.KillGrace)
		if !p.finished() {
			return // a survivor stays in the table as what it is
		}
		t.readRest(p)
		p.keepUnread()
		t.forget(p, "")
	})
	return errorf("cancelled", err, "the call was cancelled and its command ended; list_processes names its output, call again if it is still wanted")
}

// keepUnread moves what no reply has carried into a kept output, so that it
// outlives the process.
func (p *process) keepUnread() {
	var r Result
	p.take(&r, true)
	keep := func(id string, text []byte) string {
		if id == "" && len(text) > 0 && p.t.o.SpoolDir != "" {
			id = p.t.KeepOutput(text)
		}
		return id
	}
	out, errs := keep(r.OutputID, r.Output), ""
	if r.Stderr != nil {
		errs = keep(r.Stderr.OutputID, r.Stderr.Text)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancelled, p.keptID, p.keptErrID = true, out, errs
}

// end takes the whole tree down: TERM, and KILL for what is left after the
// grace. Concurrent calls share one kill, and a shorter grace wins.
func (p *process) end(grace time.Duration) {
	p.mu.Lock()
	if under := p.killing; under != nil && !isClosed(under) {
		p.mu.Unlock()
		if grace == 0 {
			p.mu.Lock()
			p.killed = true
			p.mu.Unlock()
			_ = p.child.SignalTree(syscall.SIGKILL)
		}
		<-under
		return
	}
	done := make(chan struct{})
	p.killing = done
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.over = p.t.o.Now()
		p.mu.Unlock()
		close(done)
	}()

	if grace > 0 && p.terminate(grace) {
		return
	}
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	// Again and again: a fork may have been under way during the walk.
	for until := time.Now().Add(killMost); time.Now().Before(until); {
		_ = p.child.SignalTree(syscall.SIGKILL)
		if p.goneWithin(50 * time.Millisecond) {
			return
		}
	}
	p.t.o.Log.Warn("a command did not end on KILL", "id", p.id)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// terminate asks the tree to end and reports whether it did.
func (p *process) terminate(grace time.Duration) bool {
	until := time.Now().Add(grace)
	_ = p.child.SignalTree(syscall.SIGTERM)
	// A stopped process acts on TERM only when it runs again.
	_ = p.child.SignalTree(syscall.SIGCONT)
	again := time.Now().Add(100 * time.Millisecond)
	closing := p.t.closing
	for time.Now().Before(until) {
		if p.goneWithin(20 * time.Millisecond) {
			return true
		}
		if time.Now().After(again) {
			again = until
			// Left over by a leader that is gone: perhaps forked during the walk.
			if p.exited() {
				_ = p.child.SignalTree(syscall.SIGTERM)
			}
			// An interactive shell ignores TERM but not the loss of its terminal,
			// which is what closing a terminal's window sends.
			if p.tty {
				_ = p.child.SignalTree(syscall.SIGHUP)
			}
		}
		select {
		case <-closing:
			closing = nil
			if soon := time.Now().Add(closeGrace); soon.Before(until) {
				until = soon
			}
		default:
		}
	}
	return false
}

// goneWithin waits for the end of the leader and its tree.
func (p *process) goneWithin(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.child.Done():
	case <-timer.C:
		return false
	}
	for pause := time.Millisecond; ; pause *= 2 {
		if p.background() == 0 {
			return true
		}
		select {
		case <-timer.C:
			return false
		case <-time.After(pause):
		}
	}
}
