package confine

import (
	"strings"

	"golang.org/x/sys/unix"
)

// place is where a name leads: an open directory and the last component, not
// followed if it is a link.
type place struct {
	dir  int
	kept bool   // dir is where the walk started, which closes it
	name string // with the slashes the caller ended it with
	path string // of the name, as all of the sandbox sees it
	id   fileID // of dir
	// object is set where the name is one of the caller's descriptors
	// (/dev/fd/3, /proc/self/fd/3): a copy of it; none otherwise.
	object int
	// proc says that dir lies in /proc, where init is somebody else than the
	// caller.
	proc bool
}

func (p *place) close() {
	if p.dir >= 0 && !p.kept {
		unix.Close(p.dir)
	}
	if p.object >= 0 {
		unix.Close(p.object)
	}
	p.dir, p.object = none, none
}

// linkLimit is how many links the kernel follows (path_resolution(7)).
const linkLimit = 40

// path returns the name an open directory or file has in the sandbox.
func (t *supervisorThread) pathOf(fd int) (string, error) {
	n, err := unix.Readlinkat(t.fds, itoa(fd), t.text[:])
	if err != nil {
		return "", err
	}
	return string(t.text[:n]), nil
}

// walk is one name on its way to its place.
type walk struct {
	t     *supervisorThread
	who   *caller
	start int // directory the name is relative to
	links int
}

func (t *supervisorThread) newWalk(who *caller, dir int32, name string) (*walk, error) {
	w := &walk{t: t, who: who, start: t.root}
	var err error
	if !strings.HasPrefix(name, "/") {
		w.start, err = who.directory(dir)
	}
	return w, err
}

func (w *walk) close() {
	if w.start != w.t.root {
		unix.Close(w.start)
	}
}

// split takes the last component off a name.
func splitLast(name string) (parent, last string) {
	end := len(strings.TrimRight(name, "/"))
	i := strings.LastIndexByte(name[:end], '/') + 1
	return name[:i], name[i:]
}

// to resolves name to its place.
func (w *walk) to(name string) (place, error) {
	if name == "" {
		return place{dir: none, object: none}, unix.ENOENT
	}
	parent, last := splitLast(name)
	if last == "" || strings.Trim(last, "/") == "" {
		last = "." // the root itself
	}
	dir, err := w.start, error(nil)
	if parent != "" {
		if openat2Refused() {
			return w.slowly(name)
		}
		dir, err = openat2(w.start, parent, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_MAGICLINKS)
	}
	if err == nil {
		p, perr := w.place(dir, last)
		if perr != nil || !p.proc {
			return p, perr
		}
		p.close()
	}
	// In /proc, "self" is whoever looks, and the caller is meant.
	return w.slowly(name)
}

// place describes the last component of an open directory, which it takes over
// unless it is where the walk starts.
func (w *walk) place(dir int, last string) (place, error) {
	p := place{dir: dir, kept: dir == w.start, name: last, object: none}
	var st unix.Stat_t
	err := unix.Fstat(dir, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = unix.ENOTDIR
	}
	var at string
	if err == nil {
		at, err = w.t.pathOf(dir)
	}
	if err != nil {
		p.close()
		return p, err
	}
	p.id, p.proc = fileID{st.Dev, st.Ino}, st.Dev == w.t.procDev
	name := strings.TrimRight(last, "/")
	switch name {
	case ".", "":
		p.path = at
	case "..":
		p.path = at[:max(strings.LastIndexByte(at, '/'), 0)]
	default:
		p.path = join(at, name)
	}
	return p, nil
}

func join(dir, name string) string {
	if dir == "/" {
		return "/" + name
	}
	return dir + "/" + name
}

// slowly walks a name component by component, as the kernel would for the
// caller.
func (w *walk) slowly(name string) (place, error) {
	nowhere := place{dir: none, object: none}
	at, err := unix.FcntlInt(uintptr(w.start), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nowhere, err
	}
	rest := name
	for {
		rest = strings.TrimLeft(rest, "/")
		comp, after, more := strings.Cut(rest, "/")
		if !more || strings.Trim(after, "/") == "" {
			if rest == "" {
				rest = "."
			}
			break
		}
		next, err := unix.Openat(at, comp, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			unix.Close(at)
			return nowhere, err
		}
		target, jump, err := w.follow(at, comp, next)
		switch {
		case err != nil:
		case jump >= 0:
			unix.Close(at)
			at, rest = jump, after
		case target != "":
			if target[0] == '/' {
				unix.Close(at)
				at, err = unix.FcntlInt(uintptr(w.t.root), unix.F_DUPFD_CLOEXEC, 0)
			}
			rest = target + "/" + after
		default:
			unix.Close(at)
			at, rest = next, after
			next = -1
		}
		if next >= 0 {
			unix.Close(next)
		}
		if err != nil {
			if at >= 0 {
				unix.Close(at)
			}
			return nowhere, err
		}
	}
	p, err := w.place(at, rest)
	if err != nil || !p.proc {
		return p, err
	}
	in, own := w.who.owns(p.path[:max(strings.LastIndexByte(p.path, '/'), 0)])
	if own && in == "/fd" {
		if n, ok := number(strings.TrimRight(p.name, "/")); ok {
			if p.object, err = w.who.descriptor(n); err != nil {
				p.close()
				return p, err
			}
		}
	}
	return p, nil
}

func number(s string) (int, bool) {
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' || n > 1<<24 {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, s != ""
}

// follow says what the open component next is: a link to target, a jump to a
// directory the kernel keeps for the caller, or neither.
func (w *walk) follow(at int, comp string, next int) (target string, jump int, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(next, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", none, err
	}
	if w.links++; w.links > linkLimit {
		return "", none, unix.ELOOP
	}
	var b [unix.PathMax]byte
	if st.Dev == w.t.procDev {
		if err := w.who.read(); err != nil {
			return "", none, err
		}
		dir, err := w.t.pathOf(at)
		if err != nil {
			return "", none, err
		}
		in, own := w.who.owns(dir)
		switch {
		case dir == "/proc" && comp == "self":
			return w.who.tgid, none, nil
		case dir == "/proc" && comp == "thread-self":
			self, err := w.who.dir()
			return w.who.tgid + "/task/" + self[strings.LastIndexByte(self, '/')+1:], none, err
		case dir == "/proc":
		case own && in == "/fd":
			n, ok := number(comp)
			if !ok {
				return "", none, unix.ENOENT
			}
			jump, err := w.who.descriptor(n)
			return "", jump, err
		case own && in == "" && comp == "cwd":
			jump, err := w.who.directory(unix.AT_FDCWD)
			return "", jump, err
		case own && in == "" && comp == "root":
			return "/", none, nil
		default:
			// Of another process, above all of init itself.
			return "", none, unix.EACCES
		}
	}
	n, err := unix.Readlinkat(next, "", b[:])
	if err == nil && n == 0 {
		err = unix.ENOENT
	}
	if err != nil {
		return "", none, err
	}
	return string(b[:n]), none, nil
}

// link reads the last component of p, which is to be followed. It is not a link
// where ok is false.
func (w *walk) link(p *place) (target string, ok bool) {
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(p.dir, strings.TrimRight(p.name, "/"), b[:])
	if err != nil || n == 0 {
		return "", false
	}
	return string(b[:n]), true
}

// again gives the place a link at p leads to, relative to the directory it lies
// in.
func (w *walk) again(p *place, target string) (place, error) {
	if w.links++; w.links > linkLimit {
		return place{dir: none, object: none}, unix.ELOOP
	}
	switch {
	case target[0] == '/':
		w.close()
		w.start = w.t.root
	case !p.kept:
		w.close()
		w.start, p.dir = p.dir, none
	}
	return w.to(target)
}
