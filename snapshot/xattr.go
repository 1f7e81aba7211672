package snapshot

import (
	"bytes"
	"errors"
	"sort"

	"golang.org/x/sys/unix"
)

// xattr is one extended attribute, attr(5).
type xattr struct{ name, value string }

const (
	maxXattrs     = 256      // a file
	maxXattrName  = 255      // XATTR_NAME_MAX
	maxXattrValue = 64 << 10 // XATTR_SIZE_MAX
)

// readXattrs returns the attributes that are stored, sorted by name. A file
// system without them has none.
func readXattrs(fd int) []xattr {
	// Most have none: asked for the size first, those cost no memory.
	n, err := unix.Flistxattr(fd, nil)
	if err != nil || n == 0 {
		return nil
	}
	buf := make([]byte, n)
	n, err = unix.Flistxattr(fd, buf)
	if errors.Is(err, unix.ERANGE) { // more since
		buf = make([]byte, maxXattrValue)
		n, err = unix.Flistxattr(fd, buf)
	}
	if err != nil || n == 0 {
		return nil
	}
	var out []xattr
	for _, name := range bytes.Split(buf[:n], []byte{0}) {
		if !storedXattr(string(name)) || len(out) == maxXattrs {
			continue
		}
		val := make([]byte, 256)
		vn, err := unix.Fgetxattr(fd, string(name), val)
		if errors.Is(err, unix.ERANGE) {
			val = make([]byte, maxXattrValue)
			vn, err = unix.Fgetxattr(fd, string(name), val)
		}
		if err != nil {
			continue
		}
		out = append(out, xattr{string(name), string(val[:vn])})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out
}

// writeXattrs makes the stored attributes of fd those in want. A file system
// that has none is not an error when there is nothing to write.
func writeXattrs(fd int, want []xattr) error {
	have := readXattrs(fd)
	for _, h := range have {
		if !hasXattr(want, h.name) {
			if err := unix.Fremovexattr(fd, h.name); err != nil && !errors.Is(err, unix.ENODATA) {
				return err
			}
		}
	}
	for _, w := range want {
		err := unix.Fsetxattr(fd, w.name, []byte(w.value), 0)
		if errors.Is(err, unix.ENOTSUP) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func hasXattr(list []xattr, name string) bool {
	for _, x := range list {
		if x.name == name {
			return true
		}
	}
	return false
}

func equalXattrs(a, b []xattr) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
