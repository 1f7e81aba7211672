package workspace

import (
	"context"
	"errors"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// The codes of this package's errors.
const (
	codeInvalid       = "invalid_argument"
	codeNotFound      = "not_found"
	codePermission    = "permission_denied"
	codeIsDirectory   = "is_a_directory"
	codeNotDirectory  = "not_a_directory"
	codeExists        = "already_exists"
	codeOutside       = "path_outside_workspace"
	codeProtected     = "path_protected"
	codeUnsupported   = "unsupported_file_type"
	codeTooLarge      = "too_large"
	codeDiskFull      = "disk_full"
	codeLimit         = "limit_reached"
	codeUnsafeArchive = "unsafe_archive"
	codeConflict      = "conflict"
	codeNotUnique     = "edit_not_unique"
	codeEditNotFound  = "edit_not_found"
	codePatchFailed   = "patch_failed"
	codeCancelled     = "cancelled"
	codeInternal      = "internal"
)

// fail makes an error of this package. Its text names paths only as the caller
// gave them or relative to the workspace.
func fail(code, format string, args ...any) *sandbox.Error {
	return sandbox.Errorf(code, nil, format, args...)
}

func failCause(cause error, code, format string, args ...any) *sandbox.Error {
	return sandbox.Errorf(code, cause, format, args...)
}

// quote shows a path in a message: plain when it is plain, quoted when it
// holds anything that could disturb the line it is printed on.
func quote(path string) string {
	const most = 300
	if len(path) > most {
		path = strings.ToValidUTF8(path[:most], "") + "..."
	}
	q := strconv.Quote(path)
	if len(q) == len(path)+2 && path != "" && !strings.ContainsAny(path, " :,") {
		return path
	}
	return q
}

// fromErrno turns a system error met on path into an Error. An Error passes
// unchanged, so the place nearest to the cause chooses the words.
func fromErrno(err error, path string) error {
	if err == nil {
		return nil
	}
	var own *sandbox.Error
	if errors.As(err, &own) {
		return own
	}
	p := quote(path)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return failCause(err, codeCancelled, "the call was cancelled before it finished; nothing further was done")
	case errors.Is(err, fs.ErrNotExist):
		return failCause(err, codeNotFound, "%s does not exist; check the path with ls", p)
	case errors.Is(err, unix.EROFS):
		return failCause(err, codePermission, "%s is on a read-only file system; write somewhere else", p)
	case errors.Is(err, unix.ETXTBSY):
		return failCause(err, codePermission, "%s is a program that is running; stop it first", p)
	case errors.Is(err, unix.EBUSY):
		return failCause(err, codePermission, "%s is in use as a mount point; leave it in place", p)
	case errors.Is(err, fs.ErrPermission):
		return failCause(err, codePermission, "%s may not be accessed; check its owner and mode", p)
	case errors.Is(err, unix.EISDIR):
		return failCause(err, codeIsDirectory, "%s is a directory; name a file", p)
	case errors.Is(err, unix.ENOTDIR):
		return failCause(err, codeNotDirectory, "%s is not a directory or runs through something that is not one; check the path with ls", p)
	case errors.Is(err, unix.ENOTEMPTY):
		return failCause(err, codeIsDirectory, "%s is a directory that is not empty; pass recursive to remove it with its contents", p)
	case errors.Is(err, fs.ErrExist):
		return failCause(err, codeExists, "%s already exists; choose another name or remove it first", p)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return failCause(err, codeDiskFull, "no space is left for %s and its old content is unchanged; free some space and try again", p)
	case errors.Is(err, unix.EFBIG):
		return failCause(err, codeTooLarge, "%s would grow past the file size limit; write less", p)
	case errors.Is(err, unix.ENAMETOOLONG):
		return failCause(err, codeInvalid, "%s has a name or path too long for the file system; shorten it", p)
	case errors.Is(err, unix.ELOOP):
		return failCause(err, codeInvalid, "%s runs through too many symbolic links; name the file itself", p)
	case errors.Is(err, unix.EMFILE):
		return failCause(err, codeLimit, "the server has too many files open; try again in a moment")
	case errors.Is(err, unix.ENFILE):
		return failCause(err, codeLimit, "the host has too many files open; try again in a moment")
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EOPNOTSUPP):
		return failCause(err, codeUnsupported, "%s cannot be used as a regular file; use a command for it", p)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EILSEQ):
		return failCause(err, codeInvalid, "%s was refused by the file system; choose another name", p)
	}
	return failCause(err, codeInternal, "%s could not be used because of an unexpected system error; try again", p)
}
