package workspace

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// replacement is new content for a place.
type replacement struct {
	old        *unix.Stat_t // the file it replaces, nil when there is none
	before     io.Reader    // bytes that go before content
	content    []byte
	executable *bool
	perm       uint32    // mode of a new file before the umask; 0 is 0666
	attributes *resolved // where extended attributes come from, when not from the place itself
}

// staged is a finished temporary file waiting to take its name.
type staged struct {
	dir       int
	tmp, name string
	file      *os.File // open and locked: Sweep leaves it alone
	done      bool
}

var (
	errOwner   = errors.New("owner cannot be kept")
	errUnnamed = errors.New("unnamed file cannot be given a name")
)

// tempName is unpredictable, so nobody can have put a link there (symlink(7)), and
// starts with a dot, so listings leave it out while it exists.
func tempName() string {
	var b [10]byte
	rand.Read(b[:])
	return tempPrefix + hex.EncodeToString(b[:]) + ".tmp"
}

const tempPrefix = ".mcp-sandbox-"

// stagedName is a tempName for new content on its way to its name, or the old
// content in exchange. Sweep removes what a killed server left of those.
func stagedName() string { return stagedPrefix + strings.TrimPrefix(tempName(), tempPrefix) }

const stagedPrefix = tempPrefix + "w-"

// createTemp makes a new file in dir, without a name ("") where that is
// possible: a killed server then leaves nothing, and nobody can meddle with it.
func (f *FS) createTemp(dir int, perm uint32) (*os.File, string, error) {
	if !f.needNames.Load() {
		fd, err := retryEINTR(func() (int, error) { return openUnnamed(dir, perm) })
		if err == nil {
			return os.NewFile(uintptr(fd), "unnamed"), "", nil
		}
	}
	for {
		name := stagedName()
		fd, err := retryEINTR(func() (int, error) {
			return unix.Openat(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
		})
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		return os.NewFile(uintptr(fd), name), name, nil
	}
}

// shouldChown reports whether new files need to be given to their owner.
func (f *FS) shouldChown() bool {
	return f.user == nil && os.Geteuid() == 0 && (f.opts.OwnerUID > 0 || f.opts.OwnerGID > 0)
}

// chown gives a new inode to the configured owner.
func (f *FS) chown(fd int) error {
	if !f.shouldChown() {
		return nil
	}
	return unix.Fchown(fd, f.opts.OwnerUID, f.opts.OwnerGID)
}

// prepare writes r to a temporary file next to p, complete and durable except for
// the name.
func (f *FS) prepare(ctx context.Context, p *resolved, r replacement) (*staged, error) {
	if err := f.fits(p, r.old, r.size()); err != nil {
		return nil, err
	}
	s, err := f.tryPrepare(ctx, p, r)
	if err == errUnnamed {
		f.needNames.Store(true)
		if seeker, ok := r.before.(io.Seeker); ok {
			if _, err := seeker.Seek(0, io.SeekStart); err != nil {
				return nil, unwrapPath(err)
			}
		}
		s, err = f.tryPrepare(ctx, p, r)
	}
	return s, err
}

func (f *FS) tryPrepare(ctx context.Context, p *resolved, r replacement) (_ *staged, err error) {
	perm := r.perm
	if perm == 0 {
		perm = 0o666
	}
	if r.old != nil {
		perm = 0o600 // never more readable than the file it replaces
	}
	tmp, name, err := f.createTemp(p.fd, perm)
	if err != nil {
		return nil, err
	}
	s := &staged{dir: p.fd, tmp: name, name: p.name, file: tmp}
	_ = unix.Flock(int(tmp.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	defer func() {
		if err != nil {
			s.discard()
			err = unwrapPath(err)
		}
	}()
	if r.before != nil {
		if _, err := copyContext(ctx, tmp, r.before, -1); err != nil {
			return nil, err
		}
	}
	if err := writeContext(ctx, tmp, r.content); err != nil {
		return nil, err
	}
	fd := int(tmp.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	mode := uint32(st.Mode) & 0o777
	if r.old != nil {
		mode = uint32(r.old.Mode) & 0o1777
		if st.Uid != r.old.Uid || st.Gid != r.old.Gid {
			if unix.Fchown(fd, int(r.old.Uid), int(r.old.Gid)) != nil {
				return nil, errOwner
			}
		}
		if r.attributes == nil {
			r.attributes = p
		}
		copyAttributes(fd, r.attributes)
	} else if err := f.chown(fd); err != nil {
		return nil, err
	}
	if r.executable != nil {
		mode = withExecutable(mode, *r.executable)
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return nil, err
	}
	if err := tmp.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return nil, err
	}
	if s.tmp == "" {
		name := stagedName()
		if linkUnnamed(fd, p.fd, name) != nil {
			return nil, errUnnamed
		}
		s.tmp = name
	}
	return s, nil
}

// withExecutable sets x for everyone who may read, or clears it.
func withExecutable(mode uint32, x bool) uint32 {
	if !x {
		return mode &^ 0o111
	}
	return mode | mode&0o444>>2 | 0o100
}

// commit takes the name, replacing what has it.
func (s *staged) commit() error {
	err := unix.Renameat(s.dir, s.tmp, s.dir, s.name)
	s.done = err == nil
	return err
}

// replace takes the name of the file was, so that nothing is lost that other
// programs add to that meanwhile. errRewritten says that was is not what it was,
// and then it still has the name.
func (s *staged) replace(ctx context.Context, was *unix.Stat_t, original func() ([]byte, error)) error {
	d, err := displace(s.dir, s.tmp, s.name, was)
	if err == unix.EINVAL || err == unix.ENOSYS || err == unix.ENOTSUP {
		return s.commit()
	}
	if err != nil {
		return err
	}
	defer d.close()
	if err := d.settle(ctx, original); err != nil {
		d.back()
		return err
	}
	return nil // the temporary name has the old file, for discard to remove
}

// commitNew takes the name only while nothing has it.
func (s *staged) commitNew() error {
	err := renameNoReplace(s.dir, s.tmp, s.dir, s.name)
	s.done = err == nil
	return err
}

func (s *staged) discard() {
	s.file.Close()
	if !s.done && s.tmp != "" {
		unix.Unlinkat(s.dir, s.tmp, 0)
	}
}

// renameNoReplace is renameNew with a fallback for file systems without it: a
// hard link fails when the name is taken. Directories have no fallback.
func renameNoReplace(fromDir int, from string, toDir int, to string) error {
	err := renameNew(fromDir, from, toDir, to)
	if err != unix.EINVAL && err != unix.ENOSYS && err != unix.ENOTSUP {
		return err
	}
	if lerr := unix.Linkat(fromDir, from, toDir, to, 0); lerr != nil {
		if lerr == unix.EEXIST {
			return lerr
		}
		return err
	}
	return unix.Unlinkat(fromDir, from, 0)
}

// syncDir makes a rename durable. A directory that may not be read cannot be
// synced; the file itself already was.
func syncDir(dir int) {
	fd, err := openSubdir(dir, ".")
	if err != nil {
		return
	}
	unix.Fsync(fd)
	unix.Close(fd)
}
