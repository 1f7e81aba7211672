package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

func TestError(t *testing.T) {
	err := error(Errorf("not_found", fs.ErrNotExist, "there is no file %q; list the directory", "a"))
	if got := err.Error(); got != `there is no file "a"; list the directory` {
		t.Errorf("the text is %q", got)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("the cause is not in the chain")
	}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{fs.ErrNotExist, ""},
		{err, "not_found"},
		{fmt.Errorf("while reading: %w", err), "not_found"},
		{Errorf("internal", err, "the outermost code counts"), "internal"},
		{errors.Join(fs.ErrClosed, err), "not_found"},
		{Errorf("internal", &fs.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}, "the session could not be recorded; try again"), "limit_reached"},
		{Errorf("internal", fmt.Errorf("pipe: %w", syscall.ENFILE), "no pipe"), "limit_reached"},
		{Errorf("not_found", syscall.EMFILE, "a reason of its own is kept"), "not_found"},
	} {
		if got := CodeOf(tc.err); got != tc.want {
			t.Errorf("CodeOf(%v) is %q, want %q", tc.err, got, tc.want)
		}
		// Which of the two limits it was decides whom the reader asks.
		for cause, who := range map[error]string{syscall.EMFILE: ": the server has", syscall.ENFILE: ": the host has"} {
			if tc.want == "limit_reached" && errors.Is(tc.err, cause) && !strings.Contains(tc.err.Error(), who) {
				t.Errorf("of %v: %v", cause, tc.err)
			}
		}
	}
}
