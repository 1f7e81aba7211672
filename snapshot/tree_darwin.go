package snapshot

import (
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// openBeneath: macOS has no openat2, the caller goes one component at a time.
func openBeneath(int, string, int) (int, error) { return -1, unix.ENOSYS }

func chmodAt(dir int, name string, mode uint32) error {
	return unix.Fchmodat(dir, name, mode, unix.AT_SYMLINK_NOFOLLOW)
}

func exchange(adir int, a string, bdir int, b string) error {
	return unix.RenameatxNp(adir, a, bdir, b, unix.RENAME_SWAP)
}

// renameNew renames, failing with EEXIST if the new name is there.
func renameNew(adir int, a string, bdir int, b string) error {
	err := unix.RenameatxNp(adir, a, bdir, b, unix.RENAME_EXCL)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return renameChecked(adir, a, bdir, b)
	}
	return err
}

// storedXattr: the system's own attributes (quarantine, provenance, ACLs) say
// how a file came here, which a restore must not claim for it.
func storedXattr(name string) bool { return !strings.HasPrefix(name, "com.apple.") }

// accessTime is now: macOS cannot leave it out.
func accessTime() unix.Timespec { return unix.NsecToTimespec(time.Now().UnixNano()) }

// spread is for ext4.
func spread(int) {}

// mayWriteDir: on macOS a server works on a workspace with its own rights.
func mayWriteDir(int) error { return nil }

// moveName is rename(2).
func moveName(adir int, a string, bdir int, b string) error { return unix.Renameat(adir, a, bdir, b) }
