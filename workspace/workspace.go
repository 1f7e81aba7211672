// Package workspace is the editor's hands: it reads, writes, edits, patches,
// lists, searches and unpacks files on behalf of a language model, and can
// never leave the directory it was opened on.
//
// Start with Open; every operation is a method of FS. A path given to a
// method is relative to the workspace or absolute; an absolute one must lie in
// the workspace or in a Grant.
//
// The caller is an unconfined process, and a confined command may be swapping
// directories and links in the same tree at any moment. Therefore no path is
// ever checked as a string and then used as a name. A walk starts at the
// descriptor of a root, opens one component at a time with O_NOFOLLOW, expands
// symbolic links itself, and ends in a pair (descriptor of the parent
// directory, last name) that is the only thing handed to a system call. Policy
// (grants, protected paths) is decided on the components the walk really took.
// os.Root gives the first half of that; it hides the path it took, refuses
// absolute links that stay inside, and opens no path for policy to look at, so
// the walk is done here with the same system calls.
//
// What it does not do: it does not confine commands, it does not guard against
// another writer changing the content of a file it may write anyway, and it
// does not run programs. It acts with the rights of the server's own user.
package workspace

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"mcp-sandbox/fsuser"

	"mcp-sandbox/deny"
)

// Grant is a further place, outside the workspace or nested in it, that paths
// may name. The deepest grant that contains a file decides about it, so a
// read-only grant inside the workspace makes that part of it read-only.
type Grant struct {
	// Path is absolute and exists; "/" is refused. It may be a single file.
	Path string
	// ReadOnly refuses every change beneath Path.
	ReadOnly bool
}

// Options of Open. The zero value is a writable workspace with no grants and
// nothing protected.
type Options struct {
	Grants []Grant
	// Alias is "" or a second absolute path of the workspace, which need not exist.
	Alias string
	// OwnerUID and OwnerGID become the owner of new files and directories when
	// the server is root and acts for a session that runs as somebody else; -1
	// leaves the owner alone. They are ignored when the server is not root.
	OwnerUID, OwnerGID int
	// ActAsOwner, for a root server on Linux, does every operation with the
	// file system rights of OwnerUID and OwnerGID, so that the tools can read
	// and write what the session's commands can, and no more. Without it they
	// have the rights of root.
	ActAsOwner bool
	// OpenDir, if set, gives the directory of the workspace or of a grant as the
	// session's commands see it, where owners are shown as others; fs.ErrNotExist
	// is one that they see as it is.
	OpenDir func(dir string) (*os.File, error)
	// Staged, if set, is the workspace as the session sees it, which is another
	// directory than the one of its name: an overlay. It stays the caller's to close.
	Staged *os.File
	// Protect lists paths refused for writing (path_protected), relative to
	// the workspace: "name" or "a/b" at the root of the workspace only,
	// "**/name" or "**/a/b" at any depth. Everything below a protected path is
	// protected too, and so are its parents against being moved, removed or
	// replaced. Names are compared without regard to case.
	Protect []string
	// ProtectGrants is the same for every other grant that can be written. A grant
	// of a single file is not protected: it was asked for by name.
	ProtectGrants []string
	// ProtectData lists paths at any depth ("**/a/b") that the tools may not change
	// either, but that Rules do not protect. Here "*" is any name, and "!**/a/b" an
	// exception, for that path alone.
	ProtectData []string
	// ReadOnly refuses every change, in grants too.
	ReadOnly bool
	// MaxFile is the most bytes a file is made or grown to (too_large); 0 is no
	// limit. What is larger already can be made smaller.
	MaxFile int64
	// Grow, if set, is asked before the workspace itself, not a grant, grows by n
	// bytes; its error is that of the call.
	Grow func(n int64) error
	// Deny lists what no call reads, changes, moves or removes (permission_denied),
	// by name and by inode; nil is nothing.
	Deny *deny.List
}

// FS is an open workspace. Its methods are safe for concurrent use.
type FS struct {
	opts    Options
	roots   []*root // roots[0] is the workspace; grants follow
	protect *protection
	// protectGrants holds below the grants; targets is where protected links lead,
	// absolute and folded.
	protectGrants *protection
	targets       atomic.Pointer[[]string]

	hiddenIDs  map[fileID]struct{} // of Options.Deny's paths, as of Open
	hiddenHeld []*os.File

	// decode admits one image decoder of this workspace at a time, so that it
	// does not take all of the server's.
	decode chan struct{}

	// needNames says that temporary files need a name from the start, because
	// one without could not be given a name here.
	needNames atomic.Bool

	user *fsuser.User // see enter; nil is the server itself

	closeOnce sync.Once
	closeErr  error
}

// root is one place paths may lead to, held by descriptor so that renaming or
// replacing its name changes nothing.
type root struct {
	dir      *os.File // the directory; for a file grant, the directory holding it
	leaf     string   // the granted name in dir when the grant is a single file
	given    string   // absolute, as configured
	real     string   // absolute, links resolved when it was opened
	id       fileID
	named    fileID // of the directory that has the name; id, unless it is staged
	readOnly bool
	hidden   bool // it lies in what Options.Deny lists
}

// fileID names an inode.
type fileID struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) fileID {
	return fileID{uint64(st.Dev), uint64(st.Ino)}
}

// Open opens the directory dir as a workspace. The directory must exist and
// must not be "/". Close releases the descriptors.
func Open(dir string, o Options) (*FS, error) {
	p, err := parseProtection(o.Protect)
	if err != nil {
		return nil, err
	}
	g, err := parseProtection(o.ProtectGrants)
	if err != nil {
		return nil, err
	}
	for _, to := range []*protection{p, g} {
		if err := to.parseData(o.ProtectData); err != nil {
			return nil, err
		}
	}
	f := &FS{opts: o, protect: p, protectGrants: g, decode: make(chan struct{}, 1)}
	if err := f.checkIdentity(); err != nil {
		return nil, err
	}
	openDir := o.OpenDir
	if o.Staged != nil {
		openDir = nil
	}
	ws, err := openRoot(dir, openDir)
	if err != nil {
		return nil, err
	}
	if o.Staged != nil {
		if err := ws.stageAs(o.Staged); err != nil {
			ws.dir.Close()
			return nil, err
		}
	}
	f.roots = []*root{ws}
	if ws.leaf != "" {
		f.Close()
		return nil, fail(codeNotDirectory, "the workspace root is not a directory; name a directory")
	}
	for _, g := range o.Grants {
		r, err := openRoot(g.Path, o.OpenDir)
		if err != nil {
			f.Close()
			return nil, err
		}
		r.readOnly, r.hidden = g.ReadOnly, o.Deny.Covers(r.real)
		f.roots = append(f.roots, r)
	}
	f.protect.learn(ws.dir)
	for _, r := range f.roots[1:] {
		if f.patternsOf(r) != nil {
			f.protectGrants.learn(r.dir)
		}
	}
	for id := range f.protectGrants.ids {
		f.protect.ids[id] = struct{}{}
	}
	f.learnHidden()
	return f, nil
}

// openRoot opens one configured place. Configuration is trusted, so links in
// its path are followed, once and here.
func openRoot(given string, openDir func(string) (*os.File, error)) (*root, error) {
	if given == "" || strings.ContainsRune(given, 0) {
		return nil, fail(codeInvalid, "a root path is empty or holds a NUL byte; name an existing directory")
	}
	abs, err := filepath.Abs(given)
	if err != nil {
		return nil, failCause(err, codeInvalid, "the root path %q cannot be made absolute; give an absolute path", given)
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return nil, fromErrno(err, given)
	}
	if real == "/" {
		return nil, fail(codeInvalid, "the root path %q is the root of the file system; name a directory below it", given)
	}
	r := &root{given: abs, real: real}
	dirOf := real
	fd, err := retryEINTR(func() (int, error) {
		return unix.Open(real, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err == unix.ENOTDIR {
		r.leaf, dirOf = filepath.Base(real), filepath.Dir(real)
		fd, err = retryEINTR(func() (int, error) {
			return unix.Open(dirOf, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
	}
	if err != nil {
		return nil, fromErrno(err, given)
	}
	r.dir = os.NewFile(uintptr(fd), dirOf)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		r.dir.Close()
		return nil, fromErrno(err, given)
	}
	r.id = idOf(&st)
	r.named = r.id
	if openDir != nil {
		if err := r.showAs(openDir); err != nil {
			r.dir.Close()
			return nil, err
		}
	}
	return r, nil
}

// showAs puts what openDir gives in the place of r's directory, if it is the same
// directory.
func (r *root) showAs(openDir func(string) (*os.File, error)) error {
	d, err := openDir(r.dir.Name()) // without the name of a single file
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fromErrno(err, r.given)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil || idOf(&st) != r.id {
		d.Close()
		return fail(codeNotFound, "the directory %q was replaced while the session started; start it again", r.given)
	}
	r.dir.Close()
	r.dir = d
	return nil
}

// stageAs puts the staged view of r's directory in its place.
func (r *root) stageAs(view *os.File) error {
	fd, err := unix.FcntlInt(view.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fromErrno(err, r.given)
	}
	d := os.NewFile(uintptr(fd), r.dir.Name())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		d.Close()
		return fromErrno(err, r.given)
	}
	r.dir.Close()
	r.dir, r.id = d, idOf(&st)
	return nil
}

// Close releases the descriptors. Calls under way must have returned.
func (f *FS) Close() error {
	f.closeOnce.Do(func() {
		for _, r := range f.roots {
			if err := r.dir.Close(); err != nil && f.closeErr == nil {
				f.closeErr = err
			}
		}
		for _, h := range slices.Concat(f.protect.held, f.protectGrants.held, f.hiddenHeld) {
			h.Close()
		}
	})
	return f.closeErr
}

// Root is the absolute path of the workspace with links resolved, as it was
// when it was opened.
func (f *FS) Root() string { return f.roots[0].real }

// RootFile is the descriptor of the workspace directory. It stays owned by f.
func (f *FS) RootFile() *os.File { return f.roots[0].dir }

// ResolveDir follows path through links to an existing directory and returns
// its absolute path, for use as the working directory of a confined command.
// The caller must enter it inside the confinement, where a swapped link leads
// nowhere new.
func (f *FS) ResolveDir(path string) (string, error) {
	leave, err := f.enter()
	if err != nil {
		return "", err
	}
	defer leave()
	pl, err := f.walk(path, walkOptions{follow: true})
	if err != nil {
		return "", err
	}
	defer pl.close()
	st, err := pl.stat()
	if err != nil {
		return "", fromErrno(err, path)
	}
	if kindOf(st) != KindDirectory {
		return "", fail(codeNotDirectory, "%s is not a directory; name a directory", quote(path))
	}
	return pl.absolute(), nil
}
