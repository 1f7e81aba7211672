package session

import "fmt"

// Error is a refusal or failure with one of the product's error codes. Its text
// is "sentence, next step" and never names a host path outside the workspace.
type Error struct {
	code  string
	text  string
	cause error
}

func (e *Error) Error() string { return e.text }

// Code is the stable name of the error, for example "session_not_found".
func (e *Error) Code() string { return e.code }

// Unwrap gives the cause for logs; it may hold host paths and is never shown to
// the model.
func (e *Error) Unwrap() error { return e.cause }

func errorf(code string, cause error, format string, args ...any) *Error {
	return &Error{code: code, text: fmt.Sprintf(format, args...), cause: cause}
}
