package confine

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFailedClones(t *testing.T) {
	var f failedClones
	for range maxFailedClones {
		if err := f.refused(); err != nil {
			t.Fatalf("given up early: %v", err)
		}
		// What is no refusal of the host does not count.
		f.note(nil)
		f.note(errors.New("other"))
		f.note(unix.ENOENT)
		f.note(&os.PathError{Op: "fork/exec", Path: "x", Err: unix.ENOSPC})
	}
	if err := f.refused(); err != unix.ENOSPC {
		t.Fatalf("refused: %v, want ENOSPC", err)
	}
}
