package confine

import (
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A watch tells at once when somebody outside changes a name on the way to a
// protected path, so that the mounts over it are renewed while a command runs.
type watch struct {
	s    *initState
	fd   int
	dirs map[int32]string // watched directories by the kernel's number
}

const watched = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW

// gapWatch names the gap of a host without a free inotify instance.
const gapWatch = "watch over protected paths"

// watchProtected starts the watch. Without it the mounts are renewed before the
// next command.
func (s *initState) watchProtected() error {
	if len(s.cfg.Protect) == 0 {
		return nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		s.gap(gapWatch, err)
		return nil
	}
	w := &watch{s: s, fd: fd, dirs: map[int32]string{}}
	w.add()
	go w.run()
	return nil
}

// add watches the directories in which names matter now.
func (w *watch) add() {
	for _, dir := range w.s.protected.Load().ids {
		_, inside := w.s.protectedTree(dir)
		if !inside && !slices.Contains(w.s.cfg.ProtectIn, dir) {
			continue
		}
		// The same directory keeps its number.
		if wd, err := unix.InotifyAddWatch(w.fd, dir, watched); err == nil {
			w.dirs[int32(wd)] = dir
		}
	}
}

// run waits for events for ever.
func (w *watch) run() {
	var b [16 << 10]byte
	for {
		n, err := unix.Read(w.fd, b[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return
		}
		if w.matters(b[:n]) {
			w.s.onPrivilegedThread(func() {
				// What fails now is tried, and told, before the next command.
				if !w.s.masksIntact() {
					w.s.remountMasks()
				}
			})
			w.add()
		}
	}
}

// matters says whether one of the events is about a protected name. Most are
// about files next to them.
func (w *watch) matters(b []byte) bool {
	set := w.s.protected.Load()
	for len(b) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
		end := unix.SizeofInotifyEvent + int(e.Len)
		if end > len(b) {
			return true
		}
		if e.Mask&unix.IN_Q_OVERFLOW != 0 {
			return true
		}
		if dir, ok := w.dirs[e.Wd]; ok {
			name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:end]), "\x00")
			p := foldName(join(dir, name))
			if set.covered[p] || set.parents[p] {
				return true
			}
		}
		if e.Mask&unix.IN_IGNORED != 0 {
			delete(w.dirs, e.Wd)
		}
		b = b[end:]
	}
	return false
}
