package tokens

import "mcp-sandbox/sandbox"

// invalid makes the only kind of error there is here, invalid_argument.
func invalid(format string, args ...any) *sandbox.Error {
	return sandbox.Errorf("invalid_argument", nil, format, args...)
}
