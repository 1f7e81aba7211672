package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"mcp-sandbox/sandbox"
)

// The codes of this package's errors. Their texts name paths of the workspace only.
const (
	codeNotFound    = "snapshot_not_found" // no such snapshot
	codeFailed      = "snapshot_failed"    // the workspace or the store could not be read or written, or stored data is damaged
	codeUnsafe      = "unsafe_archive"     // an archive or a stored snapshot holds a member that is refused
	CodeLimit       = "limit_reached"      // more than CreateRequest.MaxBytes
	CodeDiskFull    = "disk_full"          // no space, inodes or quota left
	codeInvalid     = "invalid_argument"   // the request itself is wrong
	codeCancelled   = "cancelled"          // the context ended first
	codeInternal    = "internal"           // a bug here
	maxReportedPath = 200                  // bytes of a path quoted in an error
)

func invalid(format string, a ...any) error {
	return sandbox.Errorf(codeInvalid, nil, format, a...)
}

func unsafeArchive(member, reason string) error {
	return sandbox.Errorf(codeUnsafe, nil, "the archive member %s is refused: %s; nothing was changed; make the archive again without it", quote(member), reason)
}

// fail wraps a cause. The code follows the cause where it says more than the
// caller knows: a full disk is a full disk wherever it is met.
func fail(err error, format string, a ...any) error {
	var e *sandbox.Error
	if errors.As(err, &e) {
		return err
	}
	what := fmt.Sprintf(format, a...)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return sandbox.Errorf(codeCancelled, err, "%s: it was cancelled; try again", what)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return sandbox.Errorf(CodeDiskFull, err, "%s: no space is left; free some and try again", what)
	}
	return sandbox.Errorf(codeFailed, err, "%s: %s", what, reason(err))
}

// reason is the part of a cause that is safe to show: the errno's own words,
// never the path an os.PathError carries.
func reason(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "it does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied"
	case errors.Is(err, errDamaged):
		return err.Error()
	}
	return "see the server's log for the cause"
}

// errDamaged marks stored bytes that are not what was stored.
var errDamaged = errors.New("the stored data is damaged")

func damaged(format string, a ...any) error {
	return fmt.Errorf("%w: %s", errDamaged, fmt.Sprintf(format, a...))
}

// quote shows a path with every byte that could act on a terminal or a log
// escaped (CVE-2003-0063), and cut to a length a person reads.
func quote(path string) string {
	if len(path) > maxReportedPath {
		return fmt.Sprintf("%q...", path[:maxReportedPath])
	}
	return fmt.Sprintf("%q", path)
}
