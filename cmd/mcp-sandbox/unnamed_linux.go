package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// unnamedFile makes a file that a kill leaves nothing of, until linkUnnamed
// (open(2), O_TMPFILE). Not every file system can.
func unnamedFile(dir string) (*os.File, error) {
	if _, err := os.Lstat("/proc/self/fd"); err != nil {
		return nil, err // it could not be given a name
	}
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), ""), nil
}

// linkUnnamed gives the file a name that nothing has.
func linkUnnamed(f *os.File, path string) error {
	return unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
}
