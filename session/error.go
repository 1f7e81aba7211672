package session

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"mcp-sandbox/sandbox"
)

// errorf makes the error of a refusal or failure here, such as
// session_not_found. A failure of the server whose cause is a full disk is
// disk_full, which says who can do something.
func errorf(code string, cause error, format string, args ...any) *sandbox.Error {
	if code == "internal" && (errors.Is(cause, syscall.ENOSPC) || errors.Is(cause, syscall.EDQUOT)) {
		what, _, _ := strings.Cut(fmt.Sprintf(format, args...), "; ")
		return sandbox.Errorf("disk_full", cause, "%s: the disk of the server is full; ask the operator to free some of it", what)
	}
	return sandbox.Errorf(code, cause, format, args...)
}
