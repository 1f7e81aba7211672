package manifest

import "mcp-sandbox/sandbox"

// errorf makes the error of a manifest that is refused or cannot be applied.
func errorf(code string, cause error, format string, args ...any) *sandbox.Error {
	return sandbox.Errorf(code, cause, format, args...)
}
