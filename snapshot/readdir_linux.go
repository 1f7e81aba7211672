package snapshot

import (
	"bytes"
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

// readDir appends the names of the directory to list, with buf as scratch space.
// It decodes getdents64(2) itself: os.File would stat and sort what the walk
// stats and sorts anyway. The names of one read share one string, in which a NUL
// follows each.
func readDir(fd int, buf []byte, list []dirent) ([]dirent, error) {
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return list, err
		}
		from := len(list)
		end := 0 // of the names, moved to the front of buf
		// struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
		for at := 0; n-at > 19; {
			size := int(binary.NativeEndian.Uint16(buf[at+16:]))
			if size < 19 || size > n-at {
				return list, unix.EIO
			}
			name, kind := buf[at+19:at+size], buf[at+18]
			at += size
			k := bytes.IndexByte(name, 0)
			if k < 0 {
				return list, unix.EIO
			}
			if k == 0 || k <= 2 && (string(name[:k]) == "." || string(name[:k]) == "..") {
				continue
			}
			end += copy(buf[end:], name[:k+1])
			list = append(list, dirent{dir: kind == unix.DT_DIR})
		}
		all := string(buf[:end])
		for i := from; i < len(list); i++ {
			k := strings.IndexByte(all, 0)
			list[i].name, all = all[:k], all[k+1:]
		}
	}
}
