package ptyproc

import "sync"

const (
	defaultCols, defaultRows = 120, 30
	maxCols, maxRows         = 500, 200
)

// Screen is what a person would see on a terminal at one moment.
type Screen struct {
	Cols, Rows int
	// CursorCol and CursorRow are 0-based.
	CursorCol, CursorRow int
	CursorVisible        bool
	// Title is what the program has set as the window's title.
	Title string
	cells []cell
}

// Screen shows the terminal of a running process.
// Codes: process_not_found, invalid_argument (it has no terminal).
func (t *Table) Screen(id int) (Screen, error) {
	p, past, err := t.lookup(id)
	if err != nil {
		return Screen{}, err
	}
	if past != nil {
		return Screen{}, errorf("process_not_found", nil, "process %d has ended with %s and its screen is gone, start the command again", id, exitText(past.info.Exit))
	}
	if p.screen == nil {
		return Screen{}, errorf("invalid_argument", nil, "process %d has no terminal, start the command with tty to see a screen", id)
	}
	p.mu.Lock()
	p.lastUsed = t.o.Now()
	p.mu.Unlock()
	return p.screen.snapshot(), nil
}

// Resize changes the size of a process's terminal; the program is told by
// SIGWINCH. Codes: process_not_found, invalid_argument, internal.
func (t *Table) Resize(id int, cols, rows uint16) error {
	if cols < 1 || rows < 1 || cols > maxCols || rows > maxRows {
		return errorf("invalid_argument", nil, "a terminal of %dx%d cannot be had, use 1x1 to %dx%d", cols, rows, maxCols, maxRows)
	}
	p, past, err := t.lookup(id)
	if err != nil {
		return err
	}
	if past != nil || p.screen == nil {
		return errorf("invalid_argument", nil, "process %d has no terminal, start the command with tty", id)
	}
	// The screen first: what the program draws for the new size must find it.
	p.screen.resize(int(cols), int(rows))
	if err := p.child.Resize(cols, rows); err != nil {
		return errorf("internal", err, "the terminal of process %d could not be resized (%s), call again", id, errnoText(err))
	}
	return nil
}

// screen guards an emulator: the pump writes while calls look.
type screen struct {
	mu sync.Mutex
	em *emulator
}

func newScreen(cols, rows int) *screen { return &screen{em: newEmulator(cols, rows)} }

// write feeds output and hands what the program has asked for to answer.
func (s *screen) write(p []byte, answer func([]byte)) {
	s.mu.Lock()
	s.em.write(p)
	reply := s.em.reply
	s.em.reply = nil
	s.mu.Unlock()
	if len(reply) > 0 {
		answer(reply)
	}
}

func (s *screen) resize(cols, rows int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.em.resize(cols, rows)
}

func (s *screen) snapshot() Screen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.em.snapshot()
}
