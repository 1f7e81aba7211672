package egress

import "mcp-sandbox/sandbox"

// The codes of this package's errors. No text holds a proxy credential.
const (
	codeInvalid    = "invalid_argument" // a rule, preset or name that cannot be read
	codeNotAllowed = "host_not_allowed" // what the policy refuses
	codeLimit      = "limit_reached"    // byte and connection limits
	codeInternal   = "internal"
)

func invalid(format string, args ...any) *sandbox.Error {
	return sandbox.Errorf(codeInvalid, nil, format, args...)
}
