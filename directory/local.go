package directory

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Local is a Directory in a directory of the file system, one file a value.
type Local struct{ dir string }

// lockFile is held by whoever compares a version and replaces the file.
const lockFile = ".directory.lock"

// NewLocal opens dir, which must be closed to other users. Parents of keys are made
// as they are needed, with mode 0700.
func NewLocal(dir string) *Local { return &Local{dir} }

func (l *Local) path(key string) (string, error) {
	if !ValidKey(key) {
		return "", fmt.Errorf("%q is not a key", key)
	}
	return filepath.Join(l.dir, filepath.FromSlash(key)), nil
}

// Get refuses a file that another user may have written.
func (l *Local) Get(ctx context.Context, key string) ([]byte, string, error) {
	path, err := l.path(key)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, "", err
	}
	b, err := ReadPrivate(path, MaxValue)
	if err != nil {
		return nil, "", err
	}
	return b, versionOf(b), nil
}

func versionOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

func (l *Local) PutIf(ctx context.Context, key string, value []byte, version string) (string, error) {
	path, err := l.path(key)
	if err != nil {
		return "", err
	}
	if len(value) > MaxValue {
		return "", fmt.Errorf("the entry %s is longer than 1 MiB", key)
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	switch b, err := ReadPrivate(path, MaxValue); {
	case errors.Is(err, fs.ErrNotExist):
		if version != "" {
			return "", ErrConflict
		}
	case err != nil:
		return "", err
	case version != versionOf(b):
		return "", ErrConflict
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	return versionOf(value), WriteOver(path, value)
}

// lock waits until this caller alone replaces files; a kill gives it back.
func (l *Local) lock(ctx context.Context) (unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(l.dir, lockFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

func (l *Local) List(ctx context.Context, prefix string) ([]Entry, error) {
	return l.list(ctx, prefix, true)
}

// Names is List without times, which would cost a look at each of thousands of files.
func (l *Local) Names(ctx context.Context, prefix string) ([]Entry, error) {
	return l.list(ctx, prefix, false)
}

func (l *Local) list(ctx context.Context, prefix string, times bool) ([]Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		dir = prefix[:i+1]
	}
	var out []Entry
	root := filepath.Clean(l.dir)
	err := filepath.WalkDir(filepath.Join(root, filepath.FromSlash(dir)), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		key := filepath.ToSlash(strings.TrimPrefix(strings.TrimPrefix(path, root), string(filepath.Separator)))
		if d.IsDir() || !strings.HasPrefix(key, prefix) || !ValidKey(key) {
			return nil
		}
		if !times {
			out = append(out, Entry{Key: key})
			return nil
		}
		fi, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		out = append(out, Entry{key, fi.ModTime()})
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Key < out[j].Key })
	return out, nil
}

// Delete removes also what a server that was killed in the middle of a write has left.
func (l *Local) Delete(ctx context.Context, key string) error {
	path, err := l.path(key)
	if err != nil {
		return err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	errs := []error{ignoreMissing(os.Remove(path))}
	halves, _ := filepath.Glob(path + ".*")
	for _, h := range halves {
		if rest := strings.TrimPrefix(h, path+"."); len(rest) == 2*randomBytes {
			errs = append(errs, ignoreMissing(os.Remove(h)))
		}
	}
	return errors.Join(errs...)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ReadPrivate reads a file of at most most bytes that only this user can have
// written; of a longer one, a byte more.
func ReadPrivate(name string, most int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s is open to others", name)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s belongs to another user", name)
	}
	return io.ReadAll(io.LimitReader(f, most+1))
}

// WriteOver replaces a file, whole or not at all, with mode 0600.
func WriteOver(name string, b []byte) error {
	tmp, err := writeTemporary(name, b)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return syncDir(filepath.Dir(name))
}

// WriteOnce makes a file that must not exist, whole or not at all, with mode 0600.
func WriteOnce(name string, b []byte) error {
	tmp, err := writeTemporary(name, b)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

// randomBytes make the name of a file that is being written.
const randomBytes = 8

func writeTemporary(name string, b []byte) (string, error) {
	var r [randomBytes]byte
	_, _ = rand.Read(r[:]) // never fails (crypto/rand)
	name += "." + hex.EncodeToString(r[:])
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(name))
	}
	return name, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
