package ptyproc

import (
	"errors"
	"fmt"
	"syscall"
)

// Error is a refusal or failure with one of the product's error codes. Its text
// is "sentence, next step" and never names a host path.
type Error struct {
	code  string
	text  string
	cause error
}

func (e *Error) Error() string { return e.text }

// Code is the stable name of the error: invalid_argument, exec_failed,
// process_not_found, stdin_closed, limit_reached, not_found, cancelled or
// internal.
func (e *Error) Code() string { return e.code }

// Unwrap gives the cause for logs; it may hold host paths and is never shown to
// the model.
func (e *Error) Unwrap() error { return e.cause }

func errorf(code string, cause error, format string, args ...any) *Error {
	return &Error{code: code, text: fmt.Sprintf(format, args...), cause: cause}
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
