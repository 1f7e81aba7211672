package workspace

import "os"

// enter does nothing: Darwin has no file system identity apart from the
// process's own, so checkIdentity refuses what would need one.
func (f *FS) enter() (leave func(), err error) { return func() {}, nil }

func (f *FS) checkIdentity() error {
	if f.opts.ActAsOwner && os.Geteuid() == 0 {
		return fail(codeInvalid, "acting as another user is possible on Linux only; run the server as the user itself")
	}
	return nil
}
