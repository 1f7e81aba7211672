package confine

import "golang.org/x/sys/unix"

// A call that could complete a bare repository is done while nobody else changes names:
// no command, which turn keeps out, and no file tool, which the lock of the stage does.
// File tools make names in the server, where no supervisor looks, and hold the lock for
// as long as they run (session.HoldNames). No other call waits for that one: its caller
// waits with those whose opens do.

// turnAlone carries out such a call, or puts it off.
func (t *supervisorThread) turnAlone(q *request) reply {
	r, done := t.tryAlone(q)
	if done {
		return r
	}
	n := *q.notification
	select {
	case t.waiting <- &waitingOpen{listener: t.listener, id: q.id, dir: none, reader: none, alone: &request{notification: &n, supervisedCall: q.supervisedCall}}:
		return reply{fd: none, later: true}
	default:
		return reply{err: unix.EAGAIN, fd: none}
	}
}

// tryAlone carries out a call, unless a file tool holds the lock.
func (t *supervisorThread) tryAlone(q *request) (r reply, done bool) {
	g := t.s.git
	g.turn.Lock()
	defer g.turn.Unlock()
	// Only with turn: the lock is that of the one descriptor of all threads.
	for {
		switch unix.Flock(g.fd, unix.LOCK_EX|unix.LOCK_NB) {
		case nil:
			defer unix.Flock(g.fd, unix.LOCK_UN)
			q.alone = true
			return t.do(q), true
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return r, false
		default:
			return reply{err: unix.EPERM, fd: none}, true
		}
	}
}

// tryAloneAgain is tryAlone for a call that was put off.
func (t *supervisorThread) tryAloneAgain(w *waitingOpen) bool {
	q := *w.alone
	q.who = &caller{t: t, id: w.id, tid: int(q.pid), pidfd: none}
	defer q.who.close()
	r, done := t.tryAlone(&q)
	if done && !r.later {
		t.send(w.id, r)
	}
	return done
}
