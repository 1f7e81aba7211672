package sandbox

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// Error is the one coded error of the program: a refusal or failure with a
// stable code for clients, one sentence with the next step for the reader, and
// the cause for the log. Each package lists the codes it uses.
type Error struct {
	code, text string
	cause      error
}

// Errorf makes an Error. The text leaves the code out and names no host path
// outside the workspace, because the model reads it; cause may be nil. A failure of the
// server that comes of too many open files is limit_reached, whatever it failed at.
func Errorf(code string, cause error, format string, args ...any) *Error {
	e := &Error{code: code, text: fmt.Sprintf(format, args...), cause: cause}
	why := ""
	switch {
	case code != "internal":
	case errors.Is(cause, syscall.EMFILE):
		why = "the server has as many files open as it may; close other sessions first, or ask the operator to raise its limit of open files"
	case errors.Is(cause, syscall.ENFILE):
		why = "the host has as many files open as it may; try again, or ask the operator to raise the host's limit of open files"
	}
	if why != "" {
		what, _, _ := strings.Cut(e.text, "; ")
		e.code, e.text = "limit_reached", what+": "+why
	}
	return e
}

// Code is the stable machine-readable name, such as "not_found".
func (e *Error) Code() string { return e.code }

// Error is the sentence and the next step.
func (e *Error) Error() string { return e.text }

// Unwrap is the cause. Its text may name host paths, so it is for logs only.
func (e *Error) Unwrap() error { return e.cause }

// ErrStopping is the cause (context.Cause) of calls that the end of the server
// cuts short: what they have is worth an answer.
var ErrStopping = errors.New("the server is stopping")

// CodeOf is the code of the first Error in err's chain, "" without one.
func CodeOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.code
	}
	return ""
}
