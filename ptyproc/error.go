package ptyproc

import (
	"errors"
	"syscall"

	"mcp-sandbox/sandbox"
)

// errorf makes the error of a refusal or failure here: invalid_argument,
// exec_failed, process_not_found, stdin_closed, limit_reached, not_found,
// cancelled or internal.
func errorf(code string, cause error, format string, args ...any) *sandbox.Error {
	return sandbox.Errorf(code, cause, format, args...)
}

// errnoText is the system's words for an error without the file names that
// wrapping errors carry.
func errnoText(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return "internal error"
}
