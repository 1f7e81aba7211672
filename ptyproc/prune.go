package ptyproc

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"mcp-sandbox/sandbox"
)

// byLastUse lists the processes, least recently used first. Needs t.mu.
func (t *Table) byLastUse() []*process {
	order := make([]*process, 0, len(t.procs))
	for _, p := range t.procs {
		if p != nil {
			order = append(order, p)
		}
	}
	used := make(map[*process]time.Time, len(order))
	for _, p := range order {
		used[p] = p.used()
	}
	slices.SortFunc(order, func(a, b *process) int { return used[a].Compare(used[b]) })
	return order
}

// pruneOne forgets the least recently used ended process. The protected come
// into question only when nothing else has ended: refusing a start for the sake
// of a result nobody has asked for yet would be worse. A running one, or one
// with running children, never.
func (t *Table) pruneOne(order []*process) bool {
	unprotected := order[:max(0, len(order)-t.o.Protected)]
	for _, group := range [][]*process{unprotected, order[len(unprotected):]} {
		for _, p := range group {
			// A call that waits for it will fetch its result itself.
			if p.waiting() > 0 || !p.finished() {
				continue
			}
			if t.forget(p, "pruned") {
				return true
			}
		}
	}
	return false
}

// forget takes an ended process out of the table. lost names why its result
// was never delivered; "" means it was. It reports false when p had gone.
func (t *Table) forget(p *process, lost string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.procs[p.id] != p {
		return false
	}
	delete(t.procs, p.id)
	e := p.summary()
	e.lost = lost
	// An id that no reply has named need not be remembered.
	if p.idShown.Load() {
		if p.screen != nil && lost == "" {
			s := p.screen.snapshot()
			e.screen = &s
		}
		t.finished[p.id] = e
		t.trimScreens()
		t.trimPast()
	}
	if lost == "pruned" {
		t.note(fmt.Sprintf("process %d (%s) ended with %s and was pruned to make room, its unread output is gone", p.id, shorten(p.command), exitText(e.info.Exit)))
	}
	out, errs := p.spoolIDs()
	t.spools.finished(out)
	t.spools.finished(errs)
	p.closeFiles()
	return true
}

// trimPast drops the oldest memories. Needs t.mu.
func (t *Table) trimPast() {
	for len(t.finished) > maxPast {
		oldest := -1
		for id, e := range t.finished {
			if oldest < 0 || e.at.Before(t.finished[oldest].at) {
				oldest = id
			}
		}
		delete(t.finished, oldest)
	}
}

// sweep lets go of ended processes nobody asked about for FinishedTTL. It runs
// on every call instead of on a timer: a session without calls needs no upkeep.
func (t *Table) sweep() {
	t.mu.Lock()
	var old []*process
	limit := t.o.Now().Add(-t.o.FinishedTTL)
	for _, p := range t.procs {
		if p != nil && p.exited() && p.child.Ended().Before(limit) && p.used().Before(limit) {
			old = append(old, p)
		}
	}
	t.mu.Unlock()
	for _, p := range old {
		if p.waiting() == 0 && p.finished() {
			t.forget(p, "expired")
		}
	}
}

// note keeps a sentence for the next reply. Needs t.mu.
func (t *Table) note(s string) {
	const most = 64
	if len(t.notices) < most && !slices.Contains(t.notices, s) {
		t.notices = append(t.notices, s)
	}
}

func (t *Table) takeNotices() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.notices
	if t.nearLimit != "" {
		n = append(n, t.nearLimit)
	}
	t.notices, t.nearLimit = nil, ""
	return n
}

// shorten makes a command fit into a sentence; what does not print could pose
// as another one.
func shorten(command string) string {
	const longest = 60
	command = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, command)
	command = strings.Join(strings.Fields(command), " ")
	if r := []rune(command); len(r) > longest {
		return string(r[:longest]) + "..."
	}
	return command
}

func exitText(e *sandbox.ExitStatus) string {
	switch {
	case e == nil:
		return "an unknown status"
	case e.Signal != 0:
		return fmt.Sprintf("signal %d (code %d)", int(e.Signal), e.Code)
	}
	return fmt.Sprintf("code %d", e.Code)
}
