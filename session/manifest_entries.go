package session

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
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Receipt says what was copied into the workspace.
type Receipt struct {
	Path   string
	Bytes  int64
	SHA256 string
}

// parallelEntries is how many entries are made at the same time.
const parallelEntries = 4

// applier puts a manifest into a workspace. Everything is made in a side folder
// first and moved into place when all of it is there, so that an entry that
// fails leaves nothing. Files that are there already are kept: a workspace may
// be a person's own folder, and its edits are worth more than what a manifest
// said at first. Ephemeral entries replace what an earlier start put there.
type applier struct {
	manifest *Manifest
	items    []item
	root     *os.Root
	side     string // name of the side folder in root
	uid, gid int    // owner of what is made, -1 for the server's own
	// replace says whether an ephemeral path may be made anew although something
	// is there: it must be of our making.
	replace func(path string) bool
	// made is told the ephemeral paths before they are moved into place.
	made func(paths []string) error
	// clone fetches a repository and gives a folder to copy from.
	clone func(ctx context.Context, e item) (dir *os.File, done func(), err error)

	mu       sync.Mutex
	receipts []Receipt
	kept     []string
}

// sideName is the side folder of a session in its workspace. The random id in it
// lets a later server know it as ours.
func sideName(id string) string { return ".mcp-sandbox-" + id + ".new" }

// apply makes the items. On any error the workspace is as before.
func (a *applier) apply(ctx context.Context) (err error) {
	if len(a.items) == 0 {
		return nil
	}
	if err := a.root.Mkdir(a.side, 0o700); err != nil {
		return entryError(err, "", "the workspace cannot be written")
	}
	defer func() {
		openFoldersIn(a.root, a.side)
		if e := a.root.RemoveAll(a.side); e != nil && err == nil {
			err = entryError(e, "", "the side folder cannot be removed")
		}
	}()
	for _, sub := range []string{"tree", "old"} {
		if err := a.root.Mkdir(path.Join(a.side, sub), 0o755); err != nil {
			return entryError(err, "", "the workspace cannot be written")
		}
	}
	tree, err := a.root.OpenRoot(path.Join(a.side, "tree"))
	if err != nil {
		return entryError(err, "", "the workspace cannot be read")
	}
	defer tree.Close()
	for _, wave := range a.waves() {
		if err := a.makeAll(ctx, tree, wave); err != nil {
			return err
		}
	}
	if err := a.own(tree, "."); err != nil {
		return entryError(err, "", "what was made cannot be given to the session's identity")
	}
	moves, err := a.plan(tree, ".")
	if err != nil {
		return err
	}
	if a.made != nil {
		if err := a.made(ephemeralOf(a.items)); err != nil {
			return errorf("internal", err, "the ephemeral entries could not be recorded in the state folder, check --state-dir")
		}
	}
	return a.move(moves)
}

// waves orders the items so that one below another comes after it; those of a
// wave do not touch each other.
func (a *applier) waves() [][]item {
	var out [][]item
	for _, e := range a.items {
		n := 0
		for _, o := range a.items {
			if within(e.path, o.path) {
				n++
			}
		}
		for len(out) <= n {
			out = append(out, nil)
		}
		out[n] = append(out[n], e)
	}
	return out
}

// makeAll makes one wave; the first failure stops the others.
func (a *applier) makeAll(ctx context.Context, tree *os.Root, wave []item) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, parallelEntries)
	var wg sync.WaitGroup
	for _, e := range wave {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := a.make(ctx, tree, e); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		var ours interface{ Code() string }
		if errors.As(err, &ours) {
			return err
		}
		return errorf("cancelled", err, "the call was cancelled while the manifest was applied, nothing was changed")
	}
	return nil
}

func (a *applier) make(ctx context.Context, tree *os.Root, e item) error {
	if dir := path.Dir(e.path); dir != "." {
		if err := tree.MkdirAll(dir, 0o755); err != nil {
			return entryError(err, e.path, "its folder cannot be made")
		}
	}
	switch e.Type {
	case "dir":
		if err := tree.MkdirAll(e.path, 0o755); err != nil {
			return entryError(err, e.path, "it cannot be made")
		}
	case "file":
		content := e.ContentBase64
		if e.Content != nil {
			content = []byte(*e.Content)
		}
		return a.write(tree, e, strings.NewReader(string(content)), 0o644)
	case "local_file":
		f, err := a.source(e)
		if err != nil {
			return err
		}
		defer f.Close()
		return a.copyFile(ctx, tree, e, f)
	case "local_dir":
		if err := tree.MkdirAll(e.path, 0o755); err != nil {
			return entryError(err, e.path, "it cannot be made")
		}
		if e.Src != "" {
			f, err := a.source(e)
			if err != nil {
				return err
			}
			defer f.Close()
			if fi, err := f.Stat(); err != nil || !fi.IsDir() {
				return errorf("not_a_directory", err, "the entry %q: its src is no folder, use local_file", e.path)
			}
			if err := a.copyDir(ctx, tree, e, f, false); err != nil {
				return err
			}
		}
	case "git_repo":
		f, done, err := a.clone(ctx, e)
		if err != nil {
			return err
		}
		defer done()
		if err := tree.MkdirAll(e.path, 0o755); err != nil {
			return entryError(err, e.path, "it cannot be made")
		}
		if err := a.copyDir(ctx, tree, e, f, true); err != nil {
			return err
		}
	}
	mode, err := e.mode(0o755)
	if err == nil {
		err = tree.Chmod(e.path, mode)
	}
	if err != nil {
		return entryError(err, e.path, "its permissions cannot be set")
	}
	return nil
}

func (a *applier) write(tree *os.Root, e item, from io.Reader, fallback fs.FileMode) error {
	mode, err := e.mode(fallback)
	if err != nil {
		return err
	}
	// An entry may lie over a file that a folder above brought; a link there must
	// not be written through.
	if err := tree.Remove(e.path); err != nil && !os.IsNotExist(err) {
		return entryError(err, e.path, "what a folder above brought cannot be replaced")
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

// source opens what src names, link-free all the way from the manifest's folder
// or the granted path it lies in.
func (a *applier) source(e item) (*os.File, error) {
	p := e.Src
	if !filepath.IsAbs(p) {
		p = filepath.Join(a.manifest.base, p)
	}
	p = filepath.Clean(p)
	bases := []string{a.manifest.base}
	for _, g := range a.manifest.Grants {
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
		f, err := openLinkFree(real, rel)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, errLink):
			return nil, errorf("unsupported_file_type", err, "the entry %q: its src is a symbolic link or leads through one, name the real path", e.path)
		case os.IsNotExist(err):
			return nil, errorf("not_found", err, "the entry %q: its src does not exist, check the path", e.path)
		}
		return nil, entryError(err, e.path, "its src cannot be read")
	}
	return nil, errorf("permission_denied", nil, "the entry %q: its src lies outside the manifest's folder (outside_base_dir), move it there or grant its path in extra_path_grants", e.path)
}

var errLink = errors.New("a symbolic link is in the way")

// openLinkFree opens each component by its parent's descriptor. O_NONBLOCK keeps
// a FIFO from hanging the server.
func openLinkFree(base, rel string) (*os.File, error) {
	fd, err := unix.Open(base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	name := base
	if rel != "." {
		for part := range strings.SplitSeq(rel, "/") {
			next, err := openNoFollow(fd, part)
			unix.Close(fd)
			if err != nil {
				return nil, err
			}
			fd, name = next, part
		}
	}
	return os.NewFile(uintptr(fd), name), nil
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
		return errorf("unsupported_file_type", nil, "the entry %q: its src is no plain file, name a file", e.path)
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
		return errorf("internal", err, "the entry %q: its src changed while it was copied (path_changed_during_copy), try again", e.path)
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

// copyDir copies the content of a folder. Links are copied as they are when the
// folder is a repository's and refused in a person's: there they lead to files
// that were meant and would be missing.
func (a *applier) copyDir(ctx context.Context, tree *os.Root, e item, from *os.File, links bool) error {
	names, err := from.Readdirnames(-1)
	if err != nil {
		return entryError(err, e.path, "its src cannot be listed")
	}
	slices.Sort(names)
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return errorf("cancelled", err, "the call was cancelled while the manifest was applied, nothing was changed")
		}
		child := item{Entry{}, path.Join(e.path, name)}
		fd, err := openNoFollow(int(from.Fd()), name)
		if errors.Is(err, errLink) {
			if !links {
				return errorf("unsupported_file_type", err, "the entry %q: %q in its src is a symbolic link, replace it by what it leads to", e.path, name)
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
		f := os.NewFile(uintptr(fd), name)
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
		return a.copyFile(ctx, tree, child, f)
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

// own gives everything made to the session's identity.
func (a *applier) own(tree *os.Root, dir string) error {
	if a.uid < 0 {
		return nil
	}
	return fs.WalkDir(tree.FS(), dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return tree.Lchown(p, a.uid, a.gid)
	})
}

// step is one move from the side folder into place.
type step struct {
	path    string
	mkdir   fs.FileMode // make the folder instead, with this mode
	replace bool
}

// plan decides about every path before the first is moved.
func (a *applier) plan(tree *os.Root, dir string) ([]step, error) {
	entries, err := fs.ReadDir(tree.FS(), dir)
	if err != nil {
		return nil, entryError(err, dir, "it cannot be listed")
	}
	units := ephemeralOf(a.items)
	var out []step
	for _, d := range entries {
		p := path.Join(dir, d.Name())
		there, err := a.root.Lstat(p)
		switch {
		case os.IsNotExist(err):
			out = append(out, step{path: p})
		case err != nil:
			return nil, entryError(err, p, "it cannot be looked at")
		case slices.Contains(units, p):
			if !a.replace(p) {
				same, err := a.same(tree, p, there)
				if err != nil {
					return nil, err
				}
				if !same {
					return nil, errorf("already_exists", nil, "the workspace has %q, which the manifest's ephemeral entry would replace and no earlier session made, move it away or drop the entry", p)
				}
				continue
			}
			out = append(out, step{path: p, replace: true})
		case d.IsDir() && there.IsDir():
			below, err := a.plan(tree, p)
			if err != nil {
				return nil, err
			}
			out = append(out, below...)
		case d.IsDir() != there.IsDir():
			return nil, errorf("already_exists", nil, "the workspace has %q as another kind than the manifest's, move it away or change the entry", p)
		default:
			a.kept = append(a.kept, p)
		}
	}
	return out, nil
}

// same tells whether a file in the way is what would be put there anyway.
func (a *applier) same(tree *os.Root, p string, there fs.FileInfo) (bool, error) {
	want, err := tree.Lstat(p)
	if err != nil || !want.Mode().IsRegular() || !there.Mode().IsRegular() || want.Size() != there.Size() {
		return false, nil
	}
	x, err := tree.ReadFile(p)
	if err != nil {
		return false, entryError(err, p, "it cannot be read")
	}
	y, err := a.root.ReadFile(p)
	if err != nil {
		return false, entryError(err, p, "it cannot be read")
	}
	return string(x) == string(y), nil
}

// move puts everything into place, and takes it back when a step fails.
func (a *applier) move(steps []step) error {
	for i, st := range steps {
		from := path.Join(a.side, "tree", st.path)
		old := path.Join(a.side, "old", fmt.Sprint(i))
		err := error(nil)
		if st.replace {
			err = a.root.Rename(st.path, old)
		}
		if err == nil {
			if err = a.root.Rename(from, st.path); err != nil && st.replace {
				err = errors.Join(err, a.root.Rename(old, st.path))
			}
		}
		if err == nil {
			continue
		}
		for j := i - 1; j >= 0; j-- {
			back := steps[j]
			err = errors.Join(err, a.root.Rename(back.path, path.Join(a.side, "tree", back.path)))
			if back.replace {
				err = errors.Join(err, a.root.Rename(path.Join(a.side, "old", fmt.Sprint(j)), back.path))
			}
		}
		return entryError(err, st.path, "it cannot be moved into place")
	}
	return nil
}

// ephemeralOf lists the topmost ephemeral paths of items.
func ephemeralOf(items []item) []string {
	var out []string
	for _, e := range items {
		if e.Ephemeral && !slices.ContainsFunc(out, func(o string) bool { return within(e.path, o) }) {
			out = append(out, e.path)
		}
	}
	return out
}

// entryError names the entry and hides the system's text, which holds host
// paths.
func entryError(err error, p, what string) error {
	code, hint := "internal", "check the workspace and try again"
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return errorf("cancelled", err, "the call was cancelled while the manifest was applied, nothing was changed")
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		code, hint = "disk_full", "make room"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EROFS):
		code, hint = "permission_denied", "check the permissions"
	case errors.Is(err, syscall.ENOTDIR):
		code, hint = "not_a_directory", "a part of its path is no folder"
	case errors.Is(err, syscall.ENAMETOOLONG):
		code, hint = "invalid_argument", "use a shorter name"
	}
	if p == "" {
		return errorf(code, err, "the manifest cannot be applied: %s, %s", what, hint)
	}
	return errorf(code, err, "the entry %q: %s, %s", p, what, hint)
}

// openFoldersIn gives back the owner's rights on what is about to be removed: an
// entry may have permissions without them.
func openFoldersIn(root *os.Root, dir string) {
	if r, err := root.OpenRoot(dir); err == nil {
		chmodFolders(r)
		r.Close()
	}
}
