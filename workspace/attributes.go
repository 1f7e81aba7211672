package workspace

import (
	"strings"

	"golang.org/x/sys/unix"
)

// copyAttributes copies the extended attributes and access lists of the file at
// p to fd. It does what it can: a file system without them, or an attribute the
// server may not set, does not refuse an edit.
func copyAttributes(fd int, p *resolved) {
	old, err := retryEINTR(func() (int, error) {
		return unix.Openat(p.fd, p.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	})
	if err != nil {
		return
	}
	defer unix.Close(old)
	names := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Flistxattr(old, names)
	if err != nil || n <= 0 {
		return
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for _, name := range strings.Split(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		// File capabilities are a kind of set-user-ID: new content must not
		// inherit them.
		if name == "" || name == "security.capability" {
			continue
		}
		if m, err := unix.Fgetxattr(old, name, value); err == nil {
			unix.Fsetxattr(fd, name, value[:m], 0)
		}
	}
}
