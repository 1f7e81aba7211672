package ptyproc

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// spoolStore holds the whole output of commands whose output did not fit into
// memory, one file each. What it may take of the disk is bounded per command and
// in all.
type spoolStore struct {
	dir          string
	limit, total int64

	mu    sync.Mutex
	size  int64
	byID  map[string]*spool
	order []*spool // oldest first
}

// spool is one file. It keeps its beginning when it is full: the end is what
// the bounded buffer still has.
type spool struct {
	store *spoolStore
	id    string
	path  string

	mu      sync.Mutex
	file    *os.File // nil once nothing more is written
	size    int64
	missing int64 // bytes that were not written
	failed  string
}

func newSpoolStore(o Options) *spoolStore {
	return &spoolStore{dir: o.SpoolDir, limit: o.SpoolLimit, total: o.SpoolTotal, byID: make(map[string]*spool)}
}

// create never fails: a spool without a file counts what it misses and says why.
func (s *spoolStore) create() *spool {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, crypto/rand
	sp := &spool{store: s, id: "out_" + hex.EncodeToString(b[:])}
	sp.path = filepath.Join(s.dir, sp.id)
	f, err := os.OpenFile(sp.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		sp.failed = errnoText(err)
	} else {
		sp.file = f
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byID[sp.id] = sp
	s.order = append(s.order, sp)
	return sp
}

// write adds p as far as the limits allow.
func (sp *spool) write(p []byte) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.file == nil {
		sp.missing += int64(len(p))
		return
	}
	n := min(int64(len(p)), sp.store.limit-sp.size)
	n = sp.store.grow(n)
	wrote, err := sp.file.Write(p[:n])
	sp.size += int64(wrote)
	sp.missing += int64(len(p) - wrote)
	if err != nil {
		sp.failed = errnoText(err)
	}
	// A hole would be worse than an early end.
	if wrote < len(p) {
		_ = sp.file.Close()
		sp.file = nil
	}
}

// grow reserves up to n bytes, letting go of the oldest ended outputs.
func (s *spoolStore) grow(n int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; i < len(s.order) && s.size+n > s.total; {
		old := s.order[i]
		// TryLock: the caller's own spool is locked, and one that is being
		// written is not ended.
		if !old.mu.TryLock() {
			i++
			continue
		}
		gone := old.file == nil
		if gone {
			s.size -= old.size
			delete(s.byID, old.id)
			s.order = append(s.order[:i], s.order[i+1:]...)
			_ = os.Remove(old.path)
		} else {
			i++
		}
		old.mu.Unlock()
	}
	n = max(0, min(n, s.total-s.size))
	s.size += n
	return n
}

// finished says that no more comes for the output.
func (s *spoolStore) finished(id string) {
	if id == "" {
		return
	}
	s.mu.Lock()
	sp := s.byID[id]
	s.mu.Unlock()
	if sp == nil {
		return
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if sp.file != nil {
		_ = sp.file.Close()
		sp.file = nil
	}
}

func (s *spoolStore) find(id string) (*spool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sp := s.byID[id]; sp != nil {
		return sp, nil
	}
	return nil, errorf("not_found", nil, "no kept output has the id %q; use an output_id of this session (the oldest are let go first)", shorten(id))
}

// open gives the output as far as it is written now.
func (s *spoolStore) open(id string) (*os.File, int64, *spool, error) {
	sp, err := s.find(id)
	if err != nil {
		return nil, 0, nil, err
	}
	sp.mu.Lock()
	size, failed := sp.size, sp.failed
	sp.mu.Unlock()
	f, err := os.Open(sp.path)
	if err != nil {
		if failed == "" {
			failed = errnoText(err)
		}
		return nil, 0, nil, errorf("not_found", err, "the output could not be kept (%s); run the command again with its output in a file", failed)
	}
	return f, size, sp, nil
}

// close removes every file.
func (s *spoolStore) close() {
	s.mu.Lock()
	order := s.order
	s.order, s.byID, s.size = nil, make(map[string]*spool), 0
	s.mu.Unlock()
	for _, sp := range order {
		sp.mu.Lock()
		if sp.file != nil {
			_ = sp.file.Close()
			sp.file = nil
		}
		sp.mu.Unlock()
		_ = os.Remove(sp.path)
	}
}

// KeepOutput keeps a text under an output id of its own: a reply that its reader
// had to cut, of a command whose output is not spooled.
func (t *Table) KeepOutput(text []byte) (outputID string) {
	sp := t.spools.create()
	sp.write(text)
	t.spools.finished(sp.id)
	return sp.id
}

// OpenOutput reads a kept output from its beginning, as far as it is written
// now. Code: not_found.
func (t *Table) OpenOutput(outputID string) (io.ReadCloser, error) {
	f, size, _, err := t.spools.open(outputID)
	if err != nil {
		return nil, err
	}
	return &outputReader{Reader: io.LimitReader(f, size), file: f}, nil
}

type outputReader struct {
	io.Reader
	file *os.File
}

func (r *outputReader) Close() error { return r.file.Close() }
