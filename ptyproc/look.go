package ptyproc

import (
	"context"
	"time"

	"mcp-sandbox/sandbox"
)

// InputChild is a Child that knows whether it waits for input.
type InputChild interface {
	AwaitsInput(context.Context) sandbox.InputState
}

const (
	// A look comes this long after the last output, and then ever later.
	firstLook = 2 * time.Millisecond
	lastLook  = 60 * time.Millisecond
	// Looks may take this much time at once, and a part of the wait: a session
	// with hundreds of processes is looked at less often.
	lookBurst = 10 * time.Millisecond
	lookShare = 20
	// A look counts for no more than this: on a busy machine it mostly waits for a
	// processor, which must not put the next one off for seconds.
	lookMost = 25 * time.Millisecond
	// What may still do something by itself must have been quiet for this long.
	quietShared = 400 * time.Millisecond
	quietTimed  = 100 * time.Millisecond
	// So many looks in a row that tell nothing mean that none will.
	manyUnknown = 3
)

// looker asks a child from time to time whether it waits for input.
type looker struct {
	child InputChild
	p     *process
	begin time.Time
	next  time.Time
	pause time.Duration
	spent time.Duration
	// newest is the output that the pauses count from.
	newest time.Time
	// takes is since when every look has found that the child takes input.
	takes time.Time
	// unseen says that looks tell nothing. A single one may have met a process
	// that was just changing.
	unseen  bool
	unknown int
	// sure lets only a child that waits for nothing but input end the wait; what
	// else takes input is in doubt until then.
	sure  bool
	doubt bool
}

// newLooker is nil when there is no input to wait for.
func newLooker(p *process, w waitFor, begin time.Time, tree bool) *looker {
	if !w.input || tree {
		return nil
	}
	l := &looker{p: p, begin: begin, sure: w.until != nil, pause: firstLook, next: begin.Add(firstLook)}
	if l.child, _ = p.child.(InputChild); l.child == nil {
		l.unseen = true
	}
	return l
}

// check looks if it is time to. It reports that the child waits for input and
// all it has written is in the buffer, or when to check again.
func (l *looker) check(ctx context.Context, now, newest time.Time) (waits bool, at time.Time) {
	if l.child == nil {
		return false, now.Add(time.Hour)
	}
	if newest.After(l.newest) {
		l.newest, l.pause = newest, firstLook
		l.next = later(now.Add(firstLook), l.affordable())
		l.doubt = false
	}
	if now.Before(l.next) {
		return false, l.next
	}
	// What is typed between the look and its verdict is what the child waited for.
	writes := l.p.writes.Load()
	writing := len(l.p.writing) > 0
	state := l.child.AwaitsInput(ctx)
	after := time.Now()
	l.spent += min(after.Sub(now), lookMost)
	if l.unknown++; state != sandbox.InputUnknown {
		l.unknown = 0
	}
	l.unseen = l.unknown >= manyUnknown
	var quiet time.Duration
	switch state {
	case sandbox.InputWaits:
	case sandbox.InputTimed:
		quiet = quietTimed
	case sandbox.InputShared, sandbox.InputPolls:
		quiet = quietShared
	default:
		l.takes, l.doubt = time.Time{}, false
		l.later(after)
		return false, l.next
	}
	// A line editor that looks up between keys (Python since 3.13, irb, vim) still
	// waits for a line. A relay may have one on its other side.
	if state != sandbox.InputShared && quiet > 0 && l.p.drained() && l.p.screen.lineEditor() {
		quiet = 0
	}
	if l.takes.IsZero() {
		l.takes = now
	}
	since := later(l.takes, l.newest)
	if after.Sub(since) < quiet {
		l.next = later(earlier(since.Add(quiet), after.Add(lastLook)), l.affordable())
		return false, l.next
	}
	// In this order: what the child wrote before it waited is there by now, and
	// what the terminal answers to that is typed.
	if !l.p.drained() || writing || len(l.p.writing) > 0 || l.p.writes.Load() != writes {
		l.later(after)
		return false, l.next
	}
	if _, _, n := l.p.listen(); quiet > 0 && n.After(l.newest) {
		l.later(after)
		return false, l.next
	}
	if l.doubt = l.sure && quiet > 0; l.doubt {
		l.later(after)
		return false, l.next
	}
	return true, now
}

// doubtful says that the last look found a child that takes input, but may go on
// by itself.
func (l *looker) doubtful() bool { return l != nil && l.doubt }

func (l *looker) later(now time.Time) {
	l.next = later(now.Add(l.pause), l.affordable())
	l.pause = min(2*l.pause, lastLook)
}

// affordable is when the looks so far are within their share.
func (l *looker) affordable() time.Time {
	return l.begin.Add((l.spent - lookBurst) * lookShare)
}
