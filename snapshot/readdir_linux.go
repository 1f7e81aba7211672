package snapshot

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// readDir calls fn for every name of the folder. It decodes getdents64(2)
// itself: os.File would stat and sort what the walk stats and sorts anyway.
func readDir(fd int, buf []byte, fn func(name string) error) error {
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		// struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
		for rest := buf[:n]; len(rest) > 19; {
			size := int(binary.NativeEndian.Uint16(rest[16:]))
			if size < 19 || size > len(rest) {
				return unix.EIO
			}
			name := rest[19:size]
			if i := bytes.IndexByte(name, 0); i >= 0 {
				name = name[:i]
			}
			rest = rest[size:]
			if len(name) == 0 || string(name) == "." || string(name) == ".." {
				continue
			}
			if err := fn(string(name)); err != nil {
				return err
			}
		}
	}
}
