package snapshot

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// place finds where the private directory is made: in the first of Options.StageDirs
// that renames to the workspace and back, or else in the workspace. What is built
// there must not be altered before it is swapped in, and commands reach all of
// the workspace. It sets a.base, which is a's to close unless it is root.
func (a *apply) place(root int) {
	a.base = root
	for _, dir := range a.r.opt.StageDirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			continue
		}
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if !renames(fd, root, a.name) {
			unix.Close(fd)
			continue
		}
		sweepStages(fd)
		a.base, a.own = fd, true
		return
	}
	if len(a.r.opt.StageDirs) > 0 {
		a.r.log.Info("a restore is built in the workspace: no directory outside is on its file system")
	}
}

// renames tries whether names can be moved between two directories: a device number
// does not show bind mounts, quotas and layers. The directory tried with is not the
// private one, as a command could open it while it is in the workspace.
func renames(from, to int, name string) bool {
	probe := name + "-probe"
	// Moving a directory to another one takes the right to write to it (rename(2)).
	if unix.Mkdirat(from, probe, 0o200) != nil {
		return false
	}
	if unix.Renameat(from, probe, to, probe) == nil {
		_ = unix.Unlinkat(to, probe, unix.AT_REMOVEDIR)
		return true
	}
	_ = unix.Unlinkat(from, probe, unix.AT_REMOVEDIR)
	return false
}

// sweepStages removes the private directories that killed servers left. The lock of
// one in use is held.
func sweepStages(dir int) {
	names, err := readDir(dir, make([]byte, 8<<10), nil)
	if err != nil {
		return
	}
	for _, d := range names {
		if !strings.HasPrefix(d.name, stagePrefix) {
			continue
		}
		fd, err := openat(dir, d.name, openDirFlags)
		if err != nil {
			continue
		}
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = removeAll(dir, d.name)
		}
		unix.Close(fd)
	}
}
