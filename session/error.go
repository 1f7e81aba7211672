package session

import "mcp-sandbox/sandbox"

// Error is a refusal or failure with one of the product's error codes.
type Error = sandbox.Error

func errorf(code string, cause error, format string, args ...any) *Error {
	return sandbox.Errorf(code, cause, format, args...)
}
