package confine

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/treecopy"
)

// supervisedCall is one system call init does for commands, by where its
// arguments are; none where it has no such argument.
type supervisedCall struct {
	nr   int
	kind callKind
	// dir and path name the place, dir2 and path2 the second one. A directory
	// of none is the working directory.
	dir, path, dir2, path2 int8
	flags, mode            int8
}

type callKind uint8

const (
	callOpen callKind = iota
	callMkdir
	callMknod // flags: the device
	callUnlink
	callRmdir
	callRename
	callLink
	callSymlink  // path: what the link says
	callTruncate // mode: the length
	callBind     // dir: the socket, path: the address, flags: its length
	callConnect  // as callBind
	callSocket
	callChmod
	callSetxattr
	callLsetxattr
	callRemovexattr
	callLremovexattr
	callXattrat
)

// The numbers of setxattrat(2) and removexattrat(2) (Linux 6.13) on every architecture.
const setxattrat, removexattrat = 463, 466

// isChange says whether a call changes something else than names and content. Only a
// stage of git directories asks for it.
func (k callKind) isChange() bool { return k >= callChmod }

// request is one call of a command.
type request struct {
	*notification
	*supervisedCall
	who *caller
	// alone says that no other change is judged or done meanwhile.
	alone bool
}

func (q *request) directory(arg int8) int32 {
	if arg == none {
		return unix.AT_FDCWD
	}
	return int32(q.args[arg])
}

// flagged gives the flags of a call, 0 for one that has none.
func (q *request) flagged() uint64 {
	if q.flags == none {
		return 0
	}
	return uint64(uint32(q.args[q.flags]))
}

// turn carries out one call, by itself where it stages a bare repository.
func (t *supervisorThread) turn(q *request) reply {
	g := t.s.git
	if g == nil || q.kind == callConnect || q.kind == callSocket {
		return t.do(q)
	}
	g.turn.RLock()
	r := t.do(q)
	g.turn.RUnlock()
	if r.alone {
		return t.turnAlone(q)
	}
	return r
}

// do carries out one call.
func (t *supervisorThread) do(q *request) reply {
	switch q.kind {
	case callOpen:
		flags := q.flagged()
		if q.flags == none { // creat(2)
			flags = unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC
		}
		how := unix.OpenHow{Flags: flags & openFlags}
		if flags&unix.O_CREAT != 0 || flags&unix.O_TMPFILE == unix.O_TMPFILE {
			how.Mode = q.args[q.mode] & 0o7777
		}
		return t.open(q, how)
	case callTruncate:
		return t.truncate(q)
	case callBind:
		return t.bind(q)
	case callConnect:
		t.explainConnect(q)
		return reply{pass: true, fd: none}
	case callSocket:
		t.s.denied(q.who, "", sandbox.DenialSocket)
		return reply{err: unix.EAFNOSUPPORT, fd: none}
	case callRename, callLink:
		return t.pair(q)
	case callChmod:
		return t.chmod(q)
	case callSetxattr, callLsetxattr:
		return t.setXattr(q)
	case callRemovexattr, callLremovexattr:
		return t.removeXattr(q)
	case callXattrat:
		return failed(unix.ENOSYS) // as on a kernel before it
	case callSymlink:
		target, err := q.who.name(q.args[q.path])
		if err != nil {
			return failed(err)
		}
		return t.single(q, q.dir2, q.path2, verbPlace, func(p *place) error { return unix.Symlinkat(target, p.dir, p.name) })
	case callMkdir:
		return t.single(q, q.dir, q.path, verbMakeDir, func(p *place) error {
			return t.makeGitDir(p, uint32(q.args[q.mode])&0o7777)
		})
	case callMknod:
		// Of devices the kernel asks for a capability nobody here has.
		return t.single(q, q.dir, q.path, verbOpen, func(p *place) error {
			return unix.Mknodat(p.dir, p.name, uint32(q.args[q.mode]), int(uint32(q.args[q.flags])))
		})
	case callRmdir:
		return t.single(q, q.dir, q.path, verbRemoveDir, func(p *place) error { return t.removeGitDir(q, p) })
	case callUnlink:
		flags, v := q.flagged(), verbRemove
		if flags&unix.AT_REMOVEDIR != 0 {
			return t.single(q, q.dir, q.path, verbRemoveDir, func(p *place) error { return t.removeGitDir(q, p) })
		}
		return t.single(q, q.dir, q.path, v, func(p *place) error { return t.unlink(p, int(flags)) })
	}
	return reply{err: unix.ENOSYS, fd: none}
}

// single does a call that changes one name.
func (t *supervisorThread) single(q *request, dir, path int8, v verb, act func(*place) error) reply {
	name, err := q.who.name(q.args[path])
	if err != nil {
		return failed(err)
	}
	w, err := t.newWalk(q.who, q.directory(dir), name)
	if err != nil {
		return failed(err)
	}
	defer w.close()
	p, err := w.to(name)
	if err != nil {
		return failed(err)
	}
	defer p.close()
	if r := t.permit(q, v, &p); r.err != 0 {
		return r
	}
	if v == verbOpen || v == verbMakeDir {
		if err := q.who.read(); err != nil {
			return failed(err)
		}
		t.setUmask(q.who.umask)
	}
	return t.explain(q, t.act(q, func() error { return act(&p) }), &p)
}

// explain tells of a change that a read-only mount refused. Of a file that
// the commands' user may not write either, the kernel says so first: whether the
// host would have let whom they stand for is asked by hostAllows.
func (t *supervisorThread) explain(q *request, r reply, places ...*place) reply {
	if r.err != unix.EROFS && r.err != unix.EACCES && r.err != unix.EBUSY {
		return r
	}
	for _, p := range places {
		if r.err == unix.EBUSY {
			// The host has no mount there.
			if _, at := t.s.gitDir(p.path); at && p.path != "" {
				t.s.denied(q.who, p.path, sandbox.DenialProtected)
			}
			continue
		}
		if p.path != "" && (r.err == unix.EROFS || readOnlyAt(p.dir)) {
			t.s.denied(q.who, p.path, sandbox.DenialOutside)
		}
	}
	return r
}

func readOnlyAt(dir int) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(dir, &fs) == nil && fs.Flags&unix.ST_RDONLY != 0
}

// act runs what changes names, for a caller that still waits.
func (t *supervisorThread) act(q *request, f func() error) reply {
	if !t.waits(q.id) {
		return reply{err: unix.EINTR, fd: none}
	}
	t.binding.RLock()
	err := f()
	t.binding.RUnlock()
	if err != nil {
		return failed(err)
	}
	return reply{fd: none}
}

// permit judges a place. What Landlock would refuse the caller is refused here,
// as init's own threads are in no domain.
func (t *supervisorThread) permit(q *request, v verb, p *place) reply {
	if why := t.s.protected.Load().judgeAt(v, p); why != "" {
		t.s.denied(q.who, p.path, why)
		return reply{err: unix.EPERM, fd: none}
	}
	if r := t.permitGit(q, v, p); r.err != 0 {
		return r
	}
	if !p.proc && t.writable(p.path) {
		return reply{fd: none}
	}
	// On a read-only mount the kernel's own answer is the more telling one.
	var st unix.Statfs_t
	if unix.Fstatfs(p.dir, &st) == nil && st.Flags&unix.ST_RDONLY != 0 {
		return reply{fd: none}
	}
	return reply{err: unix.EACCES, fd: none}
}

// writable repeats what the domain of commands opens for writing.
func (v *notifySupervisor) writable(p string) bool {
	return within(p, v.s.cfg.Writable...) || within(p, v.s.cfg.OtherGit...) || within(p, "/dev/pts", "/dev/tty") ||
		within(p, deviceNodes...)
}

// pair does rename and link.
func (t *supervisorThread) pair(q *request) reply {
	flags := q.flagged()
	from, err := q.who.name(q.args[q.path])
	if err != nil {
		return failed(err)
	}
	to, err := q.who.name(q.args[q.path2])
	if err != nil {
		return failed(err)
	}
	var src place
	if q.kind == callLink && from == "" && flags&unix.AT_EMPTY_PATH != 0 {
		src = place{dir: none, object: none}
		if src.object, err = q.who.descriptor(int(int32(q.directory(q.dir)))); err != nil {
			return failed(err)
		}
		src.path, err = t.pathOf(src.object)
	} else {
		src, err = t.source(q, from, q.kind == callLink && flags&unix.AT_SYMLINK_FOLLOW != 0)
	}
	if err != nil {
		return failed(err)
	}
	defer src.close()
	w, err := t.newWalk(q.who, q.directory(q.dir2), to)
	if err != nil {
		return failed(err)
	}
	defer w.close()
	dst, err := w.to(to)
	if err != nil {
		return failed(err)
	}
	defer dst.close()
	if r := t.permitSource(q, &src); r.err != 0 {
		return r
	}
	if r := t.permit(q, verbPlace, &dst); r.err != 0 {
		return r
	}
	if q.kind == callRename {
		// An exchange puts a thing in place at both names.
		if flags&unix.RENAME_EXCHANGE != 0 {
			if r := t.permit(q, verbPlace, &src); r.err != 0 {
				return r
			}
			if r := t.permit(q, verbTake, &dst); r.err != 0 {
				return r
			}
		}
		r := t.act(q, func() error { return t.rename(&src, &dst, uint(flags)) })
		if r.err == unix.EXDEV && len(t.s.cfg.Stage) > 0 && treecopy.Refused(src.dir, src.name, dst.dir) {
			return t.moveDir(q, &src, &dst, uint(flags))
		}
		return t.explain(q, r, &src, &dst)
	}
	if src.object >= 0 {
		return t.explain(q, t.act(q, func() error {
			return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+itoa(src.object), dst.dir, dst.name, unix.AT_SYMLINK_FOLLOW)
		}), &dst)
	}
	return t.explain(q, t.act(q, func() error { return unix.Linkat(src.dir, src.name, dst.dir, dst.name, 0) }), &dst)
}

// permitSource judges what is moved or gets a second name. A nameless file has
// none that could be protected.
func (t *supervisorThread) permitSource(q *request, p *place) reply {
	if p.object >= 0 {
		path, err := t.pathOf(p.object)
		if err != nil {
			return failed(err)
		}
		if why := t.s.protected.Load().judge(verbTake, strings.TrimSuffix(path, " (deleted)")); why != "" {
			t.s.denied(q.who, path, why)
			return reply{err: unix.EPERM, fd: none}
		}
		return t.permitGitObject(q, p.object, path)
	}
	return t.permit(q, verbTake, p)
}

// source resolves what is moved or linked, following a last link if asked.
func (t *supervisorThread) source(q *request, name string, follow bool) (place, error) {
	w, err := t.newWalk(q.who, q.directory(q.dir), name)
	if err != nil {
		return place{dir: none, object: none}, err
	}
	p, err := w.to(name)
	for follow && err == nil && p.object < 0 {
		target, ok := w.link(&p)
		if !ok {
			break
		}
		var next place
		next, err = w.again(&p, target)
		p.close()
		p = next
	}
	if err == nil && p.kept && w.start != t.root {
		p.kept = false // it outlives the walk
	} else {
		w.close()
	}
	return p, err
}

// truncate opens the file for writing, as truncate(2) asks for the same right.
func (t *supervisorThread) truncate(q *request) reply {
	length := int64(q.args[q.mode])
	if length < 0 {
		return reply{err: unix.EINVAL, fd: none}
	}
	r := t.open(q, unix.OpenHow{Flags: unix.O_WRONLY | unix.O_NONBLOCK})
	if r.fd < 0 {
		if r.err == unix.ENXIO {
			r.err = unix.EINVAL // a fifo or a socket
		}
		return r
	}
	defer unix.Close(r.fd)
	var st unix.Stat_t
	if err := unix.Fstat(r.fd, &st); err != nil {
		return failed(err)
	}
	// Init must not be sent the signal of the file size limit.
	if length > st.Size && length > t.s.cfg.Limits.FileSize {
		return reply{err: unix.EFBIG, fd: none}
	}
	if err := unix.Ftruncate(r.fd, length); err != nil {
		return failed(err)
	}
	return reply{fd: none}
}

// bind gives a socket its address. Only a path of a unix socket makes a name;
// the others are done here as well, since the address lies in memory.
func (t *supervisorThread) bind(q *request) reply {
	size := uint32(q.args[q.flags])
	if size > unix.SizeofSockaddrAny+16 {
		return reply{err: unix.EINVAL, fd: none}
	}
	addr := make([]byte, max(size, 1))
	if size > 0 {
		if n, err := q.who.memory(q.args[q.path], addr); err != nil || n < len(addr) {
			return failed(unix.EFAULT)
		}
	}
	sock, err := q.who.descriptor(int(int32(q.args[q.dir])))
	if err != nil {
		return failed(err)
	}
	defer unix.Close(sock)
	const family = 2
	if size <= family || binary.NativeEndian.Uint16(addr) != unix.AF_UNIX || addr[family] == 0 {
		return t.act(q, func() error { return rawBind(sock, addr[:size]) })
	}
	name, _, _ := strings.Cut(string(addr[family:size]), "\x00")
	w, err := t.newWalk(q.who, unix.AT_FDCWD, name)
	if err != nil {
		return failed(err)
	}
	defer w.close()
	p, err := w.to(name)
	if err != nil {
		return failed(err)
	}
	defer p.close()
	if r := t.permit(q, verbPlace, &p); r.err != 0 {
		return r
	}
	if err := q.who.read(); err != nil {
		return failed(err)
	}
	t.setUmask(q.who.umask)
	if !t.waits(q.id) {
		return reply{err: unix.EINTR, fd: none}
	}
	if err := t.bindName(sock, w.start, addr[:size], &p, !strings.Contains(name, "/")); err != nil {
		return failed(err)
	}
	return reply{fd: none}
}

// bindName binds sock to a name that leads to p. The address is what others see
// of the socket, so it must be the caller's; the kernel then walks it once more.
// Nobody else changes a name meanwhile except by moving a directory outside, and
// the socket is looked for where it belongs.
func (t *supervisorThread) bindName(sock, start int, addr []byte, p *place, direct bool) error {
	t.binding.Lock()
	defer t.binding.Unlock()
	if direct {
		start = p.dir
	}
	if err := unix.Fchdir(start); err != nil {
		return err
	}
	defer unix.Fchdir(t.root)
	var st unix.Stat_t
	if unix.Fstatat(p.dir, p.name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		return unix.EADDRINUSE
	}
	if err := rawBind(sock, addr); err != nil || direct {
		return err
	}
	if unix.Fstatat(p.dir, p.name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil
	}
	for _, q := range t.s.protected.Load().missing {
		if unix.Lstat(q, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			unix.Unlink(q)
		}
	}
	return unix.EACCES
}
