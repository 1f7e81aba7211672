package workspace

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// copyTree copies files, directories and links with their modes and times.
func (f *FS) copyTree(ctx context.Context, fromDir int, from string, toDir int, to, given string, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if depth > maxDepth {
		return fail(codeLimit, "%s is nested too deep to be copied to another file system; move its parts", quote(given))
	}
	st, err := statAt(fromDir, from)
	if err != nil {
		return err
	}
	switch kindOf(st) {
	case KindFile:
		return f.copyFile(ctx, fromDir, from, toDir, to, given)
	case KindSymlink:
		target, err := readlinkAt(fromDir, from)
		if err != nil {
			return err
		}
		return unix.Symlinkat(target, toDir, to)
	case KindDirectory:
		src, err := openSubdir(fromDir, from)
		if err != nil {
			return err
		}
		defer unix.Close(src)
		if err := f.mkdirAt(toDir, to); err != nil {
			return err
		}
		dst, err := openSubdir(toDir, to)
		if err != nil {
			return err
		}
		defer unix.Close(dst)
		entries, more, err := readEntries(ctx, src)
		if err != nil {
			return err
		}
		if more {
			return fail(codeLimit, "%s holds too many files to be copied to another file system; move its parts", quote(given))
		}
		for _, e := range entries {
			if err := f.copyTree(ctx, src, e.name, dst, e.name, given, depth+1); err != nil {
				return err
			}
		}
		return finishCopy(src, dst)
	}
	return fail(codeUnsupported, "%s holds a %s, which cannot be copied to another file system; leave it out", quote(given), kindOf(st))
}

func (f *FS) copyFile(ctx context.Context, fromDir int, from string, toDir int, to, given string) error {
	src, err := openRegularAt(fromDir, from, given)
	if err != nil {
		return err
	}
	defer src.Close()
	fd, err := retryEINTR(func() (int, error) {
		return unix.Openat(toDir, to, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return err
	}
	dst := os.NewFile(uintptr(fd), to)
	defer dst.Close()
	if _, err := copyContext(ctx, dst, src, -1); err != nil {
		return unwrapPath(err)
	}
	if err := finishCopy(int(src.Fd()), fd); err != nil {
		return err
	}
	return unwrapPath(dst.Sync())
}

// finishCopy gives dst the owner, mode and times of src. An owner the server
// may not set stays its own.
func finishCopy(src, dst int) error {
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	unix.Fchown(dst, int(st.Uid), int(st.Gid))
	if err := unix.Fchmod(dst, uint32(st.Mode)&0o1777); err != nil {
		return err
	}
	atime, mtime := statTimes(&st)
	return unix.Futimes(dst, []unix.Timeval{unix.NsecToTimeval(atime.Nano()), unix.NsecToTimeval(mtime.Nano())})
}
