package ptyproc

import (
	"slices"
	"sync"

	"mcp-sandbox/ptyproc/terminal"
)

const defaultCols, defaultRows = 120, 30

// Screen is what a person would see on a terminal at one moment, as Text or as
// PNG.
type Screen = terminal.Screen

// lastScreens bounds the cells of the last screens of ended processes, 20 bytes
// each: about a thousand terminals of 120x30, or 40 of the largest size.
const lastScreens = 4_000_000

// Screen shows the terminal of a process: what it is now, or of an ended one
// what it was at the end.
// Codes: process_not_found, invalid_argument (it has no terminal).
func (t *Table) Screen(id int) (Screen, error) {
	p, past, err := t.lookup(id)
	if err != nil {
		return Screen{}, err
	}
	switch {
	case past != nil && past.screen != nil:
		return *past.screen, nil
	case past != nil && !past.info.TTY:
		return Screen{}, errNoScreen(id)
	case past != nil:
		return Screen{}, errorf("process_not_found", nil, "process %d has ended with %s and its screen is gone; start the command again", id, exitText(past.info.Exit))
	}
	if p.screen == nil {
		return Screen{}, errNoScreen(id)
	}
	p.mu.Lock()
	p.lastUsed = t.o.Now()
	p.mu.Unlock()
	return p.screen.snapshot(), nil
}

func errNoScreen(id int) error {
	return errorf("invalid_argument", nil, "process %d has no terminal; start the command with tty to see a screen", id)
}

// trimScreens lets go of the oldest last screens. Needs t.mu.
func (t *Table) trimScreens() {
	kept := make([]*ended, 0, len(t.finished))
	cells := 0
	for _, e := range t.finished {
		if e.screen == nil {
			continue
		}
		if t.o.Now().Sub(e.at) > t.o.FinishedTTL {
			e.screen = nil
			continue
		}
		cells += e.screen.Cols * e.screen.Rows
		kept = append(kept, e)
	}
	if cells <= lastScreens {
		return
	}
	slices.SortFunc(kept, func(a, b *ended) int { return a.at.Compare(b.at) })
	for _, e := range kept {
		if cells <= lastScreens {
			return
		}
		cells -= e.screen.Cols * e.screen.Rows
		e.screen = nil
	}
}

// Resize changes the size of a process's terminal; the program is told by
// SIGWINCH. Codes: process_not_found, invalid_argument, internal.
func (t *Table) Resize(id int, cols, rows uint16) error {
	if err := checkSize(cols, rows); err != nil {
		return err
	}
	p, past, err := t.lookup(id)
	if err != nil {
		return err
	}
	if past != nil || p.screen == nil {
		return errorf("invalid_argument", nil, "process %d has no terminal; start the command with tty", id)
	}
	// The screen first: what the program draws for the new size must find it.
	p.screen.resize(int(cols), int(rows))
	if err := p.child.Resize(cols, rows); err != nil {
		return errorf("internal", err, "the terminal of process %d could not be resized (%s); call again", id, errnoText(err))
	}
	return nil
}

// size is that of the terminal now.
func (s *screen) size() (cols, rows int) {
	snap := s.snapshot()
	return snap.Cols, snap.Rows
}

func (s *screen) applicationCursor() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.em.ApplicationCursor()
}

func (s *screen) lineEditor() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.em.LineEditor()
}

// checkSize is for sizes that the terminal can have.
func checkSize(cols, rows uint16) error {
	if cols < 1 || rows < 1 || cols > terminal.MaxCols || rows > terminal.MaxRows {
		return errorf("invalid_argument", nil, "terminal size %dx%d out of range; use 1x1 to %dx%d", cols, rows, terminal.MaxCols, terminal.MaxRows)
	}
	return nil
}

// screen guards an emulator: the pump writes while calls look.
type screen struct {
	mu sync.Mutex
	em *terminal.Emulator
}

func newScreen(cols, rows int) *screen { return &screen{em: terminal.New(cols, rows)} }

// write feeds output and hands what the program has asked for to answer.
func (s *screen) write(p []byte, answer func([]byte)) {
	s.mu.Lock()
	_, _ = s.em.Write(p) // never fails
	reply := s.em.Reply()
	s.mu.Unlock()
	if len(reply) > 0 {
		answer(reply)
	}
}

func (s *screen) resize(cols, rows int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.em.Resize(cols, rows)
}

func (s *screen) alternate() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.em.Alternate()
}

func (s *screen) snapshot() Screen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.em.Snapshot()
}
