package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// WriteMode is how WriteFile treats a file that exists.
type WriteMode string

// Modes of WriteFile. The zero value is WriteOverwrite.
const (
	WriteOverwrite WriteMode = "overwrite" // replace the content, or create
	WriteAppend    WriteMode = "append"    // add at the end, or create
	WriteCreate    WriteMode = "create"    // create; already_exists otherwise
)

// WriteRequest is the input of WriteFile. Missing parent directories are made.
type WriteRequest struct {
	Path    string
	Content []byte
	Mode    WriteMode
	// Binary content is written as it is. Text that is appended takes the encoding
	// and the line ends of the file.
	Binary bool
	// Force writes a file whose mode lets nobody write.
	Force bool
	// IfUnchanged, when not empty, is the version of a file that must still be there
	// (ReadResult.Version); conflict otherwise.
	IfUnchanged string
	// Executable sets (true) or clears (false) the x bits; nil keeps the mode
	// of an existing file and makes a new one not executable.
	Executable *bool
}

// WriteResult tells what WriteFile did.
type WriteResult struct {
	Path    string // where the bytes went, links followed
	Bytes   int    // bytes of Content
	Size    int64  // size of the file afterwards
	Created bool
	// HardLinks is the link count the file had, when above 1: this name now
	// has a file of its own and the other names keep the old content.
	HardLinks int
	// InPlace says that the file was written without the protection of a
	// rename, and why is in Note.
	InPlace bool
	Note    string
	// Version is that of the new content; "" after an append and for more than
	// 8 MiB, where only a read tells it.
	Version string
}

// errSwapped says that a name changed between the walk and its use.
var errSwapped = errors.New("name changed during the call")

// at walks to path and calls use, again from the start as long as the place
// changes under it.
func (f *FS) at(path string, o walkOptions, use func(*resolved) error) error {
	leave, err := f.enter()
	if err != nil {
		return err
	}
	defer leave()
	return f.atEntered(path, o, use)
}

// atEntered is at for callers that have the right identity already; taking it
// twice would give it back too early.
func (f *FS) atEntered(path string, o walkOptions, use func(*resolved) error) error {
	for range maxSwaps {
		p, err := f.walk(path, o)
		if err == nil {
			err = use(p)
			p.close()
		}
		if err == unix.ENOENT {
			return f.missingName(path)
		}
		if err == nil || !errors.Is(err, errSwapped) && err != unix.ELOOP {
			return fromErrno(err, path)
		}
	}
	return fail(codePermission, "%s keeps changing while it is being used; stop the process that replaces it", quote(path))
}

// WriteFile writes a whole file. The new bytes are written next to the old ones
// and renamed over them after fsync, so a crash, a full disk or a kill leaves
// either content whole. Mode, owner and extended attributes of an existing file
// are kept; set-user-ID and set-group-ID are dropped, as write(2) drops them.
// A link in the last component is followed when it stays inside.
func (f *FS) WriteFile(ctx context.Context, req WriteRequest) (WriteResult, error) {
	switch req.Mode {
	case "":
		req.Mode = WriteOverwrite
	case WriteOverwrite, WriteAppend, WriteCreate:
	default:
		return WriteResult{}, fail(codeInvalid, "the mode %q is unknown; use overwrite, append or create", string(req.Mode))
	}
	if req.Mode == WriteCreate && req.IfUnchanged != "" {
		return WriteResult{}, fail(codeInvalid, "if_unchanged is the version of a file that exists and the mode create makes a new one; leave one of them out")
	}
	if strings.HasSuffix(req.Path, "/") {
		err := f.at(req.Path, walkOptions{follow: true, write: true, mayMiss: true}, func(*resolved) error { return nil })
		if err != nil {
			return WriteResult{}, err
		}
		return WriteResult{}, fail(codeIsDirectory, "%s names a directory; leave out the final slash to name a file", quote(req.Path))
	}
	var res WriteResult
	err := f.at(req.Path, walkOptions{follow: req.Mode != WriteCreate, write: true, parents: true}, func(p *resolved) error {
		done, err := takeTurn(ctx, p.fd, req.Path)
		if err != nil {
			return err
		}
		defer done()
		if res, err = f.writeAt(ctx, p, req); err != nil && p.made > 0 {
			f.removeMade(p, p.comps[:len(p.comps)-1])
		}
		return err
	})
	return res, err
}

func (f *FS) writeAt(ctx context.Context, p *resolved, req WriteRequest) (WriteResult, error) {
	res := WriteResult{Path: p.display(), Bytes: len(req.Content), Size: int64(len(req.Content))}
	var seen *expected
	if req.IfUnchanged != "" {
		var err error
		if seen, err = expectVersion(ctx, p, req.IfUnchanged); err != nil {
			return res, err
		}
	}
	st, err := p.stat()
	if err != nil && err != unix.ENOENT {
		return res, err
	}
	if err == nil {
		if req.Mode == WriteCreate {
			return res, unix.EEXIST
		}
		if err := regular(st, req.Path); err != nil {
			return res, err
		}
	} else {
		st, res.Created = nil, true
		if err := f.permitNonDirectory(p); err != nil {
			return res, err
		}
	}
	if st != nil {
		if err := writable(st, req.Path, req.Force); err != nil {
			return res, err
		}
		if err := f.keepForm(ctx, p, st, &req, &res); err != nil {
			return res, err
		}
	}
	if req.Mode != WriteAppend {
		res.Version = versionAfter(req.Content)
	}
	r := replacement{old: st, content: req.Content, executable: req.Executable}
	if st != nil && st.Nlink > 1 {
		res.HardLinks = int(st.Nlink)
		res.note(fmt.Sprintf("the file had %d hard links: this name now has its own content, the others keep the old one", st.Nlink))
	}
	if st != nil && req.Mode == WriteAppend {
		res.Size = st.Size + int64(len(req.Content))
		if st.Nlink == 1 && uint32(st.Mode)&0o222 != 0 {
			// The kernel puts the bytes at the end whoever else writes, and programs
			// that have the file open go on writing to the same one.
			return res, f.appendInPlace(ctx, p, req)
		}
		old, err := openRegular(p)
		if err != nil {
			return res, err
		}
		defer old.Close()
		r.before = old
	}
	if p.root.leaf != "" {
		res.InPlace, res.HardLinks = true, 0
		res.note("the file is granted by itself, so it was written in place")
		return res, f.writeInPlace(ctx, p, r)
	}
	s, err := f.prepare(ctx, p, r)
	if errors.Is(err, errOwner) {
		res.InPlace, res.HardLinks = true, 0
		res.note("the owner of the file could not be kept otherwise, so it was written in place")
		return res, f.writeInPlace(ctx, p, r)
	}
	if err != nil {
		return res, err
	}
	defer s.discard()
	switch {
	case st == nil:
		// Whoever made the file meanwhile has it: create refuses, the other modes look again.
		if err = s.commitNew(); err == unix.EEXIST && req.Mode != WriteCreate {
			err = errSwapped
		}
	case r.before != nil:
		err = s.replace(ctx, st, nil)
	case seen != nil:
		err = s.replace(ctx, seen.st, seen.original)
	default:
		err = s.commit()
	}
	if err == errRewritten {
		return res, fail(codeConflict, "%s was changed by another program during the call; read it again and repeat the call", quote(req.Path))
	}
	if err != nil {
		return res, err
	}
	syncDir(p.fd)
	return res, nil
}

func (r *WriteResult) note(text string) {
	if r.Note != "" {
		r.Note += "; "
	}
	r.Note += text
}

// writable refuses a file whose mode lets nobody write, as open(2) would for its
// owner: a rename over it would not ask.
func writable(st *unix.Stat_t, given string, force bool) error {
	if force || uint32(st.Mode)&0o222 != 0 {
		return nil
	}
	return fail(codePermission, "%s is read-only (mode %04o); set force to write it all the same", quote(given), uint32(st.Mode)&0o7777)
}

// permitNonDirectory refuses to put a file or link where the parent of a
// protected path belongs: a ".git" file would lead git to hooks elsewhere.
func (f *FS) permitNonDirectory(p *resolved) error {
	if p.root.leaf == "" && f.guardsParent(p.absolute()) {
		return protectedError(p.given)
	}
	return nil
}

// regular refuses everything but a regular file, saying what it is instead.
func regular(st *unix.Stat_t, given string) error {
	switch k := kindOf(st); k {
	case KindFile:
		return nil
	case KindDirectory:
		return fail(codeIsDirectory, "%s is a directory; name a file", quote(given))
	case KindSymlink:
		return errSwapped
	default:
		return fail(codeUnsupported, "%s is a %s; name a regular file", quote(given), k)
	}
}

// openRegular opens the file at p for reading. The type is looked at before
// the open, because opening a device can act on it, and again on the
// descriptor, because the name may have changed; O_NONBLOCK keeps a FIFO put
// there in between from holding the call.
func openRegular(p *resolved) (*os.File, error) {
	file, err := openRegularAt(p.fd, p.name, p.given)
	if err != nil || !p.fs.hides() {
		return file, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil || p.fs.hiddenNow(context.Background()).has(&st) {
		file.Close()
		return nil, hiddenError(p.given)
	}
	return file, nil
}

func openRegularAt(dir int, name, given string) (*os.File, error) {
	st, err := statAt(dir, name)
	if err != nil {
		return nil, err
	}
	if err := regular(st, given); err != nil {
		return nil, err
	}
	fd, err := retryEINTR(func() (int, error) {
		return unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	})
	if err != nil {
		return nil, err
	}
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if err := regular(&now, given); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// writeContext writes b in pieces, so that a cancelled call stops.
func writeContext(ctx context.Context, w io.Writer, b []byte) error {
	const piece = 1 << 20
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(len(b), piece)
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		if b = b[n:]; len(b) == 0 {
			return nil
		}
	}
}

// copyContext copies at most limit bytes (all when negative) in pieces.
func copyContext(ctx context.Context, w io.Writer, r io.Reader, limit int64) (int64, error) {
	const piece = 1 << 20
	var done int64
	for limit < 0 || done < limit {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		want := int64(piece)
		if limit >= 0 {
			want = min(want, limit-done)
		}
		n, err := io.CopyN(w, r, want)
		done += n
		if err == io.EOF {
			return done, nil
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// unwrapPath strips the *os.PathError, whose path is a temporary name.
func unwrapPath(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// mkdirAt makes a directory, subject to the umask, for the configured owner.
func (f *FS) mkdirAt(dir int, name string) error {
	if err := unix.Mkdirat(dir, name, 0o777); err != nil {
		return err
	}
	if !f.shouldChown() {
		return nil
	}
	fd, err := openSubdir(dir, name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f.chown(fd)
}
