package confine

import (
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// What the host lacks for a moment is no reason for a lower level: whoever uses it
// up could lower that of everybody else's next session.
func TestPassingFailuresLowerNoLevel(t *testing.T) {
	for err, want := range map[error]bool{
		&unavailable{step: "a", err: unix.EAGAIN}: true, &unavailable{step: "a", err: unix.ENOMEM}: true, fmt.Errorf("fork: %w", unix.EMFILE): true, &os.SyscallError{Syscall: "pipe2", Err: unix.ENFILE}: true,
		&unavailable{step: "a", err: unix.ENOSPC}: false, &unavailable{step: "a", err: unix.EPERM}: false, &unavailable{step: "a", err: io.EOF}: false, unix.ENOSYS: false,
	} {
		if passes(err) != want {
			t.Errorf("%v: %v, want %v", err, !want, want)
		}
	}
}
