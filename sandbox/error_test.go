package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
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
	} {
		if got := CodeOf(tc.err); got != tc.want {
			t.Errorf("CodeOf(%v) is %q, want %q", tc.err, got, tc.want)
		}
	}
}
