package workspace

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stage is the directory an archive is unpacked in before it is moved into
// place. It lies on the same file system as the destination, below the root.
type stage struct {
	fs      *FS
	ctx     context.Context
	limits  ExtractLimits
	display string // the destination, for people
	final   string // the absolute path of the destination
	hidden  *hiddenSet
	replace bool
	exact   bool
	old     string // directory in base for what is replaced, "" without

	dst     *resolved // where the destination is, or its first missing part
	missing bool
	base    int    // directory that holds the stage
	name    string // of the stage in base
	fd      int

	kinds   map[string]Kind // every name so far, parents included
	parent  int             // the directory last used, -1 for none
	at      string
	symlink []member
	modes   []dirMode

	files, dirs, links, replaced int
	bytes                        int64
}

type dirMode struct {
	comps []string
	mode  uint32
}

// newStage makes the stage for a destination. dst must stay open until discard.
func (f *FS) newStage(ctx context.Context, dst *resolved, req ExtractRequest) (*stage, error) {
	s := &stage{fs: f, ctx: ctx, hidden: f.hiddenNow(ctx), limits: req.Limits, replace: req.Replace, exact: req.Exact, dst: dst, kinds: map[string]Kind{}, parent: -1, base: -1, fd: -1, name: tempName()}
	whole := *dst
	whole.owned = false
	whole.comps = append(append([]string(nil), dst.comps...), dst.missing...)
	s.display, s.final = whole.display(), whole.absolute()
	if dst.missing != nil {
		whole.missing = dst.missing
		if err := f.permit(&whole); err != nil {
			return nil, err
		}
	}
	st, err := dst.stat()
	switch {
	case dst.missing != nil || err == unix.ENOENT:
		s.missing = true
		s.base, err = openSubdir(dst.fd, ".")
	case err != nil:
		return nil, err
	case kindOf(st) != KindDirectory:
		return nil, fail(codeNotDirectory, "%s is not a directory; name a directory to unpack into", quote(req.Destination))
	default:
		s.base, err = openSubdir(dst.fd, dst.name)
	}
	if err != nil {
		return nil, err
	}
	// Nobody else looks into the stage while it is filled.
	if err = unix.Mkdirat(s.base, s.name, 0o700); err == nil {
		s.fd, err = openSubdir(s.base, s.name)
	}
	if err == nil {
		err = f.chown(s.fd)
	}
	if err != nil {
		s.discard()
		return nil, err
	}
	return s, nil
}

// discard removes what is left of the stage.
func (s *stage) discard() {
	if s.parent >= 0 {
		unix.Close(s.parent)
	}
	if s.fd >= 0 {
		unix.Close(s.fd)
		r := remover{fs: s.fs, ctx: context.WithoutCancel(s.ctx)}
		r.remove(s.base, s.name, "")
	}
	if s.old != "" {
		r := remover{fs: s.fs, ctx: context.WithoutCancel(s.ctx)}
		r.remove(s.base, s.old, "")
	}
	if s.base >= 0 {
		unix.Close(s.base)
	}
}

func unsafeMember(name, why string) error {
	return fail(codeUnsafeArchive, "the member %s %s, so nothing was unpacked; use a trustworthy archive", quote(name), why)
}

// memberPath turns the name of a member into components, or says what is wrong
// with it.
func memberPath(name string, exact bool) ([]string, error) {
	switch {
	case strings.ContainsRune(name, 0):
		return nil, unsafeMember(name, "has a NUL byte in its name")
	case len(name) > maxPath:
		return nil, unsafeMember(name, "has a name that is too long")
	case strings.HasPrefix(name, "/"):
		return nil, unsafeMember(name, "has an absolute name")
	case strings.Contains(name, "\\") && !exact:
		return nil, unsafeMember(name, "has a backslash in its name")
	case !exact && len(name) >= 2 && name[1] == ':' && (name[0]|0x20) >= 'a' && (name[0]|0x20) <= 'z':
		return nil, unsafeMember(name, "has a drive letter in its name")
	}
	comps := split(name)
	for _, c := range comps {
		if c == ".." {
			return nil, unsafeMember(name, "leads out of the archive with \"..\"")
		}
		if len(c) > 255 {
			return nil, unsafeMember(name, "has a name that is too long")
		}
	}
	if len(comps) > maxDepth {
		return nil, unsafeMember(name, "is nested too deep")
	}
	return comps, nil
}

// add checks a member and writes it to the stage. Links wait until finish, so
// that nothing can be written through one.
func (s *stage) add(m member) error {
	comps, err := memberPath(m.name, s.exact)
	if err != nil {
		return err
	}
	switch m.kind {
	case KindFile, KindDirectory, KindSymlink:
	default:
		return unsafeMember(m.name, "is a device or another special file")
	}
	if len(comps) == 0 {
		if m.kind != KindDirectory {
			return unsafeMember(m.name, "has no name")
		}
		return nil
	}
	if err := s.permit(m, comps); err != nil {
		return err
	}
	for i := 1; i < len(comps); i++ {
		up := strings.Join(comps[:i], "/")
		switch s.kinds[up] {
		case KindUnknown:
			s.kinds[up] = KindDirectory
		case KindDirectory:
		default:
			return unsafeMember(m.name, "lies below a member that is not a directory")
		}
	}
	full := strings.Join(comps, "/")
	if was, again := s.kinds[full]; again && (was != KindDirectory || m.kind != KindDirectory) {
		return unsafeMember(m.name, "is in the archive twice")
	}
	if m.hard && strings.Join(split(m.target), "/") == full {
		return unsafeMember(m.name, "is a hard link to itself")
	}
	s.kinds[full] = m.kind
	switch {
	case m.kind == KindSymlink:
		// Links are made last, so that not even one that leads anywhere is written
		// through.
		if err := insideTarget(m, len(comps)-1); err != nil && (!s.exact || m.target == "" || strings.ContainsRune(m.target, 0) || len(m.target) > maxPath) {
			return err
		}
		m.body = nil
		s.symlink = append(s.symlink, m)
		s.links++
		return nil
	case m.kind == KindDirectory:
		s.dirs++
		s.modes = append(s.modes, dirMode{comps, uint32(m.mode.Perm())})
		_, err := s.directory(comps)
		return err
	case m.hard:
		return s.hardLink(m, comps)
	}
	return s.file(m, comps)
}

// permit asks policy about the final place of a member.
func (s *stage) permit(m member, comps []string) error {
	at := path.Join(s.final, strings.Join(comps, "/"))
	if s.fs.guards(at) || m.kind != KindDirectory && s.fs.guardsParent(at) || s.fs.completesBareWith(s.final, comps, s.kinds) {
		return fail(codeProtected, "the member %s would change a protected path, so nothing was unpacked; ask the user to change it", quote(m.name))
	}
	if s.fs.hides() && s.fs.opts.Deny.Covers(at) {
		return fail(codePermission, "the member %s has the name of a path that is hidden from this session, so nothing was unpacked; unpack the archive with a command", quote(m.name))
	}
	return nil
}

// insideTarget accepts the target of a symbolic link that can be seen to stay
// inside: relative, and ".." only at its start and not above the top. Each
// link then stays inside on its own, so no chain of them leads out. depth is
// the number of directories above the link.
func insideTarget(m member, depth int) error {
	switch {
	case m.target == "" || strings.ContainsRune(m.target, 0) || len(m.target) > maxPath:
		return unsafeMember(m.name, "is a link without a usable target")
	case strings.HasPrefix(m.target, "/"):
		return unsafeMember(m.name, "is a link to an absolute path")
	}
	up, down := 0, false
	for _, c := range split(m.target) {
		if c != ".." {
			down = true
			continue
		}
		if up++; down || up > depth {
			return unsafeMember(m.name, "is a link that leads out of the archive")
		}
	}
	return nil
}

// directory opens a directory of the stage, making what is missing. The
// descriptor belongs to the stage.
func (s *stage) directory(comps []string) (int, error) {
	full := strings.Join(comps, "/")
	if s.parent >= 0 && s.at == full {
		return s.parent, nil
	}
	fd, err := openBelow(s.fd, comps, s.fs.mkdirAt)
	if err != nil {
		return -1, err
	}
	if s.parent >= 0 {
		unix.Close(s.parent)
	}
	s.parent, s.at = fd, full
	return fd, nil
}

// openBelow opens the directory comps below dir without following links; mkdir,
// when given, makes what is missing.
func openBelow(dir int, comps []string, mkdir func(int, string) error) (int, error) {
	fd, err := openSubdir(dir, ".")
	for _, c := range comps {
		if err != nil {
			return -1, err
		}
		if mkdir != nil {
			if merr := mkdir(fd, c); merr != nil && merr != unix.EEXIST {
				unix.Close(fd)
				return -1, merr
			}
		}
		var next int
		next, err = openSubdir(fd, c)
		unix.Close(fd)
		fd = next
	}
	return fd, err
}

func (s *stage) file(m member, comps []string) error {
	dir, err := s.directory(comps[:len(comps)-1])
	if err != nil {
		return err
	}
	name := comps[len(comps)-1]
	fd, err := retryEINTR(func() (int, error) {
		return unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(m.mode.Perm())|0o600)
	})
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), name)
	defer out.Close()
	if err := s.fill(out, m); err != nil {
		return err
	}
	if err := s.fs.chown(fd); err != nil {
		return err
	}
	if !m.modTime.IsZero() && m.modTime.Unix() > 0 {
		t := unix.NsecToTimeval(m.modTime.UnixNano())
		unix.Futimes(fd, []unix.Timeval{unix.NsecToTimeval(time.Now().UnixNano()), t})
	}
	s.files++
	return unwrapPath(out.Close())
}

// fill copies the body of a member, counting what really comes out of it.
func (s *stage) fill(out *os.File, m member) error {
	buf := make([]byte, 64<<10)
	for size := int64(0); ; {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		n, err := m.body.Read(buf)
		if s.bytes += int64(n); s.bytes > s.limits.MaxOutput {
			return fail(codeTooLarge, "the archive unpacks to more than %d bytes (reached in %s); unpack it with a command", s.limits.MaxOutput, quote(m.name))
		}
		size += int64(n)
		if most := s.fs.opts.MaxFile; most > 0 && size > most {
			return fail(codeTooLarge, "the member %s is longer than the %d bytes a file may have, so nothing was unpacked; the operator can raise --limit-file-size", quote(m.name), most)
		}
		if err := s.fs.grow(s.dst.root, int64(n)); err != nil {
			return err
		}
		if n > 0 {
			if _, werr := out.Write(buf[:n]); werr != nil {
				return fromErrno(unwrapPath(werr), m.name)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// hardLink links to an earlier file of the same archive, by its name in the
// stage, where no link can be in the way.
func (s *stage) hardLink(m member, comps []string) error {
	target, err := memberPath(m.target, s.exact)
	if err != nil || len(target) == 0 {
		return unsafeMember(m.name, "is a hard link that leads out of the archive")
	}
	if s.kinds[strings.Join(target, "/")] != KindFile {
		return unsafeMember(m.name, "is a hard link to something that is not an earlier file of the archive")
	}
	from, err := openBelow(s.fd, target[:len(target)-1], nil)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	dir, err := s.directory(comps[:len(comps)-1])
	if err != nil {
		return err
	}
	s.links++
	return unix.Linkat(from, target[len(target)-1], dir, comps[len(comps)-1], 0)
}

// finish makes the links and gives directories their modes, deepest first.
func (s *stage) finish() error {
	for _, m := range s.symlink {
		comps, err := memberPath(m.name, s.exact)
		if err != nil {
			return err
		}
		dir, err := s.directory(comps[:len(comps)-1])
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(m.target, dir, comps[len(comps)-1]); err != nil {
			return err
		}
	}
	sort.SliceStable(s.modes, func(i, j int) bool { return len(s.modes[i].comps) > len(s.modes[j].comps) })
	for _, d := range s.modes {
		fd, err := openBelow(s.fd, d.comps, nil)
		if err != nil {
			return err
		}
		err = unix.Fchmod(fd, d.mode|0o700)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// install moves the finished tree into place.
func (s *stage) install() error {
	if s.missing {
		// The whole tree becomes the destination.
		p, err := s.fs.walk(s.dst.given, walkOptions{follow: true, write: true, parents: true})
		if err != nil {
			return err
		}
		defer p.close()
		if err := unix.Fchmod(s.fd, 0o755); err != nil {
			return err
		}
		err = renameNoReplace(s.base, s.name, p.fd, p.name)
		if errors.Is(err, unix.EEXIST) {
			return fail(codeExists, "%s was made by somebody else meanwhile; try again", quote(s.dst.given))
		}
		return err
	}
	if s.replace {
		return s.installInstead()
	}
	return s.installOver()
}

// installOver merges the tree with what the destination holds.
func (s *stage) installOver() error {
	if err := s.conflicts(s.fd, s.base, nil); err != nil {
		return err
	}
	var moved []movedName
	if err := s.merge(s.fd, s.base, nil, &moved); err != nil {
		s.revert(moved)
		return err
	}
	return nil
}
