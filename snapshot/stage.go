package snapshot

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strconv"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"mcp-sandbox/fsuser"
)

// stagePrefix starts the name of the private directory. It must lie on the file
// system of the workspace because only names of one can be swapped.
const stagePrefix = ".mcp-sandbox-restore-"

// apply carries a plan out.
type apply struct {
	r     *Repo
	tree  *tree        // of the workspace
	user  *fsuser.User // whose rights all of it has; nil for the server's
	plan  *plan
	base  int    // the directory the private one is in: of a stage directory, or the root
	own   bool   // base is to be closed
	lock  int    // holds the private directory against a sweep
	name  string // of the private directory, in base
	dir   *tree  // the private directory; nil before it is made
	fd    int
	trash int // objects moved away so far

	opened map[string]int    // directories of the workspace
	was    map[string]before // the state of all that were touched
	undo   []func() error    // in the order things were done

	refused []string // paths that may not be changed
	reason  error    // the last of why
}

func (a *apply) close() {
	for _, fd := range a.opened {
		unix.Close(fd)
	}
	if a.dir != nil {
		unix.Close(a.fd)
	}
	if a.own {
		unix.Close(a.lock)
		unix.Close(a.base)
	}
}

// stage builds all new objects in the private directory. Nothing of the workspace
// has changed when it fails.
func (a *apply) stage(ctx context.Context) error {
	root, err := a.touch("")
	if err != nil {
		return err
	}
	var rnd [12]byte
	rand.Read(rnd[:])
	a.name = stagePrefix + hex.EncodeToString(rnd[:])
	a.place(root)
	if err := unix.Mkdirat(a.base, a.name, 0o700); err != nil {
		return err
	}
	if a.own {
		if a.lock, err = openat(a.base, a.name, openDirFlags); err == nil {
			err = unix.Flock(a.lock, unix.LOCK_EX|unix.LOCK_NB)
		}
		if err != nil {
			return err
		}
	}
	if a.fd, err = openInner(a.base, a.name); err != nil {
		unix.Unlinkat(a.base, a.name, unix.AT_REMOVEDIR)
		return err
	}
	a.dir = &tree{fd: a.fd, dev: a.tree.dev}
	list := a.plan.stage
	var dirs, links []*staged
	batches := make(chan []*staged, 64)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range a.r.opt.Parallel {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := a.writeBatches(ctx, batches); err != nil {
				cancel(err)
			}
		}()
	}
	// Directories are made in order as they come, so a batch always finds its own.
	var batch []*staged
	batchDir := ""
	flush := func() {
		if len(batch) > 0 {
			select {
			case batches <- batch:
			case <-ctx.Done():
			}
		}
		batch = nil
	}
	for i := range list {
		s := &list[i]
		dir, _ := splitPath(s.at)
		switch {
		case s.e.kind == kindDir:
			if err := a.inDir(s.at, func(fd int, name string) error { return unix.Mkdirat(fd, name, 0o700) }); err != nil {
				cancel(err)
			}
			if !s.top {
				dirs = append(dirs, s)
			}
		case s.link != "":
			links = append(links, s)
		default:
			if dir != batchDir || len(batch) >= 128 {
				flush()
				batchDir = dir
			}
			batch = append(batch, s)
		}
		if ctx.Err() != nil {
			break
		}
	}
	flush()
	close(batches)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for _, s := range links {
		if err := a.link(s); err != nil {
			return err
		}
	}
	// Deepest first: what is made in a directory changes its time.
	for i := len(dirs) - 1; i >= 0; i-- {
		s := dirs[i]
		if err := a.inDir(s.at, func(fd int, name string) error { return a.r.setDir(fd, name, s.e, true) }); err != nil {
			return err
		}
	}
	return nil
}

// openInner makes the directory in the private directory that all happens in. It is
// one deeper only for where a file system puts it, see [spread].
func openInner(root int, name string) (int, error) {
	outer, err := openat(root, name, openDirFlags)
	if err != nil {
		return -1, err
	}
	defer unix.Close(outer)
	spread(outer)
	if err := unix.Mkdirat(outer, "new", 0o700); err != nil {
		return -1, err
	}
	fd, err := openat(outer, "new", openDirFlags)
	if err != nil {
		unix.Unlinkat(outer, "new", unix.AT_REMOVEDIR)
		return -1, err
	}
	spread(fd)
	return fd, nil
}

// inDir calls fn with the open directory of a staged path and its last name.
func (a *apply) inDir(at string, fn func(fd int, name string) error) error {
	dir, name := splitPath(at)
	if dir == "" {
		return fn(a.fd, name)
	}
	fd, err := a.dir.open(dir, openDirFlags)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return fn(fd, name)
}

func (a *apply) link(s *staged) error {
	return a.inDir(s.link, func(from int, first string) error {
		return a.inDir(s.at, func(to int, name string) error {
			return unix.Linkat(from, first, to, name, 0) // flags 0: a link is not followed
		})
	})
}

func (a *apply) writeBatches(ctx context.Context, batches <-chan []*staged) error {
	leave, err := a.user.Enter()
	if err != nil {
		return err
	}
	defer func() { leave() }()
	dec, err := newExpander()
	if err != nil {
		return err
	}
	defer restExpander(dec)
	w := &fileWriter{ctx: ctx, r: a.r, dec: dec}
	if a.user != nil {
		// The store is the server's own.
		w.read = func(read func()) error {
			leave()
			read()
			var err error
			if leave, err = a.user.Enter(); err != nil {
				leave = func() {}
			}
			return err
		}
	}
	for b := range batches {
		if ctx.Err() != nil {
			continue
		}
		err := a.inDir(b[0].at, func(fd int, _ string) error {
			for _, s := range b {
				_, name := splitPath(s.at)
				if err := w.write(fd, name, s.e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fileWriter writes files and links from the store; one a goroutine.
type fileWriter struct {
	ctx context.Context
	r   *Repo
	dec *zstd.Decoder
	buf []byte
	// read, if set, runs what reads the store.
	read func(read func()) error
}

func (w *fileWriter) write(dir int, name string, e *entry) error {
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	if e.kind == kindLink {
		if err := unix.Symlinkat(e.target, dir, name); err != nil {
			return err
		}
		if w.r.uid >= 0 {
			if err := unix.Fchownat(dir, name, w.r.uid, w.r.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return err
			}
		}
		return setTimes(dir, name, e.mtime)
	}
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := w.fill(fd, e); err != nil {
		return err
	}
	if err := w.r.setFile(fd, e, true); err != nil {
		return err
	}
	return setTimes(dir, name, e.mtime)
}

func (w *fileWriter) fill(fd int, e *entry) error {
	off, hole := int64(0), false
	for _, p := range e.pieces {
		if hole = p.hole(); hole {
			off += p.n
			continue
		}
		var err error
		read := func() { w.buf, err = w.r.chunks.read(w.ctx, w.dec, w.buf, p.id) }
		if w.read == nil {
			read()
		} else if rerr := w.read(read); err == nil {
			err = rerr
		}
		if err != nil {
			return fail(err, "the file %s is damaged in the store", quote(e.path))
		}
		if int64(len(w.buf)) != p.n {
			return fail(damaged("a chunk is not of the size it is listed with"), "the file %s is damaged in the store", quote(e.path))
		}
		for b := w.buf; len(b) > 0; {
			n, err := unix.Pwrite(fd, b, off)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return err
			}
			b, off = b[n:], off+int64(n)
		}
	}
	if hole {
		return unix.Ftruncate(fd, off)
	}
	return nil
}

// setFile gives an open file its owner, attributes and mode. The owner comes
// first: chown(2) clears mode bits.
func (r *Repo) setFile(fd int, e *entry, chown bool) error {
	if chown && r.uid >= 0 {
		if err := unix.Fchown(fd, r.uid, r.gid); err != nil {
			return err
		}
	}
	if err := writeXattrs(fd, e.xattrs); err != nil {
		return err
	}
	return unix.Fchmod(fd, e.mode)
}

// setDir gives a directory the same, and its times.
func (r *Repo) setDir(dir int, name string, e *entry, chown bool) error {
	fd, err := openat(dir, name, openDirFlags)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := r.setFile(fd, e, chown); err != nil {
		return err
	}
	return setTimes(dir, name, e.mtime)
}

// setTimes sets the mtime of name itself.
func setTimes(dir int, name string, mtime int64) error {
	ts := []unix.Timespec{accessTime(), unix.NsecToTimespec(mtime)}
	return unix.UtimesNanoAt(dir, name, ts, unix.AT_SYMLINK_NOFOLLOW)
}

// discard removes the private directory and all that is in it.
func (a *apply) discard() {
	if a.dir == nil {
		return
	}
	base, err := a.base, error(nil)
	if !a.own {
		base, err = a.touch("")
	}
	if err == nil {
		err = removeAll(base, a.name)
	}
	if err != nil {
		a.r.log.Warn("the private directory of a restore could not be removed", "name", a.name, "cause", err)
	}
}

// maxRemoveDepth bounds the directories held open while removing. A deeper one is
// moved up to the top first, so that no tree is too deep to go.
const maxRemoveDepth = 64

// removeAll removes name and all below it, never following a link. Directories
// that do not allow it are made to.
func removeAll(dir int, name string) error {
	top, err := openOwned(dir, name)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	moved := 0
	var empty func(fd, depth int) error
	empty = func(fd, depth int) error {
		names, err := readDir(fd, make([]byte, 8<<10), nil)
		if err != nil {
			return err
		}
		for _, d := range names {
			n := d.name
			err := unix.Unlinkat(fd, n, 0)
			if err == nil || errors.Is(err, unix.ENOENT) {
				continue
			}
			// Linux says EISDIR of a directory, POSIX and macOS EPERM.
			if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
				return err
			}
			if depth >= maxRemoveDepth {
				if err := chmodAt(fd, n, 0o700); err != nil {
					return err
				}
				moved++
				if err := unix.Renameat(fd, n, top, "deep"+strconv.Itoa(moved)); err != nil {
					return err
				}
				continue
			}
			sub, err := openOwned(fd, n)
			if err != nil {
				return err
			}
			err = empty(sub, depth+1)
			unix.Close(sub)
			if err == nil {
				err = unix.Unlinkat(fd, n, unix.AT_REMOVEDIR)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	for pass := -1; pass < moved; {
		pass = moved
		if err := empty(top, 1); err != nil {
			return err
		}
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// openOwned opens a directory and makes sure that what is in it can be removed.
func openOwned(dir int, name string) (int, error) {
	fd, err := openat(dir, name, openDirFlags)
	if errors.Is(err, unix.EACCES) {
		if err := chmodAt(dir, name, 0o700); err != nil {
			return -1, err
		}
		fd, err = openat(dir, name, openDirFlags)
	}
	if err != nil {
		return -1, err
	}
	if st, err := fstat(fd); err == nil && st.mode&0o700 != 0o700 {
		unix.Fchmod(fd, 0o700)
	}
	return fd, nil
}
