package ptyproc

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mcp-sandbox/sandbox"
)

const (
	firstID, lastID = 1000, 99_999
	// What is remembered of ended processes is small, but must still end.
	maxPast = 1024
	// Close leaves half a second between TERM and KILL, not the usual two: whoever
	// closes a session is leaving, and everything must be gone within two seconds.
	closeGrace = 500 * time.Millisecond
)

// Table is the processes of one session. It is safe for concurrent use.
type Table struct {
	spawner Spawner
	o       Options
	spools  *spoolStore
	closing chan struct{}
	// work counts the goroutines of this table, so that Close leaves none.
	work sync.WaitGroup

	mu     sync.Mutex
	closed bool
	// procs has a nil for each process that is being started.
	procs    map[int]*process
	finished map[int]*ended
	notices  []string
	// nearLimit is the latest near-limit warning; older ones are superseded.
	nearLimit string
}

// ended is what is remembered of a process whose result was delivered, or was
// not fetched in time.
type ended struct {
	info        Info
	wall        time.Duration
	at          time.Time
	timedOut    bool
	killed      bool
	killedAfter time.Duration
	outputID    string
	errID       string // of standard error, where that is separate
	separate    bool
	// lost is set when the unread output went with the record.
	lost string
	// screen is the last one of a terminal, nil when it was let go.
	screen *Screen
}

// NewTable makes an empty table. Close it.
func NewTable(sp Spawner, o Options) *Table {
	o = o.withDefaults()
	return &Table{
		spawner: sp, o: o, spools: newSpoolStore(o), closing: make(chan struct{}),
		procs: make(map[int]*process), finished: make(map[int]*ended),
	}
}

// Start runs a command and waits until it ends or the yield is over.
// Codes: invalid_argument, exec_failed, limit_reached, cancelled, and those of
// the Spawner.
func (t *Table) Start(ctx context.Context, r StartRequest) (Result, error) {
	if len(r.Argv) == 0 || r.Argv[0] == "" {
		return Result{}, errorf("invalid_argument", nil, "the command has no program; give at least its name")
	}
	if r.StdinText != "" && (r.TTY || r.Stdin != sandbox.StdinPipe) {
		return Result{}, errorf("invalid_argument", nil, "stdin text needs a pipe; start without a terminal and with stdin open")
	}
	if err := ctx.Err(); err != nil {
		return Result{}, errorf("cancelled", err, "the call was cancelled before the command started; call again if it is still wanted")
	}
	if r.TTY {
		r.Cols, r.Rows = cmp.Or(r.Cols, defaultCols), cmp.Or(r.Rows, defaultRows)
		if err := checkSize(r.Cols, r.Rows); err != nil {
			return Result{}, err
		}
	}
	p, err := t.spawn(ctx, r)
	if err != nil {
		return Result{}, err
	}
	defer p.leave()
	res, err := t.await(ctx, p, waitFor{yield: r.Yield, progress: r.Progress, input: p.interactive, until: r.WaitFor})
	if err != nil {
		if stopping(ctx) && t.o.OnCancel != "leave" {
			// It would end with the session, without anybody to read what it wrote.
			p.end(min(t.o.KillGrace, stopGrace))
			return t.cutShort(p), nil
		}
		return Result{}, t.cancelled(p, err)
	}
	return res, nil
}

// stopGrace is what a command has between TERM and KILL when the server stops.
const stopGrace = 300 * time.Millisecond

func stopping(ctx context.Context) bool { return errors.Is(context.Cause(ctx), sandbox.ErrStopping) }

// cutShort is what a process has written until the server stopped.
func (t *Table) cutShort(p *process) Result {
	if p.finished() {
		t.readRest(p)
	}
	r := t.result(p)
	r.Stopped = true
	return r
}

// spawn takes a place in the table before anything runs, so that a full table
// never has a process it does not know.
func (t *Table) spawn(ctx context.Context, r StartRequest) (*process, error) {
	id, err := t.reserve()
	if err != nil {
		return nil, err
	}
	started := t.o.Now()
	child, err := t.spawner.Spawn(ctx, r.Command)
	if err != nil {
		t.mu.Lock()
		delete(t.procs, id)
		t.mu.Unlock()
		return nil, spawnError(ctx, err)
	}
	p := newProcess(t, id, r, child, started)
	t.mu.Lock()
	closed := t.closed
	if !closed {
		t.procs[id] = p
		p.run(r)
	}
	t.mu.Unlock()
	if closed {
		// Close has already looked over the table, so this one is ours to end.
		_ = child.SignalTree(syscall.SIGKILL)
		p.closeFiles()
		return nil, errClosing()
	}
	return p, nil
}

func spawnError(ctx context.Context, err error) error {
	if sandbox.CodeOf(err) != "" {
		return err
	}
	if ctx.Err() != nil {
		return errorf("cancelled", err, "the call was cancelled while the command started; call again if it is still wanted")
	}
	return errorf("exec_failed", err, "the command could not be started (%s); check the program's name and its permissions", errnoText(err))
}

func errClosing() error {
	return errorf("cancelled", nil, "the session is closing; start a new one")
}

// reserve finds an id and a place, pruning an ended process when all are taken.
func (t *Table) reserve() (int, error) {
	t.sweep()
	for {
		t.mu.Lock()
		if t.closed {
			t.mu.Unlock()
			return 0, errClosing()
		}
		used := len(t.procs)
		if used < t.o.MaxProcesses {
			id, ok := t.newID()
			if !ok {
				t.mu.Unlock()
				return 0, errorf("limit_reached", nil, "every process id is in use; wait until ended processes are forgotten")
			}
			t.procs[id] = nil
			if used+1 >= t.o.WarnAt {
				t.nearLimit = fmt.Sprintf("%d of %d processes in use; end those no longer needed with kill_process", used+1, t.o.MaxProcesses)
			}
			t.mu.Unlock()
			return id, nil
		}
		order := t.byLastUse()
		t.mu.Unlock()
		if !t.pruneOne(order) {
			return 0, t.errFull(order)
		}
	}
}

// errFull names what could be ended, least recently used first. A live process
// is never ended to make room.
func (t *Table) errFull(order []*process) error {
	const most = 8
	var named []string
	for _, p := range order[:min(len(order), most)] {
		state := "running"
		if p.exited() {
			state = "children of it run"
		}
		p.idShown.Store(true)
		named = append(named, fmt.Sprintf("%d (%s, %s)", p.id, shorten(p.command), state))
	}
	if more := len(order) - most; more > 0 {
		named = append(named, fmt.Sprintf("%d more", more))
	}
	return errorf("limit_reached", nil, "all %d processes of the session run: %s; end one with kill_process and call again",
		t.o.MaxProcesses, strings.Join(named, ", "))
}

// newID draws an unused id. Needs t.mu.
func (t *Table) newID() (int, bool) {
	const span = lastID - firstID + 1
	if len(t.procs)+len(t.finished) >= span {
		return 0, false
	}
	free := func(id int) bool {
		_, live := t.procs[id]
		_, past := t.finished[id]
		return !live && !past
	}
	for range 64 {
		if id := firstID + t.o.Identify(span); free(id) {
			return id, true
		}
	}
	// Nearly full, or a source that repeats itself: take the next free one.
	start := t.o.Identify(span)
	for i := range span {
		if id := firstID + (start+i)%span; free(id) {
			return id, true
		}
	}
	return 0, false
}

func randomBelow(n int) int {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, crypto/rand
	return int(binary.LittleEndian.Uint64(b[:]) % uint64(n))
}

// lookup finds a running or unread process, or what is remembered of it.
func (t *Table) lookup(id int) (*process, *ended, error) {
	t.sweep()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, nil, errClosing()
	}
	if p := t.procs[id]; p != nil {
		return p, nil, nil
	}
	e := t.finished[id]
	switch {
	case e == nil:
		return nil, nil, errorf("process_not_found", nil, "no process has session id %d; list_processes shows those there are", id)
	case e.lost != "" || t.o.Now().Sub(e.at) > t.o.FinishedTTL:
		reason := e.lost
		if reason == "" {
			reason = "expired"
		}
		return nil, nil, errorf("process_not_found", nil, "process %d (%s) ended earlier with %s and its record is %s; run the command again if its output is needed",
			id, shorten(e.info.Command), exitText(e.info.Exit), reason)
	}
	return nil, e, nil
}

// List shows the running processes and those that ended in the last
// FinishedTTL, oldest first. Commands that ended within their first call, and so
// never had an id shown, are not in it.
func (t *Table) List() []Info {
	t.sweep()
	t.mu.Lock()
	procs := make([]*process, 0, len(t.procs))
	for _, p := range t.procs {
		if p != nil {
			procs = append(procs, p)
		}
	}
	rows := make([]Info, 0, len(procs)+len(t.finished))
	limit := t.o.Now().Add(-t.o.FinishedTTL)
	for _, e := range t.finished {
		if e.lost == "" && e.at.After(limit) {
			rows = append(rows, e.info)
		}
	}
	t.mu.Unlock()
	// Outside the lock: each may ask the confinement for its children.
	for _, p := range procs {
		rows = append(rows, p.info())
	}
	slices.SortFunc(rows, func(a, b Info) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return rows
}

// Close kills every tree, waits (bounded) and removes all spooled output. Calls
// that wait end with code cancelled. It is idempotent.
func (t *Table) Close() {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		t.work.Wait()
		return
	}
	t.closed = true
	close(t.closing)
	procs := make([]*process, 0, len(t.procs))
	for _, p := range t.procs {
		if p != nil {
			procs = append(procs, p)
		}
	}
	t.mu.Unlock()

	var wg sync.WaitGroup
	for _, p := range procs {
		wg.Go(func() { p.end(min(t.o.KillGrace, closeGrace)) })
	}
	wg.Wait()
	for _, p := range procs {
		p.closeFiles()
	}
	t.work.Wait()
	t.spools.close()
	t.mu.Lock()
	clear(t.procs)
	clear(t.finished)
	t.mu.Unlock()
}
