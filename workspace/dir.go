package workspace

import (
	"context"
	"sort"

	"golang.org/x/sys/unix"
)

// Kind is the type of a directory entry.
type Kind string

// Kinds of entries. KindUnknown is never returned to callers.
const (
	KindUnknown   Kind = ""
	KindFile      Kind = "file"
	KindDirectory Kind = "directory"
	KindSymlink   Kind = "symlink"
	KindFIFO      Kind = "fifo"
	KindSocket    Kind = "socket"
	KindDevice    Kind = "device"
)

// maxEntries bounds the names read of one directory: names are held in memory
// to be sorted, about 64 MiB at this number.
const maxEntries = 500_000

func kindOf(st *unix.Stat_t) Kind {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return KindFile
	case unix.S_IFDIR:
		return KindDirectory
	case unix.S_IFLNK:
		return KindSymlink
	case unix.S_IFIFO:
		return KindFIFO
	case unix.S_IFSOCK:
		return KindSocket
	}
	return KindDevice
}

func retryEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// statAt is fstatat without following a link.
func statAt(fd int, name string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	for {
		err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != unix.EINTR {
			return &st, err
		}
	}
}

// readlinkAt is the target of a link; EINVAL when name is not one.
func readlinkAt(fd int, name string) (string, error) {
	buf := make([]byte, 256)
	for {
		n, err := retryEINTR(func() (int, error) { return unix.Readlinkat(fd, name, buf) })
		if err != nil {
			return "", err
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
		buf = make([]byte, 2*len(buf))
	}
}

// openSubdir opens a directory for reading its entries.
func openSubdir(fd int, name string) (int, error) {
	return retryEINTR(func() (int, error) {
		return unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	})
}

// dirEntry is one name of a directory.
type dirEntry struct {
	name string
	kind Kind
}

// readEntries reads the entries of an open directory, sorted by name, at most
// maxEntries of them; more says that there were others.
func readEntries(ctx context.Context, fd int) (entries []dirEntry, more bool, err error) {
	// The offset belongs to the descriptor; rewinding lets one be read again.
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return nil, false, err
	}
	buf := make([]byte, 32<<10)
	for {
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		n, err := retryEINTR(func() (int, error) { return unix.ReadDirent(fd, buf) })
		if err != nil {
			return nil, false, err
		}
		if n <= 0 {
			break
		}
		rawEntries(buf[:n], func(name string, kind Kind) {
			entries = append(entries, dirEntry{name, kind})
		})
		if len(entries) > maxEntries {
			entries, more = entries[:maxEntries], true
			break
		}
	}
	for i := range entries {
		if entries[i].kind == KindUnknown {
			if st, err := statAt(fd, entries[i].name); err == nil {
				entries[i].kind = kindOf(st)
			}
		}
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].name < entries[j].name })
	return entries, more, nil
}
