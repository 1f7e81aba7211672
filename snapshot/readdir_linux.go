package snapshot

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// readDir appends the names of the directory to list, with buf as scratch space.
// It decodes getdents64(2) itself: os.File would stat and sort what the walk
// stats and sorts anyway. The names of one read share one string.
func readDir(fd int, buf []byte, list []dirent) ([]dirent, error) {
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return list, err
		}
		all := string(buf[:n])
		// struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
		for at := 0; n-at > 19; {
			size := int(binary.NativeEndian.Uint16(buf[at+16:]))
			if size < 19 || size > n-at {
				return list, unix.EIO
			}
			from, to := at+19, at+size
			if i := bytes.IndexByte(buf[from:to], 0); i >= 0 {
				to = from + i
			}
			kind := buf[at+18]
			at += size
			if name := all[from:to]; name != "" && name != "." && name != ".." {
				list = append(list, dirent{name, kind == unix.DT_DIR})
			}
		}
	}
}
