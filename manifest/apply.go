package manifest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"mcp-sandbox/deny"
	"mcp-sandbox/sandbox"
)

// Receipt says what was copied into the workspace.
type Receipt struct {
	Path   string
	Bytes  int64
	SHA256 string
}

// parallelEntries is how many entries are made at the same time.
const parallelEntries = 4

// Target is the workspace that a manifest is applied to.
type Target struct {
	Root *os.Root
	// EphemeralOnly leaves out every other entry: a resumed session has its files.
	EphemeralOnly bool
	// Side is the name of a staging directory in Root that does not exist yet.
	// Apply makes it and removes it with Remove.
	Side string
	// Remove removes a directory of Root, also one that holds directories without
	// the owner's permissions.
	Remove func(dir string) error
	// Hidden is what no entry copies; nil is nothing.
	Hidden *deny.List
	// UID and GID own what is made; -1 is the server's own identity.
	UID, GID int
	// Replace says whether an ephemeral path that exists may be replaced: only
	// what an earlier session made.
	Replace func(path string) bool
	// Record is given the ephemeral paths before they are moved into place, so
	// that a later Replace knows them even after a crash. It may be nil.
	Record func(paths []string) error
	// Clone fetches the repository of a git_repo entry, whose path is given for
	// messages, and names the directory of the checkout. done removes it.
	Clone func(ctx context.Context, path string, e Entry) (dir string, done func(), err error)
}

// Result is what Apply did.
type Result struct {
	Receipts []Receipt // of every file that was written, in no order
	Kept     []string  // paths that existed and were left as they are
}

// applier puts a manifest into a workspace. Everything is staged in a side
// directory and moved into place when all of it is there, so that an entry that
// fails leaves nothing. Files that exist are kept: a workspace may be a person's
// own directory, and its edits are worth more than what a manifest said at
// first. Ephemeral entries replace what an earlier start put there.
type applier struct {
	Target
	manifest *Manifest
	items    []item

	mu       sync.Mutex
	receipts []Receipt
	kept     []string

	inodes deny.Inodes // what is hidden, by whatever name
}

// Apply makes the entries in t. On an error the workspace is as before, and the
// result is empty. Codes: invalid_argument, not_found, not_a_directory,
// already_exists, permission_denied, unsupported_file_type, disk_full, cancelled,
// internal, and those of Clone.
func (m *Manifest) Apply(ctx context.Context, t Target) (Result, error) {
	items, err := m.flatten()
	if err != nil {
		return Result{}, err
	}
	if t.EphemeralOnly {
		items = slices.DeleteFunc(items, func(e item) bool { return !e.Ephemeral })
	}
	a := &applier{Target: t, manifest: m, items: items}
	if err := a.apply(ctx); err != nil {
		return Result{}, err
	}
	return Result{Receipts: a.receipts, Kept: a.kept}, nil
}

func (a *applier) apply(ctx context.Context) (err error) {
	if len(a.items) == 0 {
		return nil
	}
	if err := a.Root.Mkdir(a.Side, 0o700); err != nil {
		return entryError(err, "", "the workspace cannot be written")
	}
	defer func() {
		if e := a.Remove(a.Side); e != nil && err == nil {
			err = entryError(e, "", "the side directory cannot be removed")
		}
	}()
	for _, sub := range []string{"tree", "old"} {
		if err := a.Root.Mkdir(path.Join(a.Side, sub), 0o755); err != nil {
			return entryError(err, "", "the workspace cannot be written")
		}
	}
	tree, err := a.Root.OpenRoot(path.Join(a.Side, "tree"))
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
	if a.Record != nil {
		if err := a.Record(ephemeralOf(a.items)); err != nil {
			return errorf("internal", err, "the ephemeral entries could not be recorded in the state directory; check --state-dir")
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
		if sandbox.CodeOf(err) != "" {
			return err
		}
		return errorf("cancelled", err, "the call was cancelled while the manifest was applied; nothing was changed")
	}
	return nil
}

func (a *applier) make(ctx context.Context, tree *os.Root, e item) error {
	if dir := path.Dir(e.path); dir != "." {
		if err := tree.MkdirAll(dir, 0o755); err != nil {
			return entryError(err, e.path, "its directory cannot be made")
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
				return errorf("not_a_directory", err, "the entry %q: its src is not a directory; use local_file", e.path)
			}
			if err := a.copyDir(ctx, tree, e, f, false); err != nil {
				return err
			}
		}
	case "git_repo":
		f, done, err := a.checkout(ctx, e)
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

// own gives everything made to the session's identity.
func (a *applier) own(tree *os.Root, dir string) error {
	if a.UID < 0 {
		return nil
	}
	return fs.WalkDir(tree.FS(), dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return tree.Lchown(p, a.UID, a.GID)
	})
}

// step is one move from the side directory into place.
type step struct {
	path    string
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
		there, err := a.Root.Lstat(p)
		switch {
		case os.IsNotExist(err):
			out = append(out, step{path: p})
		case err != nil:
			return nil, entryError(err, p, "it cannot be looked at")
		case slices.Contains(units, p):
			if !a.Replace(p) {
				same, err := a.same(tree, p, there)
				if err != nil {
					return nil, err
				}
				if !same {
					return nil, errorf("already_exists", nil, "the workspace has %q, which the manifest's ephemeral entry would replace and no earlier session made; move it away or drop the entry", p)
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
			return nil, errorf("already_exists", nil, "the workspace has %q as another kind than the manifest's; move it away or change the entry", p)
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
	y, err := a.Root.ReadFile(p)
	if err != nil {
		return false, entryError(err, p, "it cannot be read")
	}
	return string(x) == string(y), nil
}

// move puts everything into place, and takes it back when a step fails.
func (a *applier) move(steps []step) error {
	for i, st := range steps {
		from := path.Join(a.Side, "tree", st.path)
		old := path.Join(a.Side, "old", fmt.Sprint(i))
		err := error(nil)
		if st.replace {
			err = a.Root.Rename(st.path, old)
		}
		if err == nil {
			if err = a.Root.Rename(from, st.path); err != nil && st.replace {
				err = errors.Join(err, a.Root.Rename(old, st.path))
			}
		}
		if err == nil {
			continue
		}
		for j := i - 1; j >= 0; j-- {
			back := steps[j]
			err = errors.Join(err, a.Root.Rename(back.path, path.Join(a.Side, "tree", back.path)))
			if back.replace {
				err = errors.Join(err, a.Root.Rename(path.Join(a.Side, "old", fmt.Sprint(j)), back.path))
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
	if p == "" {
		return causeError(err, "the manifest cannot be applied: "+what)
	}
	return causeError(err, fmt.Sprintf("the entry %q: %s", p, what))
}

// causeError tells what failed, with the code and the next step of its cause.
func causeError(err error, what string) error {
	code, hint := "internal", "check the workspace and try again"
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return errorf("cancelled", err, "the call was cancelled while the manifest was applied; nothing was changed")
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		code, hint = "disk_full", "make room"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EROFS):
		code, hint = "permission_denied", "check the permissions"
	case errors.Is(err, syscall.ENOTDIR):
		code, hint = "not_a_directory", "a part of its path is not a directory"
	case errors.Is(err, syscall.ENAMETOOLONG):
		code, hint = "invalid_argument", "use a shorter name"
	}
	return errorf(code, err, "%s; %s", what, hint)
}
