package workspace

import (
	"context"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// ExtractLimits bound what an archive may cost. Zero fields are the defaults.
type ExtractLimits struct {
	MaxInput   int64 // bytes of the archive file; 1 GiB
	MaxOutput  int64 // bytes unpacked, really written, not declared; 4 GiB
	MaxMembers int   // 100,000
}

// defaultExtractLimits are used for the fields of ExtractLimits left zero.
var defaultExtractLimits = ExtractLimits{MaxInput: 1 << 30, MaxOutput: 4 << 30, MaxMembers: 100_000}

// ExtractRequest is the input of Extract.
type ExtractRequest struct {
	Path string
	// Destination is a directory, made when missing; "" is the directory that
	// holds the archive.
	Destination string
	// Format is "" (told from the content), tar, zip, or gz, bz2, xz, zst for
	// a compressed single file. A compressed tar is tar.
	Format string
	Limits ExtractLimits
	// File is the archive where it is not a file of the workspace; Path is then only
	// its name.
	File *os.File
	// Replace removes what the destination holds and the archive does not. What
	// may not be removed refuses it all.
	Replace bool
	// Exact takes what a workspace may hold and a foreign archive may not: links
	// to absolute paths or out of the archive, and names with backslashes or drive
	// letters.
	Exact bool
}

// ExtractResult tells what Extract did.
type ExtractResult struct {
	Path, Destination         string
	Format                    string
	Files, Directories, Links int
	Replaced                  int // existing files that were replaced
	Bytes                     int64
}

// Extract unpacks an archive. Members are written to a directory next to their
// destination first and moved into place when the whole archive has proved
// harmless, so a refused or damaged archive leaves nothing behind.
//
// Refused (unsafe_archive): names that are absolute, hold "..", a backslash or
// a drive letter; links that lead out of the archive; hard links to anything
// but an earlier file of it; devices, FIFOs and sockets; the same name twice;
// members below a file or link; links in the way at the destination; encrypted
// members. Breaching a limit is too_large. Existing files are replaced,
// directories are merged. Permission bits are kept (the owner can always read
// and write), set-ID bits and owners are not.
func (f *FS) Extract(ctx context.Context, req ExtractRequest) (ExtractResult, error) {
	if err := req.fill(); err != nil {
		return ExtractResult{}, err
	}
	leave, err := f.enter()
	if err != nil {
		return ExtractResult{}, err
	}
	defer leave()
	file, name := req.File, req.Path
	res := ExtractResult{Path: req.Path}
	if file == nil {
		src, err := f.walk(req.Path, walkOptions{follow: true})
		if err != nil {
			return ExtractResult{}, err
		}
		defer src.close()
		file, err = openRegular(src)
		if err == errSwapped {
			err = unix.ELOOP
		}
		if err != nil {
			return ExtractResult{}, fromErrno(err, req.Path)
		}
		defer file.Close()
		name, res.Path = src.name, src.display()
		if req.Destination == "" {
			req.Destination = path.Dir(src.display())
		}
	}
	st, err := file.Stat()
	if err != nil {
		return ExtractResult{}, fromErrno(unwrapPath(err), req.Path)
	}
	if st.Size() > req.Limits.MaxInput {
		return ExtractResult{}, fail(codeTooLarge, "the archive is %d bytes long and at most %d are taken; unpack it with a command", st.Size(), req.Limits.MaxInput)
	}
	err = f.atEntered(req.Destination, walkOptions{follow: true, write: true, mayMiss: true}, func(dst *resolved) error {
		s, err := f.newStage(ctx, dst, req)
		if err != nil {
			return err
		}
		defer s.discard()
		res.Destination = s.display
		a := &archive{ctx: ctx, file: file, size: st.Size(), name: name, limits: req.Limits, sink: s}
		if res.Format, err = a.unpack(req.Format); err != nil {
			return err
		}
		if err := s.finish(); err != nil {
			return err
		}
		if err := s.install(); err != nil {
			return err
		}
		res.Files, res.Directories, res.Links, res.Bytes, res.Replaced = s.files, s.dirs, s.links, s.bytes, s.replaced
		return nil
	})
	return res, err
}

// InputLimit is the most bytes that an archive outside of the workspace may have:
// what is asked for only lowers the default, as no limit of the session holds there.
func (r *ExtractRequest) InputLimit() int64 {
	if asked := r.Limits.MaxInput; asked > 0 {
		return min(asked, defaultExtractLimits.MaxInput)
	}
	return defaultExtractLimits.MaxInput
}

func (r *ExtractRequest) fill() error {
	switch r.Format {
	case "", "tar", "zip", "gz", "bz2", "xz", "zst":
	case "tar.gz", "tgz", "tar.bz2", "tbz2", "tar.xz", "txz", "tar.zst":
		r.Format = "tar"
	default:
		return fail(codeInvalid, "the archive format %q is unknown; use tar, zip, gz, bz2, xz or zst, or leave it out", shorten(r.Format, 40))
	}
	l := &r.Limits
	if l.MaxInput < 0 || l.MaxOutput < 0 || l.MaxMembers < 0 {
		return fail(codeInvalid, "an archive limit is negative; give a number above 0")
	}
	if l.MaxInput == 0 {
		l.MaxInput = defaultExtractLimits.MaxInput
	}
	if l.MaxOutput == 0 {
		l.MaxOutput = defaultExtractLimits.MaxOutput
	}
	if l.MaxMembers == 0 {
		l.MaxMembers = defaultExtractLimits.MaxMembers
	}
	return nil
}
