package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// The codes an [Error] of this package can carry.
const (
	CodeNotFound    = "snapshot_not_found" // no such snapshot
	CodeFailed      = "snapshot_failed"    // the workspace or the store could not be read or written, or stored data is damaged
	CodeUnsafe      = "unsafe_archive"     // an archive or a stored snapshot holds a member that is refused
	CodeDiskFull    = "disk_full"          // no space, inodes or quota left
	CodeInvalid     = "invalid_argument"   // the request itself is wrong
	CodeCancelled   = "cancelled"          // the context ended first
	CodeInternal    = "internal"           // a bug here
	maxReportedPath = 200                  // bytes of a path quoted in an error
)

// Error is every error of this package. Its text is one sentence and the next
// step, without the code, and names paths of the workspace only.
type Error struct {
	code string
	msg  string
	err  error
}

// Code returns one of the codes above.
func (e *Error) Code() string { return e.code }

func (e *Error) Error() string { return e.msg }

// Unwrap returns the cause, whose text may name host paths and so is for logs.
func (e *Error) Unwrap() error { return e.err }

func invalid(format string, a ...any) error {
	return &Error{code: CodeInvalid, msg: fmt.Sprintf(format, a...)}
}

func unsafeArchive(member, reason string) error {
	return &Error{code: CodeUnsafe, msg: fmt.Sprintf("the archive member %s is refused: %s; nothing was changed, make the archive again without it", quote(member), reason)}
}

// fail wraps a cause. The code follows the cause where it says more than the
// caller knows: a full disk is a full disk wherever it is met.
func fail(err error, format string, a ...any) error {
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	what := fmt.Sprintf(format, a...)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &Error{CodeCancelled, what + ": it was cancelled, try again", err}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &Error{CodeDiskFull, what + ": no space is left, free some and try again", err}
	}
	return &Error{CodeFailed, what + ": " + reason(err), err}
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
// escaped (AC-56), and cut to a length a person reads.
func quote(path string) string {
	if len(path) > maxReportedPath {
		return fmt.Sprintf("%q...", path[:maxReportedPath])
	}
	return fmt.Sprintf("%q", path)
}
