package session

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestStageErrorText: what a model reads of a failed apply names no file of the state
// directory.
func TestStageErrorText(t *testing.T) {
	const secret = "/state/stages/0/journal"
	for _, err := range []error{
		&os.PathError{Op: "open", Path: secret, Err: syscall.EIO},
		errors.Join(&os.LinkError{Op: "rename", Old: secret, New: secret, Err: syscall.EIO}, nil),
	} {
		if text := withoutPath(err); strings.Contains(text, secret) || text != syscall.EIO.Error() {
			t.Errorf("%v is told as %q", err, text)
		}
	}
}
