package stage

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// The marks of an overlay in its upper layer (overlayfs.rst): a removed name is a
// character device 0:0, and a directory with this attribute hides the one below.
const opaqueXattr = "user.overlay.opaque"

func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// isOpaque says whether a directory has the mark. The kernel marks only the top of a
// tree that took the place of another: what lies below it hides as much.
func isOpaque(fd int) bool {
	var b [1]byte
	n, err := unix.Fgetxattr(fd, opaqueXattr, b[:])
	return err == nil && n == 1 && b[0] == 'y'
}

// Changes lists what the session changed, by path. A directory that it removed is
// one change, one that it made is one in addition to those of what lies in it.
func (s *Stage) Changes() ([]Change, error) {
	leave, err := s.use()
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.changes()
}

// Empty says whether the stage holds nothing that anybody may still want: no change,
// and nothing that an interrupted apply left.
func (s *Stage) Empty() (bool, error) {
	all, err := s.Changes()
	return err == nil && len(all) == 0 && s.journalEmpty(), err
}

func (s *Stage) changes() ([]Change, error) {
	if s.lock == nil && s.Merged == nil {
		// The server of the session publishes, and notes it.
		s.index = s.readIndex()
		if s.Git != nil {
			s.Git.Reload()
		}
	}
	raw, err := s.rawChanges()
	if err != nil {
		return nil, err
	}
	all := s.foldGit(raw)
	for i := range all {
		all[i].keepObject()
	}
	return all, nil
}

// rawChanges has each path of git directories, too.
func (s *Stage) rawChanges() ([]Change, error) {
	l := lister{s: s, gits: map[string]bool{}}
	upper, err := treecopy.Open(int(s.upper.Fd()), ".")
	if err != nil {
		return nil, err
	}
	defer unix.Close(upper)
	root, err := treecopy.Open(int(s.root.Fd()), ".")
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	if err := l.dir(upper, root, "", false, 0); err != nil {
		return nil, err
	}
	slices.SortFunc(l.out, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	s.gits = l.gits
	return l.out, nil
}

type lister struct {
	s   *Stage
	out []Change
	// repo is the innermost directory around what is looked at that git takes for a
	// repository, "." for the root. gits are the outermost that are whole on one side.
	repo  string
	inGit bool
	gits  map[string]bool
}

// dir compares a directory of the upper layer with the one below it, -1 where there
// is none.
func (l *lister) dir(upper, lower int, at string, opaque bool, depth int) error {
	repo, inGit := l.repo, l.inGit
	defer func() { l.repo, l.inGit = repo, inGit }()
	if isRepository(upper, lower) {
		l.repo = cmp.Or(at, ".")
	}
	one := lower // what a session adds to a directory of the project makes none of it
	if one < 0 {
		one = upper
	}
	if !l.inGit && at != "" && (path.Base(at) == ".git" || isRepository(one, -1)) {
		l.gits[at], l.inGit = true, true
	}
	names, err := treecopy.Names(upper)
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(n, treecopy.TempPrefix) {
			continue // on its way to its name
		}
		if err := l.one(upper, lower, n, path.Join(at, n), opaque, depth); err != nil {
			return err
		}
	}
	if !opaque || lower < 0 {
		return nil
	}
	// What lies below and has no counterpart is gone.
	below, err := treecopy.Open(lower, ".")
	if err != nil {
		return err
	}
	defer unix.Close(below)
	gone, err := treecopy.Names(below)
	if err != nil {
		return err
	}
	for _, n := range gone {
		var st unix.Stat_t
		if !slices.Contains(names, n) && unix.Fstatat(lower, n, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
			l.add(Change{Path: path.Join(at, n), Kind: Removed}, nil, &st)
		}
	}
	return nil
}

func (l *lister) one(upper, lower int, name, p string, opaque bool, depth int) error {
	var up, low unix.Stat_t
	if err := unix.Fstatat(upper, name, &up, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return ignoreGone(err)
	}
	was := &low
	if lower < 0 || unix.Fstatat(lower, name, &low, unix.AT_SYMLINK_NOFOLLOW) != nil {
		was = nil
	}
	if isWhiteout(&up) {
		if was != nil {
			l.add(Change{Path: p, Kind: Removed}, nil, was)
		}
		return nil
	}
	if len(p) >= unix.PathMax {
		l.unfit(p, &up, was, tooDeep)
		return nil
	}
	if up.Mode&unix.S_IFMT != unix.S_IFDIR {
		if l.s.index.applied[p] == sigOf(&up) {
			return nil
		}
		same, meta, err := l.same(upper, lower, name, &up, was)
		if err == unix.EACCES {
			l.unfit(p, &up, was, unreadable)
			return nil
		}
		if err != nil {
			return err
		}
		if same && !meta {
			return nil
		}
		c := Change{Path: p}
		switch {
		case was == nil:
			c.Kind = Added
		case was.Mode&unix.S_IFMT != up.Mode&unix.S_IFMT:
			c.Kind = Replaced
		case same:
			c.Kind = Meta
		default:
			c.Kind = Modified
		}
		switch up.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			c.Target, _ = treecopy.Readlink(upper, name)
		case unix.S_IFREG:
			var before map[string][]byte
			if c.Kind == Modified || c.Kind == Meta {
				before = attributesAt(lower, name)
			}
			now, err := l.content(&c, upper, name)
			if err != nil {
				return err
			}
			l.describe(&c, &up, was, now, before)
		}
		l.add(c, &up, was)
		return nil
	}
	return l.subdir(upper, lower, name, p, &up, was, opaque, depth)
}

func (l *lister) subdir(upper, lower int, name, p string, up, was *unix.Stat_t, opaque bool, depth int) error {
	if depth >= maxDepth {
		l.unfit(p, up, was, tooDeep)
		return nil
	}
	fd, err := treecopy.Open(upper, name)
	if err == unix.EACCES {
		l.unfit(p, up, was, unreadable)
		return nil
	}
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(fd)
	below := -1
	switch {
	case was == nil || was.Mode&unix.S_IFMT != unix.S_IFDIR:
		c := Change{Path: p, Kind: Added}
		if was != nil {
			c.Kind = Replaced
		}
		x, err := treecopy.Xattrs(fd)
		if err != nil {
			return err
		}
		l.describe(&c, up, was, x, nil)
		l.add(c, up, was)
	default:
		below, err = treecopy.Open(lower, name)
		if err == unix.EACCES {
			l.unfit(p, up, was, unreadable)
			return nil
		}
		if err != nil {
			return err
		}
		defer unix.Close(below)
		x, err := treecopy.Xattrs(fd)
		if err != nil {
			return err
		}
		y, err := treecopy.Xattrs(below)
		if err != nil {
			return err
		}
		if (was.Mode&0o7777 != up.Mode&0o7777 || !sameAttributes(x, y)) && !l.s.asItWas(p, up, x) {
			c := Change{Path: p, Kind: Meta}
			l.describe(&c, up, was, x, y)
			l.add(c, up, was)
			last := &l.out[len(l.out)-1]
			if last.Conflict == "" && l.s.index.attributes[p] != attributesSum(y) {
				last.Conflict = "its attributes were changed in the project meanwhile"
			}
		}
	}
	return l.dir(fd, below, p, opaque || isOpaque(fd), depth+1)
}

// content reads what the session has of a file: what identifies its text, and its
// attributes. Times do not tell of all changes, as a program that has mapped a file
// into its memory may write to it at any time (mmap(2)).
func (l *lister) content(c *Change, upper int, name string) (map[string][]byte, error) {
	f, err := openFile(upper, name)
	if err == unix.ENOENT || err == unix.EACCES {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if c.content, err = contentSum(f); err != nil {
		return nil, err
	}
	return treecopy.Xattrs(int(f.Fd()))
}

// describe says what of the attributes and access lists differs, and who may do more.
func (l *lister) describe(c *Change, up, was *unix.Stat_t, now, before map[string][]byte) {
	c.Attributes, c.attributes = attributeLines(before, now), attributesSum(now)
	var old *thing
	if c.Kind == Modified || c.Kind == Meta {
		old = &thing{was.Mode, before}
	}
	c.Access = l.s.opened(c.Path, old, thing{up.Mode, now})
}

// Why a change can never be applied.
const (
	unreadable = "it cannot be read; the session has to give it back a mode first"
	tooDeep    = "it lies too deep to have a path; only the session can move it, or it is discarded"
)

// unfit is a change that cannot be looked at: the session can set any mode, and make
// directories in each other without an end.
func (l *lister) unfit(p string, up, was *unix.Stat_t, why string) {
	c := Change{Path: p, Kind: Modified, Unfit: why}
	if was == nil {
		c.Kind = Added
	}
	l.add(c, up, was)
}

// same compares two things that are not directories: content, and then what else
// there is to them.
func (l *lister) same(upper, lower int, name string, up, was *unix.Stat_t) (same, meta bool, err error) {
	if was == nil || up.Mode&unix.S_IFMT != was.Mode&unix.S_IFMT {
		return false, false, nil
	}
	switch up.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if up.Size != was.Size {
			return false, false, nil
		}
		a, err := openFile(upper, name)
		if err != nil {
			return false, false, ignoreGone(err)
		}
		defer a.Close()
		b, err := openFile(lower, name)
		if err != nil {
			return false, false, err
		}
		defer b.Close()
		same, err := sameContent(a, b)
		if err != nil || !same {
			return false, false, err
		}
		x, err := treecopy.Xattrs(int(a.Fd()))
		if err != nil {
			return false, false, err
		}
		y, err := treecopy.Xattrs(int(b.Fd()))
		if err != nil {
			return false, false, err
		}
		// Times alone, as of touch(1), are worth nobody's look.
		meta = up.Mode&0o7777 != was.Mode&0o7777 || !sameAttributes(x, y)
		return true, meta, nil
	case unix.S_IFLNK:
		a, err := treecopy.Readlink(upper, name)
		if err != nil {
			return false, false, ignoreGone(err)
		}
		b, err := treecopy.Readlink(lower, name)
		return a == b, false, err
	}
	return true, up.Mode&0o7777 != was.Mode&0o7777, nil
}

func ignoreGone(err error) error {
	if err == unix.ENOENT {
		return nil
	}
	return err
}

func openFile(dir int, name string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// contentSum identifies the content of a file that may be shown, "" for a larger one.
func contentSum(f *os.File) (string, error) {
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, maxText+1))
	if err != nil || n > maxText {
		return "", err
	}
	return shortSum(h.Sum(nil)), nil
}

func sameContent(a, b *os.File) (bool, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(a, x)
		m, err2 := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if err2 != nil {
			return false, err2
		}
	}
}

// add completes a change. up is what the session has, was what the project has.
func (l *lister) add(c Change, up, was *unix.Stat_t) {
	now := up
	if now == nil {
		now = was
	}
	c.Type, c.Size, c.Mode = typeOf(now.Mode), now.Size, now.Mode&0o7777
	if was != nil && up != nil {
		c.OldSize, c.OldMode = was.Size, was.Mode&0o7777
	}
	if up == nil {
		c.OldSize, c.OldMode, c.Size, c.Mode = c.Size, c.Mode, 0, 0
	}
	if was != nil && was.Mode&unix.S_IFMT == unix.S_IFREG && was.Nlink > 1 {
		c.Names = int(was.Nlink) - 1
	}
	if up != nil && up.Mode&unix.S_IFMT == unix.S_IFREG {
		c.Executable = up.Mode&0o111 != 0 || up.Mode&(unix.S_ISUID|unix.S_ISGID) != 0
	}
	if up != nil && up.Mode&(unix.S_IFMT|0o400) == unix.S_IFREG && os.Geteuid() != 0 {
		c.Unfit = unreadable
	}
	if c.Unfit == "" && (c.Type == "socket" || c.Type == "device") {
		c.Unfit = "a " + c.Type + " stays in the stage"
	}
	if up != nil {
		c.now = sigOf(up)
	}
	c.repo = l.repo
	c.Protected = l.repo != "" || l.s.protects(c.Path)
	if was != nil && was.Mode&unix.S_IFMT == unix.S_IFDIR && (c.Kind == Removed || c.Kind == Replaced) {
		c.Protected = c.Protected || l.s.holdsProtected(c.Path)
	}
	c.Conflict = l.s.conflict(c.Path, c.Kind, was)
	var before sig
	if was != nil {
		before = sigOf(was)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %v %v %s %s", c.Kind, c.now, before, c.attributes, c.content))
	c.Seen = shortSum(sum[:])
	l.out = append(l.out, c)
}

func (s *Stage) protects(p string) bool {
	return inGit(p) || s.Protects != nil && s.Protects(p)
}

func typeOf(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "link"
	case unix.S_IFIFO:
		return "pipe"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "device"
}
