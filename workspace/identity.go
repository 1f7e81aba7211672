package workspace

import (
	"os"
	"runtime"

	"mcp-sandbox/fsuser"
)

// enter gives the calling goroutine the file system identity of the session's
// owner until leave is called. A server that runs as root can then do to files
// exactly what the session's commands can. It does nothing unless
// Options.ActAsOwner asked for it.
func (f *FS) enter() (leave func(), err error) {
	leave, err = f.user.Enter()
	if err != nil {
		return nil, failCause(err, codeInternal, "the server cannot take the identity of the session's user; ask its operator to check it")
	}
	return leave, nil
}

// checkIdentity prepares enter.
func (f *FS) checkIdentity() error {
	if !f.opts.ActAsOwner || os.Geteuid() != 0 {
		return nil // an ordinary user acts as itself
	}
	if runtime.GOOS != "linux" {
		return fail(codeInvalid, "acting as another user is possible on Linux only; run the server as the user itself")
	}
	if f.opts.OwnerUID <= 0 || f.opts.OwnerGID <= 0 || os.Getegid() != 0 {
		return fail(codeInvalid, "acting as the owner needs the user and group of an ordinary user; set both")
	}
	u, err := fsuser.New(f.opts.OwnerUID, f.opts.OwnerGID)
	if err != nil {
		return fromErrno(err, "")
	}
	f.user = u
	return nil
}
