package ptyproc

import (
	"context"
	"time"
)

const (
	// Output counts as settled when nothing has come for this long.
	settleQuiet = 50 * time.Millisecond
	// After a write the echo comes at once and the answer a little later, so
	// quiet alone says nothing before this.
	settleFloor = 100 * time.Millisecond
	// The waits of a Write without a yield of its own, and the shorter ones where
	// nobody can tell whether the process waits for input.
	writeYield      = 10 * time.Second
	unseenYield     = 250 * time.Millisecond
	pollYield       = 30 * time.Second
	unseenPollYield = 5 * time.Second
	// After the exit the output is read on until it has been quiet for
	// drainQuiet, never longer than drainMost: a background child may hold it
	// open for good.
	drainQuiet = 20 * time.Millisecond
	drainMost  = 100 * time.Millisecond
	// Before the confinement is asked about children the output mostly ends by
	// itself. Without children it is waited for this long.
	drainFirst  = 3 * time.Millisecond
	drainLonely = 2 * time.Second
	// How often the children of an ended command are counted while waiting.
	treeEvery     = 100 * time.Millisecond
	progressEvery = 500 * time.Millisecond
	// The first sign of life, which says 0. A quick command needs none.
	progressFirst = 50 * time.Millisecond
)

// waitFor says what ends a wait besides the exit, the cancelling and the close.
type waitFor struct {
	yield time.Duration
	// input ends it when the process waits for input. Where that cannot be told,
	// fallback makes it settle, and unseenYield bounds it.
	input, fallback bool
	unseenYield     time.Duration
	// settle ends it when unread output has settled, not before floor.
	settle   bool
	floor    time.Duration
	until    *WaitFor
	echo     echo
	match    *matcher // of until
	progress func(Progress)
	// began is what progress counts from, a write before the wait; zero is the wait.
	began time.Time
}

// ending is why a wait is over.
type ending int

const (
	endedExit ending = iota
	endedInput
	endedMatch
	endedQuiet
	endedYield
)

func (t *Table) clamp(d time.Duration) time.Duration {
	return min(max(d, t.o.MinYield), t.o.MaxYield)
}

// await waits and takes the result. The process counts as waited for until then,
// so that no other call prunes it in between.
func (t *Table) await(ctx context.Context, p *process, w waitFor) (Result, error) {
	defer p.enter()()
	match, stop := p.watch(w.until, w.echo, time.Now())
	defer stop()
	w.match = match
	end, err := t.wait(ctx, p, w)
	if err != nil {
		return Result{}, err
	}
	r := t.result(p)
	r.AwaitingInput = end == endedInput && r.Running
	// At the exit the last output is read after the wait.
	r.Matched = end == endedMatch || match.found()
	if w.until != nil && !r.Matched {
		r.Notices = append(r.Notices, "wait_for was not met"+match.why())
	}
	return r, nil
}

// wait returns a nil error when there is a result to take.
func (t *Table) wait(ctx context.Context, p *process, w waitFor) (ending, error) {
	done, tree := p.awaited()
	begin := time.Now()
	deadline := time.NewTimer(t.clamp(w.yield))
	defer deadline.Stop()
	var first, ticks, counts <-chan time.Time
	if w.progress != nil {
		timer, ticker := time.NewTimer(progressFirst), time.NewTicker(progressEvery)
		defer timer.Stop()
		defer ticker.Stop()
		first, ticks = timer.C, ticker.C
	}
	if w.began.IsZero() {
		w.began = begin
	}
	if tree {
		// The exit was told before: what is awaited now is the background's end.
		if p.finished() {
			return endedExit, t.drain(ctx, p)
		}
		ticker := time.NewTicker(treeEvery)
		defer ticker.Stop()
		counts = ticker.C
	}
	look := newLooker(p, w, begin, tree)
	// Who names what to wait for wants no guess.
	w.fallback = w.fallback && w.until == nil
	settle := w.settle
	next := time.NewTimer(time.Hour)
	defer next.Stop()
	for {
		wake, unread, newest := p.listen()
		now := time.Now()
		due := now.Add(time.Hour)
		if met, at := w.match.check(ctx, now); met {
			return endedMatch, nil
		} else if at.Before(due) {
			due = at
		}
		if look != nil {
			met, at := look.check(ctx, now, newest)
			if met {
				return endedInput, nil
			}
			due = earlier(due, at)
			settle = w.settle || w.fallback && look.unseen
			if look.unseen && w.fallback {
				due = earlier(due, begin.Add(w.unseenYield))
				if now.Sub(begin) >= w.unseenYield {
					return endedYield, nil
				}
			}
		}
		if settle && unread {
			at := later(newest.Add(settleQuiet), begin.Add(w.floor))
			if !at.After(now) {
				return endedQuiet, nil
			}
			due = earlier(due, at)
		}
		next.Reset(due.Sub(now))
		select {
		case <-done:
			return endedExit, t.drain(ctx, p)
		case <-wake:
		case <-next.C:
		case <-counts:
			if p.finished() {
				return endedExit, t.drain(ctx, p)
			}
		case <-first:
			w.progress(p.progress(0))
		case <-ticks:
			w.progress(p.progress(time.Since(w.began)))
		case <-deadline.C:
			if look.doubtful() {
				return endedInput, nil
			}
			return endedYield, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-t.closing:
			return 0, errClosing()
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// enter registers a call that waits for the process.
func (p *process) enter() (leave func()) {
	p.mu.Lock()
	p.waiters++
	p.lastUsed = p.t.o.Now()
	p.mu.Unlock()
	return p.leave
}

func (p *process) leave() {
	p.mu.Lock()
	p.waiters--
	p.mu.Unlock()
}

// awaited gives Done until a reply has reported the exit; after that nil and tree,
// to wait for background children.
func (p *process) awaited() (done <-chan struct{}, tree bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exitReported {
		return nil, true
	}
	return p.child.Done(), false
}

// listen gives a channel that is closed on the next output.
func (p *process) listen() (wake <-chan struct{}, unread bool, newest time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wake == nil {
		p.wake = make(chan struct{})
	}
	return p.wake, p.out.buf.len() > 0 || p.errs != nil && p.errs.buf.len() > 0, p.newest
}

// drain waits for a kill that is under way, so that the reply about an ended
// leader tells the truth about its tree.
func (t *Table) drain(ctx context.Context, p *process) error {
	p.mu.Lock()
	killing := p.killing
	p.mu.Unlock()
	if killing == nil {
		return nil
	}
	select {
	case <-killing:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.closing:
		return errClosing()
	}
}

// readRest waits for the end of the output. Without background children it must
// come, however late a busy machine gets to it; with them it may never, and
// what is read after the reply belongs to the next one.
func (t *Table) readRest(p *process) {
	begin := time.Now()
	timer := time.NewTimer(drainFirst)
	defer timer.Stop()
	for {
		select {
		case <-p.eof:
			return
		case <-t.closing:
			return
		case <-timer.C:
		}
		if p.background() == 0 {
			// Only a process outside of the tree that was handed the pipe can hold it.
			if time.Since(begin) > drainLonely {
				return
			}
			timer.Reset(drainQuiet)
			continue
		}
		p.mu.Lock()
		newest := p.newest
		p.mu.Unlock()
		if newest.Before(begin) {
			newest = begin
		}
		rest := min(drainQuiet-time.Since(newest), drainMost-time.Since(begin))
		if rest <= 0 {
			return
		}
		timer.Reset(rest)
	}
}

// result takes the unread output, and forgets the process when this is the last
// that can be said of it.
func (t *Table) result(p *process) Result {
	r := Result{ID: p.id, Running: true, Command: p.command, TTY: p.tty, Started: p.started, Wall: p.wall()}
	_, reported := p.awaited()
	// The exit may have come just after the wait was over: its output counts too.
	if p.exited() {
		t.readRest(p)
		e := p.child.Wait()
		r.Wall = p.wall()
		r.Running, r.Exit = false, &e
		r.BackgroundChildren = p.remaining()
		if r.BackgroundChildren == 0 {
			r.ID = 0
		} else {
			r.Background = p.family()
		}
		p.mu.Lock()
		p.exitReported = true
		p.mu.Unlock()
	}
	p.take(&r, r.ID == 0 || p.ended())
	p.takeDenied(&r, reported)
	if r.ID == 0 {
		t.forget(p, "")
	} else {
		p.idShown.Store(true)
	}
	r.Notices = t.takeNotices()
	return r
}

// remaining counts the background children, giving those that are just dying
// (the other half of a pipeline, say) a moment to be gone.
func (p *process) remaining() int {
	n := p.background()
	for pause := time.Millisecond; n > 0 && p.ended() && pause <= 8*time.Millisecond; pause *= 2 {
		time.Sleep(pause)
		n = p.background()
	}
	return n
}
