package session

import "mcp-sandbox/sandbox"

// errorf makes the error of a refusal or failure here, such as
// session_not_found.
func errorf(code string, cause error, format string, args ...any) *sandbox.Error {
	return sandbox.Errorf(code, cause, format, args...)
}
