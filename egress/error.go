package egress

import "fmt"

// Codes an Error of this package carries.
const (
	codeInvalid    = "invalid_argument"
	codeNotAllowed = "host_not_allowed"
	codeLimit      = "limit_reached"
	codeInternal   = "internal"
)

// Error is every error this package returns. Its text is one sentence and the
// next step, and leaves the code out. It never holds a proxy credential.
type Error struct {
	code  string
	text  string
	cause error
}

// Code is the stable machine-readable code: "invalid_argument" for a rule,
// preset or name that cannot be read, "host_not_allowed" for what the policy
// refuses, "limit_reached" for byte and connection limits, "internal" for the
// rest.
func (e *Error) Code() string { return e.code }

// Error is the sentence and the next step, without the code.
func (e *Error) Error() string { return e.text }

// Unwrap is the system's error, for logs.
func (e *Error) Unwrap() error { return e.cause }

func invalid(format string, args ...any) *Error {
	return &Error{code: codeInvalid, text: fmt.Sprintf(format, args...)}
}
