package snapshot

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// LocalStore keeps the objects as files of one private directory.
type LocalStore struct {
	dir string
}

const (
	localTmp      = "tmp"     // writes in progress; a crash leaves them here
	localLock     = "lock"    // flock(2) target
	tmpMaxAge     = time.Hour // after which a left-over write is nobody's
	lockPollDelay = 20 * time.Millisecond
)

// NewLocalStore opens the directory dir as a store, making it with mode 0700 when
// missing. It refuses a directory that other users could write to or that belongs
// to another user, since whoever writes there decides what a restore brings
// back.
func NewLocalStore(dir string) (Store, error) {
	if dir == "" {
		return nil, invalid("the snapshot directory has no name; give one")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fail(err, "the snapshot directory could not be opened")
	}
	if err := os.MkdirAll(filepath.Join(abs, localTmp), 0o700); err != nil {
		return nil, fail(err, "the snapshot directory could not be made")
	}
	var st unix.Stat_t
	if err := unix.Lstat(abs, &st); err != nil {
		return nil, fail(err, "the snapshot directory could not be opened")
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, invalid("the snapshot directory is a link or a file; name the directory itself")
	}
	if int(st.Uid) != os.Geteuid() {
		return nil, invalid("the snapshot directory belongs to another user; choose one of your own")
	}
	if st.Mode&0o077 != 0 {
		if err := os.Chmod(abs, 0o700); err != nil {
			return nil, fail(err, "the snapshot directory could not be made private")
		}
	}
	s := &LocalStore{dir: abs}
	s.sweep()
	return s, nil
}

// Dir is the store's directory, which must not lie inside a workspace.
func (s *LocalStore) Dir() string { return s.dir }

// sweep removes what killed writers left. Only old files: another process may
// be writing right now.
func (s *LocalStore) sweep() {
	list, err := os.ReadDir(filepath.Join(s.dir, localTmp))
	if err != nil {
		return
	}
	for _, e := range list {
		if fi, err := e.Info(); err == nil && time.Since(fi.ModTime()) > tmpMaxAge {
			os.Remove(filepath.Join(s.dir, localTmp, e.Name()))
		}
	}
}

func (s *LocalStore) path(key string) (string, error) {
	if !ValidKey(key) || key == localLock || key == localTmp || strings.HasPrefix(key, localTmp+"/") {
		return "", invalid("the object name %s is not allowed in a store", quote(key))
	}
	return filepath.Join(s.dir, filepath.FromSlash(key)), nil
}

// Put writes a temporary file, syncs and renames it, then syncs the directory: after a crash
// the key holds the whole new object or what it held before.
func (s *LocalStore) Put(ctx context.Context, key string, r io.ReadSeeker, size int64) (err error) {
	dst, err := s.path(key)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var rnd [12]byte
	rand.Read(rnd[:])
	tmp := filepath.Join(s.dir, localTmp, hex.EncodeToString(rnd[:]))
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(tmp)
		}
	}()
	n, err := io.Copy(f, r)
	if err != nil {
		return err
	}
	if n != size {
		return io.ErrUnexpectedEOF
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	parent := filepath.Dir(dst)
	err = os.Rename(tmp, dst)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.mkdir(parent); err != nil {
			return err
		}
		err = os.Rename(tmp, dst)
	}
	if err != nil {
		return err
	}
	return syncDir(parent)
}

// mkdir makes the directories of a key and syncs each parent, so that the rename
// that follows cannot outlive its directory.
func (s *LocalStore) mkdir(dir string) error {
	if dir == s.dir {
		return nil
	}
	if err := s.mkdir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

type sectionCloser struct {
	io.Reader
	io.Closer
}

func (s *LocalStore) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	p, err := s.path(key)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.Open(p)
	if err != nil {
		return nil, err
	}
	if n < 0 {
		n = 1<<63 - 1 - off
	}
	return sectionCloser{io.NewSectionReader(f, off, n), f}, nil
}

func (s *LocalStore) List(ctx context.Context, prefix string) ([]Object, error) {
	var out []Object
	// Only the directory named by the prefix's whole elements needs reading.
	base := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		base = prefix[:i]
	}
	if base != "" && !ValidKey(base) {
		return nil, invalid("the prefix %s is not allowed in a store", quote(prefix))
	}
	err := filepath.WalkDir(filepath.Join(s.dir, filepath.FromSlash(base)), func(p string, d fs.DirEntry, err error) error {
		if cerr := ctx.Err(); cerr != nil {
			return cerr
		}
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		rel, err := filepath.Rel(s.dir, p)
		if err != nil {
			return err
		}
		key := filepath.ToSlash(rel)
		if d.IsDir() {
			if key == localTmp {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasPrefix(key, prefix) || !ValidKey(key) || key == localLock {
			return nil
		}
		fi, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		out = append(out, Object{Key: key, Size: fi.Size(), Time: fi.ModTime()})
		return nil
	})
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out, err
}

func (s *LocalStore) Delete(ctx context.Context, key string) error {
	p, err := s.path(key)
	if err != nil {
		return err
	}
	if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *LocalStore) Has(ctx context.Context, key string) (bool, error) {
	p, err := s.path(key)
	if err != nil {
		return false, err
	}
	_, err = os.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Lock takes flock(2) on a file of the store, so that collecting garbage in
// one process never meets a snapshot being written by another. The kernel
// drops it when the holder dies.
func (s *LocalStore) Lock(ctx context.Context, exclusive bool) (func(), error) {
	name := filepath.Join(s.dir, localLock)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, unix.EROFS) {
		// What is only read needs no more; writing fails where it is tried.
		if f, err = os.Open(name); errors.Is(err, fs.ErrNotExist) {
			return func() {}, nil
		}
	}
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			f.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(lockPollDelay):
		}
	}
}
