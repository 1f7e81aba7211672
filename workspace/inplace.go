package workspace

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// writeInPlace overwrites the file itself, for the cases where a new inode
// cannot stand in for the old one.
func (f *FS) writeInPlace(ctx context.Context, p *resolved, r replacement) error {
	if r.before != nil {
		return f.appendInPlace(ctx, p, WriteRequest{Content: r.content})
	}
	if err := f.fits(p, r.old, r.size()); err != nil {
		return err
	}
	file, err := openForWrite(p, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := writeContext(ctx, file, r.content); err != nil {
		return unwrapPath(err)
	}
	if err := file.Truncate(int64(len(r.content))); err != nil {
		return unwrapPath(err)
	}
	if r.executable != nil && r.old != nil {
		if err := unix.Fchmod(int(file.Fd()), withExecutable(uint32(r.old.Mode)&0o777, *r.executable)); err != nil {
			return err
		}
	}
	return unwrapPath(file.Sync())
}

// appendInPlace adds bytes at the end and takes them back when they did not
// all fit.
func (f *FS) appendInPlace(ctx context.Context, p *resolved, req WriteRequest) error {
	file, err := openForWrite(p, unix.O_APPEND)
	if err != nil {
		return err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return unwrapPath(err)
	}
	if err := f.fitsAfter(p, st.Size(), st.Size()+int64(len(req.Content))); err != nil {
		return err
	}
	counted := &countedWriter{w: file}
	if err := writeContext(ctx, counted, req.Content); err != nil {
		// Unless a program wrote behind it, whose bytes would go too.
		if now, e := file.Stat(); e == nil && now.Size() == st.Size()+counted.n {
			file.Truncate(st.Size())
		}
		return unwrapPath(err)
	}
	if req.Executable != nil {
		if err := unix.Fchmod(int(file.Fd()), withExecutable(uint32(st.Mode().Perm()), *req.Executable)); err != nil {
			return err
		}
	}
	return unwrapPath(file.Sync())
}

func openForWrite(p *resolved, flags int) (*os.File, error) {
	return openForWriteAt(p.fd, p.name, p.given, flags)
}

func openForWriteAt(dir int, name, given string, flags int) (*os.File, error) {
	fd, err := retryEINTR(func() (int, error) {
		return unix.Openat(dir, name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY|flags, 0)
	})
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if err := regular(&st, given); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// countedWriter counts what has been written.
type countedWriter struct {
	w io.Writer
	n int64
}

func (c *countedWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
