package confine

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A watch tells at once when somebody outside changes a name on the way to what is
// hidden or protected, so that the mounts over it are renewed while a command runs. The
// kernel queues an event before the call that made the change returns, so a queue that is
// empty says that nothing was changed since all was last looked at, and no command has to
// wait for another look.
type watch struct {
	s   *initState
	fd  int    // does not block
	own uint64 // device of the file system that init has made

	mu   sync.Mutex       // held from taking events to having acted on them
	dirs map[int32]string // watched directories by the kernel's number
	buf  [16 << 10]byte   // of events

	// What was found when all was last looked at, see settle.
	asked   bool // not the first command
	settled bool
	set     *protectedSet
	mounts  uint64 // mountChanges before the look
	rest    maskedPaths
	names   map[string]bool // folded, of which an event matters
}

// mountChanges counts what init has done to its mounts, which no event tells of.
var mountChanges atomic.Uint64

const watched = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW

// gapWatch names the gap of a host without a free inotify instance.
const gapWatch = "watch over protected paths"

// watchProtected starts the watch. Without it all is looked at before each command.
func (s *initState) watchProtected() error {
	if len(s.cfg.Protect) == 0 {
		return nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		s.gap(gapWatch, err)
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat("/", &st); err != nil {
		return err
	}
	w := &watch{s: s, fd: fd, own: st.Dev, dirs: map[int32]string{}}
	s.watch = w
	go w.run()
	return nil
}

// masksStand is masksIntact before a command: where the watch vouches, without a look.
func (s *initState) masksStand() bool {
	w := s.watch
	if w == nil || s.hide.Wild() {
		return s.masksIntact()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take()
	if w.settled && w.set == s.protected.Load() && w.mounts == mountChanges.Load() {
		return s.stands(w.rest)
	}
	if !w.asked {
		// The first command, often the only one, does not wait for the watches.
		w.asked = true
		return s.masksIntact()
	}
	return w.settle()
}

// settle looks at everything, with the watches in place before. What changes meanwhile is
// found by the look or comes as an event after it. Needs mu.
func (w *watch) settle() bool {
	w.settled = false
	w.set, w.mounts, w.names = w.s.protected.Load(), mountChanges.Load(), map[string]bool{}
	v := w.s.maskedPaths()
	w.rest = w.unwatched(v, w.names)
	if !w.s.stands(v) {
		return false
	}
	w.settled = true
	return true
}

// add watches a directory, also where that does not vouch for all that happens in it.
func (w *watch) add(dir string) bool {
	// The same directory keeps its number.
	wd, err := unix.InotifyAddWatch(w.fd, dir, watched)
	if err == nil {
		w.dirs[int32(wd)] = dir
	}
	return err == nil
}

// addParents watches the directories in which names of protected paths matter now.
func (w *watch) addParents() {
	for _, dir := range w.s.protected.Load().ids {
		_, inside := w.s.protectedTree(dir)
		if inside || slices.Contains(w.s.cfg.ProtectIn, dir) {
			w.add(dir)
		}
	}
}

// watchAfter is how long after its start a session begins to watch. Init ends only when
// the kernel has freed its watches, after 10 ms and more (synchronize_srcu in
// fsnotify_destroy_group), and the session ends after init. A session of one short command
// is over before it watches. What was changed until then is found by a look.
const watchAfter = 30 * time.Millisecond

// run waits for events for ever.
func (w *watch) run() {
	pauseFor(watchAfter)
	w.mu.Lock()
	w.addParents()
	w.look()
	w.mu.Unlock()
	for {
		f := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(f, -1); err != nil && err != unix.EINTR {
			return
		}
		w.mu.Lock()
		if w.take() {
			w.look()
			w.addParents()
		}
		w.mu.Unlock()
	}
}

// look renews the mounts if one is missing. Needs mu.
func (w *watch) look() {
	w.s.onPrivilegedThread(func() {
		// What fails now is tried, and told, before the next command.
		if !w.s.masksIntact() {
			w.s.remountMasks()
		}
	})
}

// take reads the events there are and says whether one matters; then everything has to
// be looked at again. Needs mu.
func (w *watch) take() (matters bool) {
	for {
		n, err := unix.Read(w.fd, w.buf[:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return matters
		case err != nil || n <= 0 || w.matters(w.buf[:n]):
			w.settled, matters = false, true
			if err != nil || n <= 0 {
				return matters
			}
		}
	}
}

// matters says whether one of the events is about a name on the way to what is hidden
// or protected. Most are about files next to them.
func (w *watch) matters(b []byte) (matters bool) {
	set := w.s.protected.Load()
	for len(b) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
		end := unix.SizeofInotifyEvent + int(e.Len)
		if end > len(b) {
			return true
		}
		name := foldName(strings.TrimRight(string(b[unix.SizeofInotifyEvent:end]), "\x00"))
		p := foldName(join(w.dirs[e.Wd], name))
		if e.Mask&(unix.IN_Q_OVERFLOW|unix.IN_IGNORED|unix.IN_UNMOUNT) != 0 || w.names[name] || set.covered[p] || set.parents[p] {
			matters = true
		}
		if e.Mask&unix.IN_IGNORED != 0 {
			delete(w.dirs, e.Wd)
		}
		b = b[end:]
	}
	return matters
}
