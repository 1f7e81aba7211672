package stage

import (
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// A git directory is data and programs in one: of what the session changed in it, what
// git can run nothing because of is one change, and the rest is protected, path by
// path. Somebody else can tell the two apart and knows how git writes the former.

// foldGit puts one change of a git directory in the place of those of its data.
func (s *Stage) foldGit(raw []Change) []Change {
	s.folded = map[string][]Change{}
	if s.Git == nil {
		return raw
	}
	views := map[string]*GitView{}
	out := raw[:0:0]
	for i := range raw {
		c := &raw[i]
		dir := s.gitDirOf(c.Path)
		// What a session makes look like a repository is no less protected for it.
		named := path.Base(dir) != ".git" && s.Protects != nil && s.Protects(dir)
		if dir == "" || named || c.Path == dir && (c.Kind == Removed || c.Kind == Replaced || c.Type != "directory") {
			out = append(out, *c)
			continue
		}
		v, known := views[dir]
		if !known {
			v = s.lookGit(dir)
			views[dir] = v
			if v != nil && v.Title != "" {
				out = append(out, gitChange(dir, v))
			}
		}
		if v == nil || v.stays(c, raw, dir) {
			out = append(out, *c)
			continue
		}
		s.folded[dir] = append(s.folded[dir], *c)
	}
	slices.SortStableFunc(out, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// gitDirOf is the outermost git directory that a path lies in, "" for none. The root of
// the project counts as none.
func (s *Stage) gitDirOf(p string) string {
	for i := 0; i <= len(p); i++ {
		if i < len(p) && p[i] != '/' {
			continue
		}
		if dir := p[:i]; s.gits[dir] || path.Base(dir) == ".git" {
			return dir
		}
	}
	return ""
}

// lookGit is nil for what is not a git directory on both sides, or one that took the
// place of another.
func (s *Stage) lookGit(dir string) *GitView {
	fd, err := treecopy.Open(int(s.upper.Fd()), dir)
	if err != nil {
		return nil
	}
	unix.Close(fd)
	var st unix.Stat_t
	parent, err := treecopy.Open(int(s.root.Fd()), path.Dir(dir))
	switch {
	case err == nil:
		err = unix.Fstatat(parent, path.Base(dir), &st, unix.AT_SYMLINK_NOFOLLOW)
		unix.Close(parent)
		if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFDIR || s.hidesBelow(dir)) || err != nil && err != unix.ENOENT {
			return nil
		}
	case err != unix.ENOENT:
		return nil
	}
	v, err := s.Git.Look(dir)
	if err != nil || v.Stays == nil {
		return nil
	}
	return &v
}

func (v *GitView) stays(c *Change, raw []Change, dir string) bool {
	if c.Path == dir {
		return false
	}
	in := strings.TrimPrefix(c.Path, dir+"/")
	switch {
	case c.Type == "directory" && c.Kind == Removed:
		return v.Stays(in, true)
	case c.Type == "directory":
		// One comes with what lies in it.
		return slices.ContainsFunc(raw, func(x Change) bool {
			return x.Type != "directory" && strings.HasPrefix(x.Path, c.Path+"/") && v.stays(&x, nil, dir)
		})
	case c.Type != "file" && c.Kind != Removed, c.Unfit != "":
		return true
	}
	return v.Stays(in, false)
}

func gitChange(dir string, v *GitView) Change {
	c := Change{Path: dir, Kind: Modified, Type: TypeGit, Git: show(v.Title), Conflict: show(v.Conflict), Seen: v.Seen, lines: v.Lines}
	if v.New {
		c.Kind = Added
	}
	return c
}

// takeGit publishes a git directory.
func (a *applier) takeGit(c *Change) {
	agreed := a.s.agreedTexts(c.Path)
	conflicts, err := a.s.Git.Publish(c.Path, c.Seen)
	if err != nil {
		a.left(c.Path, reason(err))
		return
	}
	a.finished(c.Path)
	a.s.noteWritten(agreed)
	for _, text := range conflicts {
		a.res.Left = append(a.res.Left, Left{c.Path, text})
	}
	if len(conflicts) == 0 {
		a.s.noteGit(c.Path, c.Kind == Added)
	}
}

// noteGit has the index know what the project has in a git directory now, except for what
// is decided about path by path; of one that is fresh all was made just now.
func (s *Stage) noteGit(dir string, fresh bool) {
	v, err := s.Git.Look(dir)
	if err != nil || v.Stays == nil {
		return
	}
	fd, err := treecopy.Open(int(s.root.Fd()), dir)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil {
		s.index.files[dir] = sigOf(&st)
		delete(s.index.unsure, dir)
	}
	_ = walk(fd, dir, func(p string, st *unix.Stat_t) {
		if !fresh && v.Stays(strings.TrimPrefix(p, dir+"/"), false) && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return
		}
		s.index.files[p] = sigOf(st)
		delete(s.index.unsure, p)
	})
}

// agreedTexts are the configurations in a git directory that the project has as the index
// knows them.
func (s *Stage) agreedTexts(dir string) map[string]string {
	out := map[string]string{}
	for p, base := range s.index.files {
		if path.Base(p) != "config" || !strings.HasPrefix(p, dir+"/") || s.index.unsure[p] {
			continue
		}
		if text, g, ok := s.smallText(p); ok && g == base {
			out[p] = text
		}
	}
	return out
}

// noteWritten has the index know what publishing made of texts that agreed, so that it
// does not conflict with what else the session has in the same file. What somebody changed
// before, in between or since is not noted.
func (s *Stage) noteWritten(agreed map[string]string) {
	for p, wrote := range s.Git.Wrote() {
		if text, ok := agreed[p]; !ok || text != wrote[0] {
			continue
		}
		if text, g, ok := s.smallText(p); ok && text == wrote[1] {
			s.index.files[p] = g
		}
	}
}

// smallText reads a file of the project, with its state; not if it is large, or changes
// meanwhile.
func (s *Stage) smallText(p string) (string, sig, bool) {
	parent, err := treecopy.Open(int(s.root.Fd()), path.Dir(p))
	if err != nil {
		return "", sig{}, false
	}
	defer unix.Close(parent)
	f, err := openFile(parent, path.Base(p))
	if err != nil {
		return "", sig{}, false
	}
	defer f.Close()
	var before, after unix.Stat_t
	if unix.Fstat(int(f.Fd()), &before) != nil || before.Mode&unix.S_IFMT != unix.S_IFREG || before.Size > maxText {
		return "", sig{}, false
	}
	b, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil || unix.Fstat(int(f.Fd()), &after) != nil || sigOf(&after) != sigOf(&before) {
		return "", sig{}, false
	}
	return string(b), sigOf(&after), true
}

// discardGit takes back what a change of a git directory stands for; kept are changes
// below it that are not.
func (s *Stage) discardGit(c *Change, kept []Change) error {
	raw := s.folded[c.Path]
	for i := len(raw) - 1; i >= 0; i-- {
		x := &raw[i]
		if x.Type == "directory" && x.Kind == Added && slices.ContainsFunc(kept, func(k Change) bool { return strings.HasPrefix(k.Path, x.Path+"/") }) {
			continue
		}
		if err := s.revert(x); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}
