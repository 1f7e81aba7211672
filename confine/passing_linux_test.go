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
		&unavailable{"a", unix.EAGAIN}: true, &unavailable{"a", unix.ENOMEM}: true, fmt.Errorf("fork: %w", unix.EMFILE): true, &os.SyscallError{Syscall: "pipe2", Err: unix.ENFILE}: true,
		&unavailable{"a", unix.ENOSPC}: false, &unavailable{"a", unix.EPERM}: false, &unavailable{"a", io.EOF}: false, unix.ENOSYS: false,
	} {
		if passes(err) != want {
			t.Errorf("%v: %v, want %v", err, !want, want)
		}
	}
}
