package manifest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/deny"
)

func (a *applier) write(tree *os.Root, e item, from io.Reader, fallback fs.FileMode) error {
	mode, err := e.mode(fallback)
	if err != nil {
		return err
	}
	// An entry may lie over a file that a directory above brought; a link there must
	// not be written through.
	if err := tree.Remove(e.path); err != nil && !os.IsNotExist(err) {
		return entryError(err, e.path, "what a directory above brought cannot be replaced")
	}
	f, err := tree.OpenFile(e.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return entryError(err, e.path, "it cannot be made")
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), from)
	// After the content, and by descriptor: the umask has no say.
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return entryError(err, e.path, "it cannot be written")
	}
	a.mu.Lock()
	a.receipts = append(a.receipts, Receipt{Path: e.path, Bytes: n, SHA256: hex.EncodeToString(h.Sum(nil))})
	a.mu.Unlock()
	return nil
}

// source opens what src names, link-free all the way from the manifest's directory
// or the granted path it lies in.
func (a *applier) source(e item) (*os.File, error) {
	what := fmt.Sprintf("the entry %q: its src", e.path)
	f, err := a.manifest.open(what, e.Src, a.Hidden)
	if err == nil && a.hides(f) {
		f.Close()
		return nil, errorf("permission_denied", nil, "%s is another name of what --deny-read hides; leave it out", what)
	}
	return f, err
}

// hides says whether f is hidden by another of its names.
func (a *applier) hides(f *os.File) bool {
	return a.inodes.Has(context.Background(), a.Hidden, int(f.Fd()))
}

// OpenFrom opens the archive that From names, as a src is opened.
// Codes: those of an entry's source.
func (m *Manifest) OpenFrom(hidden *deny.List) (*os.File, error) {
	return m.open("the manifest's from", m.From, hidden)
}

func (m *Manifest) open(what, p string, hidden *deny.List) (*os.File, error) {
	if !filepath.IsAbs(p) {
		p = filepath.Join(m.base, p)
	}
	p = filepath.Clean(p)
	bases := []string{m.base}
	for _, g := range m.Grants {
		bases = append(bases, filepath.Clean(g.Path))
	}
	for _, base := range bases {
		if base == "" || (p != base && !within(p, base)) {
			continue
		}
		real, err := filepath.EvalSymlinks(base)
		if err != nil {
			continue
		}
		rel, _ := filepath.Rel(base, p)
		if hidden.Covers(p) || hidden.Covers(filepath.Join(real, rel)) {
			return nil, errorf("permission_denied", nil, "%s is hidden by --deny-read or is the server's own; leave it out", what)
		}
		f, err := openLinkFree(real, rel)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, errLink):
			return nil, errorf("unsupported_file_type", err, "%s is a symbolic link or leads through one; name the real path", what)
		case os.IsNotExist(err):
			return nil, errorf("not_found", err, "%s does not exist; check the path", what)
		}
		return nil, causeError(err, what+" cannot be read")
	}
	return nil, errorf("permission_denied", nil, "%s lies outside the manifest's directory (outside_base_dir); move it there or grant its path in extra_path_grants", what)
}

var errLink = errors.New("a symbolic link is in the way")

// openLinkFree opens each component by its parent's descriptor; base is resolved
// and no link itself. O_NONBLOCK keeps
// a FIFO from hanging the server.
func openLinkFree(base, rel string) (*os.File, error) {
	fd, err := unix.Open(base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ELOOP {
		err = errLink
	}
	if err != nil {
		return nil, err
	}
	if rel != "." {
		for part := range strings.SplitSeq(rel, "/") {
			next, err := openNoFollow(fd, part)
			unix.Close(fd)
			if err != nil {
				return nil, err
			}
			fd = next
		}
	}
	// Named in full: what it holds is compared with what is hidden.
	return os.NewFile(uintptr(fd), filepath.Join(base, rel)), nil
}

func openNoFollow(dir int, name string) (int, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == unix.ELOOP || err == unix.EMLINK { // EMLINK is FreeBSD's word for it
		return -1, errLink
	}
	return fd, err
}

func (a *applier) copyFile(ctx context.Context, tree *os.Root, e item, f *os.File) error {
	before, err := f.Stat()
	if err != nil {
		return entryError(err, e.path, "its src cannot be read")
	}
	if !before.Mode().IsRegular() {
		return errorf("unsupported_file_type", nil, "the entry %q: its src is not a regular file; name a file", e.path)
	}
	mode := fs.FileMode(0o644)
	if before.Mode().Perm()&0o111 != 0 {
		mode = 0o755
	}
	if err := a.write(tree, e, &contextReader{ctx, f}, mode); err != nil {
		return err
	}
	after, err := f.Stat()
	if err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return errorf("internal", err, "the entry %q: its src changed while it was copied (path_changed_during_copy); try again", e.path)
	}
	return nil
}

// contextReader ends a copy of a large file when the call is cancelled.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// copyDir copies the content of a directory. Links are copied as they are when the
// directory is a repository's and refused in a person's: there they lead to files
// that were meant and would be missing.
func (a *applier) copyDir(ctx context.Context, tree *os.Root, e item, from *os.File, links bool) error {
	names, err := from.Readdirnames(-1)
	if err != nil {
		return entryError(err, e.path, "its src cannot be listed")
	}
	slices.Sort(names)
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return errorf("cancelled", err, "the call was cancelled while the manifest was applied; nothing was changed")
		}
		child := item{Entry{}, path.Join(e.path, name)}
		if a.Hidden.CoversEntry(from.Name(), name) {
			continue
		}
		fd, err := openNoFollow(int(from.Fd()), name)
		if errors.Is(err, errLink) {
			if !links {
				return errorf("unsupported_file_type", err, "the entry %q: %q in its src is a symbolic link; replace it by what it leads to", e.path, name)
			}
			target, err := readLink(int(from.Fd()), name)
			if err == nil {
				err = tree.Symlink(target, child.path)
			}
			if err != nil {
				return entryError(err, child.path, "the link cannot be copied")
			}
			continue
		}
		if err != nil {
			return entryError(err, child.path, "its source cannot be read")
		}
		f := os.NewFile(uintptr(fd), filepath.Join(from.Name(), name))
		err = a.copyOne(ctx, tree, child, f, links)
		_ = f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) copyOne(ctx context.Context, tree *os.Root, child item, f *os.File, links bool) error {
	fi, err := f.Stat()
	if err != nil {
		return entryError(err, child.path, "its source cannot be read")
	}
	if !fi.IsDir() {
		if a.hides(f) {
			return nil // as a hidden name is left out
		}
		return a.copyFile(ctx, tree, child, f)
	}
	if into, err := tree.Stat("."); err != nil || os.SameFile(into, fi) {
		return errorf("invalid_argument", err, "the entry %q: its src holds the workspace it would be copied into; name a directory that does not", child.path)
	}
	if err := tree.MkdirAll(child.path, 0o755); err != nil {
		return entryError(err, child.path, "it cannot be made")
	}
	return a.copyDir(ctx, tree, child, f, links)
}

func readLink(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
