package confine

import (
	"context"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// tmpFull is how few bytes may be left of the private /tmp for an error without
// a path to be put down to it.
const tmpFull = 1 << 20

// LimitReached judges an error that a command printed: whether it was a limit of
// the session, and not one of the host. paths are what its line may name.
func (s *Sandbox) LimitReached(ctx context.Context, l sandbox.Limit, paths []string) bool {
	if s.report.Level == sandbox.LevelNone {
		return false
	}
	mounts := s.report.Level != sandbox.LevelLandlock
	switch l {
	case sandbox.LimitTmp:
		if !mounts {
			return false // the session's directory lies on the host's file system
		}
		for _, p := range paths {
			if within(p, s.private...) && !within(p, s.grants...) {
				return true
			}
			var st unix.Stat_t
			if unix.Lstat(p, &st) == nil {
				return false
			}
		}
		left, err := s.ask(ctx, opTmpLeft, func(*encoder) {})
		return err == nil && left < tmpFull
	case sandbox.LimitFileSize:
		for _, p := range paths {
			var st unix.Stat_t
			if unix.Lstat(p, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
				return st.Size >= s.limits.FileSize
			}
		}
		return binds(unix.RLIMIT_FSIZE, uint64(s.limits.FileSize))
	case sandbox.LimitOpenFiles:
		return binds(unix.RLIMIT_NOFILE, uint64(s.limits.OpenFiles))
	case sandbox.LimitProcs:
		if n, err := s.cgroup.forksRefused(); err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			more := n > s.forks
			s.forks = n
			return more
		}
		return mounts && s.uid != 0
	}
	return false
}

// binds says whether a limit of the session is below the host's own.
func binds(resource int, limit uint64) bool {
	var host unix.Rlimit
	return unix.Getrlimit(resource, &host) == nil && limit < host.Max
}

// tmpLeft is how many bytes are left of the private /tmp.
func tmpLeft() (int, error) {
	var st unix.Statfs_t
	if err := unix.Statfs("/tmp", &st); err != nil {
		return 0, err
	}
	return int(min(st.Bavail*uint64(st.Bsize), 1<<40)), nil
}
