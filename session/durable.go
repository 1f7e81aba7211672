package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Durable says when what calls have changed is stored beyond this machine, in a
// snapshot that the session's entry names. The zero value is when a session is
// suspended, ends, or was quiet for a while.
type Durable struct {
	// Call stores before a call that can change something is answered.
	Call bool
	// Interval stores this often in the background; 0 is never.
	Interval time.Duration
}

// lost words what a session loses with its machine.
func (d Durable) lost() string {
	switch {
	case d.Call:
		return "what a call changed that was not answered may be lost"
	case d.Interval > 0:
		return fmt.Sprintf("later changes, of the last %s or so, are lost", d.Interval)
	}
	return "later changes are lost"
}

// Commit stores what the session holds now, where Durable.Call says so; calls that end
// meanwhile share the next one. Only then may a call be answered. Codes: those of Stop.
func (s *Session) Commit(ctx context.Context) error {
	if !s.config.Durable.Call || !s.kept || !s.owned {
		return nil
	}
	s.workedMu.Lock()
	s.ended++
	mine := s.ended
	s.workedMu.Unlock()
	s.committing.Lock()
	defer s.committing.Unlock()
	s.workedMu.Lock()
	before, stored := s.ended, s.committed
	s.workedMu.Unlock()
	if stored >= mine {
		return nil
	}
	if _, err := s.Stop(ctx); err != nil {
		if ctx.Err() == nil {
			s.checkpointFailed(err)
		}
		return err
	}
	s.checkpoints.Lock()
	unread := s.unread
	s.checkpoints.Unlock()
	if unread != "" {
		return errorf("snapshot_failed", errUnread, "these files may not be read, and so are not stored: %s; chmod -R u+rX them, or remove them", unread)
	}
	s.workedMu.Lock()
	defer s.workedMu.Unlock()
	s.committed = before
	return nil
}

// errUnread is the cause of a Commit that stored all but what may not be read.
var errUnread = errors.New("files in the workspace may not be read by its owner")

// UnreadOf is the text of a Commit's error that stored all but what may not be read,
// "" for any other.
func UnreadOf(err error) string {
	if !errors.Is(err, errUnread) {
		return ""
	}
	return err.Error()
}

// unreadNamed bounds how many paths a text names.
const unreadNamed = 5

// unreadText names what a checkpoint could not read, "" for nothing.
func unreadText(i SnapshotInfo) string {
	named := i.Unread[:min(len(i.Unread), unreadNamed)]
	text := strings.Join(named, ", ")
	if more := i.UnreadCount - len(named); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// intervalAtOnce bounds the checkpoints that run at the same time for
// Durable.Interval.
const intervalAtOnce = 8

// startInterval keeps the promise of Durable.Interval until stop is called. What a
// process changes between calls is stored too, so a session with one is looked at each
// time.
func (m *Manager) startInterval() (stop func() (wait func())) {
	every := m.config.Durable.Interval
	if every <= 0 {
		return func() func() { return func() {} }
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				m.storeAll(quit)
			case <-quit:
				return
			}
		}
	})
	end := sync.OnceFunc(func() { close(quit) })
	return func() func() { end(); return wg.Wait }
}

func (m *Manager) storeAll(quit <-chan struct{}) {
	var all []*Session
	m.mu.Lock()
	for _, e := range m.sessions {
		select {
		case <-e.ready:
			if e.session != nil && e.leaving == nil {
				all = append(all, e.session)
			}
		default:
		}
	}
	m.mu.Unlock()
	// The others are saved at their end.
	atOnce(intervalAtOnce, all, quit, (*Session).checkpointQuiet)
}

// DurableText says to the reader of session_info what is stored when, "" for a session
// that does not outlive its machine.
func (s *Session) DurableText() string {
	switch d := s.config.Durable; {
	case s.state.lease == nil || !s.kept:
		return ""
	case d.Call:
		return "files are stored before a call that may have changed some is answered; what a running process writes later, with the next such call"
	case d.Interval > 0:
		return fmt.Sprintf("files are stored every %s; with the machine, what was written since is lost", d.Interval)
	}
	return "files are stored by snapshot_create, and when the session is suspended or was quiet for 15 s; with the machine, what was written since is lost"
}
