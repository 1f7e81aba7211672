package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"mcp-sandbox/stage"
	"mcp-sandbox/treecopy"
)

// workspaceWatch bounds what a workspace we made may hold. Few file systems give
// an unprivileged server a quota for a directory, so it is measured: every few
// seconds while something runs, and before a call that could make it grow. What
// is found over the limit ends the session's processes, so the disk is lost to
// one client for seconds, not for good.
type workspaceWatch struct {
	limit int64
	mu    sync.Mutex // one measurement at a time
	used  int64
	at    time.Time
	took  time.Duration
	kills map[int]func() // of processes that are not the table's
	last  int
}

// measure walks the workspace unless that was done within fresh. It walks below
// a descriptor, so nothing the agent moves can lead it elsewhere.
func (w *workspaceWatch) measure(s *Session, fresh time.Duration) (int64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.at) < fresh {
		return w.used, nil
	}
	began := time.Now()
	var used int64
	var err error
	done := make(chan struct{})
	// The thread of a file tool has the rights of the workspace's owner, who cannot look
	// into the state directory.
	go func() {
		defer close(done)
		used, err = measureOnce(s)
	}()
	<-done
	if err != nil && used <= w.limit {
		return max(used, w.used), err
	}
	w.used, w.at, w.took = used, time.Now(), time.Since(began)
	return used, nil
}

func measureOnce(s *Session) (used int64, err error) {
	if s.stage != nil {
		// Of a staged workspace that is what the session changed.
		used, _, err = stage.Size(filepath.Join(s.stage.Layers(), "upper"))
		return used, err
	}
	dir, err := os.OpenFile(s.root, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	if fi, err := dir.Stat(); err != nil || !sameDir(fi, s.rootFD) {
		return 0, errors.Join(err, errors.New("the workspace is another directory"))
	}
	used, _, err = treecopy.Usage(int(dir.Fd()))
	return used, err
}

func onDisk(fi os.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512 // stat(2): st_blocks are of 512 bytes everywhere
	}
	return fi.Size()
}

// HasRoom refuses when the workspace holds more than it may. Code: limit_reached.
func (s *Session) HasRoom() error {
	w := s.watch
	if w == nil || s.requireRunning() != nil {
		return nil
	}
	w.mu.Lock()
	fresh := max(2*time.Second, 10*w.took)
	w.mu.Unlock()
	used, _ := w.measure(s, fresh)
	if used > w.limit {
		used, _ = w.measure(s, 0) // something may have been removed since
	}
	if used <= w.limit {
		return nil
	}
	return errorf("limit_reached", nil, "the workspace holds %d bytes and may hold %d; remove files with rm", used, w.limit)
}

// stale has the workspace measured at the next call.
func (w *workspaceWatch) stale() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = time.Time{}
}

// grow is asked by the file tools before the workspace grows by n bytes.
// Code: limit_reached.
func (s *Session) grow(n int64) error {
	w := s.watch
	if w == nil {
		return nil
	}
	w.mu.Lock()
	fresh := max(2*time.Second, 10*w.took)
	w.mu.Unlock()
	used, _ := w.measure(s, fresh)
	if used+n > w.limit {
		used, _ = w.measure(s, 0)
	}
	if used+n > w.limit {
		return errorf("limit_reached", nil, "the workspace holds %d bytes and may hold %d, which leaves no room for %d more; remove files with rm", used, w.limit, n)
	}
	// Until it is measured again, so that many calls at once do not all fit.
	w.mu.Lock()
	w.used += n
	w.mu.Unlock()
	return nil
}

// OnOverLimit has kill called when the workspace holds more than it may, for a process
// that the caller has started itself, until stop.
func (s *Session) OnOverLimit(kill func()) (stop func()) {
	w := s.watch
	if w == nil {
		return func() {}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	n := w.last
	if w.kills == nil {
		w.kills = map[int]func(){}
	}
	w.kills[n] = kill
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.kills, n)
	}
}

// watchWorkspace runs until the session is closed.
func (s *Session) watchWorkspace() {
	for {
		w := s.watch
		w.mu.Lock()
		wait := max(2*time.Second, 20*w.took)
		w.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-s.closed:
			t.Stop()
			return
		case <-t.C:
		}
		var running []int
		for _, p := range s.Processes() {
			if stillRuns(p) {
				running = append(running, p.ID)
			}
		}
		w.mu.Lock()
		kills := slices.Collect(maps.Values(w.kills))
		w.mu.Unlock()
		if len(running)+len(kills) == 0 {
			continue
		}
		if used, _ := w.measure(s, 0); used <= w.limit {
			continue
		}
		s.tell(fmt.Sprintf("workspace: it grew past %d bytes, so its processes were killed; remove files with rm", w.limit))
		for _, id := range running {
			// Not by s.Kill, which would take the sentence for a result nobody reads.
			_, _ = s.table.Kill(context.Background(), id, syscall.SIGKILL)
		}
		for _, kill := range kills {
			kill()
		}
	}
}

// tell keeps a sentence for the model's next result.
func (s *Session) tell(text string) {
	s.noticesMu.Lock()
	defer s.noticesMu.Unlock()
	s.notices = append(s.notices, text)
}

func (s *Session) takeNotices() []string {
	s.noticesMu.Lock()
	defer s.noticesMu.Unlock()
	out := s.notices
	s.notices = nil
	return out
}
