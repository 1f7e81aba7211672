package deny

import (
	"context"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// ID names an inode.
type ID struct{ Dev, Ino uint64 }

// Match is a hidden file or directory that exists.
type Match struct {
	Path  string // absolute
	ID    ID
	Links uint64 // 1 or less for a directory
}

// Bounds of a Scan.
const (
	maxDepth   = 200
	maxMatches = 10_000
)

// Found is what Scan saw.
type Found struct {
	Matches []Match
	// Partial says that a tree was too deep or held too many matches.
	Partial bool
}

// Linked are the paths of what has several names.
func (f Found) Linked() (paths []string) {
	for _, m := range f.Matches {
		if m.Links > 1 {
			paths = append(paths, m.Path)
		}
	}
	return paths
}

// Scan looks for what the patterns with wildcards hide, in the root and in every
// tree, and for further names of hidden files that have hard links. No link is
// followed. What cannot be read is passed over: the session's own user cannot
// read it either.
func (l *List) Scan(ctx context.Context) (Found, error) {
	s := l.scanner(ctx)
	if l.Wild() {
		if err := s.trees(); err != nil {
			return s.found, err
		}
	}
	return s.furtherNames()
}

// FurtherNames looks for further names of the files that have an exact path. Where
// that path is already covered by something else, nobody can tell any more what they
// are. It looks at no tree unless one of the files has several names.
func (l *List) FurtherNames(ctx context.Context) (Found, error) {
	return l.scanner(ctx).furtherNames()
}

// scanner knows the files with several names among the exact paths.
func (l *List) scanner(ctx context.Context) *scanner {
	s := &scanner{l: l, ctx: ctx, linked: map[ID]bool{}}
	for _, p := range l.Paths() {
		var st unix.Stat_t
		if unix.Lstat(p, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink > 1 {
			s.linked[ID{uint64(st.Dev), uint64(st.Ino)}] = true
		}
	}
	return s
}

func (s *scanner) furtherNames() (Found, error) {
	if len(s.linked) == 0 {
		return s.found, nil
	}
	s.links = true
	err := s.trees()
	return s.found, err
}

type scanner struct {
	l      *List
	ctx    context.Context
	links  bool // look for other names of linked
	linked map[ID]bool
	found  Found
}

func (s *scanner) trees() error {
	for _, t := range s.l.trees {
		if s.l.Covers(t) {
			continue
		}
		fd, err := unix.Open(t, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			// A single file that was granted, or nothing any more.
			if dir, err := unix.Open(path.Dir(t), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
				s.entry(dir, path.Dir(t), path.Base(t))
				unix.Close(dir)
			}
			continue
		}
		if err := s.dir(os.NewFile(uintptr(fd), t), t, 0); err != nil {
			return err
		}
	}
	return nil
}

// dir reads one directory and closes it.
func (s *scanner) dir(f *os.File, at string, depth int) error {
	defer f.Close()
	if depth > maxDepth {
		s.found.Partial = true
		return nil
	}
	for {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			hidden := s.entry(int(f.Fd()), at, e.Name())
			if hidden || !e.IsDir() {
				continue
			}
			fd, err := unix.Openat(int(f.Fd()), e.Name(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err != nil {
				continue
			}
			if err := s.dir(os.NewFile(uintptr(fd), e.Name()), path.Join(at, e.Name()), depth+1); err != nil {
				return err
			}
		}
		if err != nil || len(entries) == 0 {
			return nil
		}
	}
}

// entry looks at one name and says whether it is hidden.
func (s *scanner) entry(dir int, at, name string) bool {
	hidden := s.l.CoversEntry(at, name)
	if hidden == s.links {
		return hidden // seen by the first pass, or nothing to see
	}
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return hidden
	}
	m := Match{Path: path.Join(at, name), ID: ID{uint64(st.Dev), uint64(st.Ino)}}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		m.Links = uint64(st.Nlink)
	}
	if s.links && !s.linked[m.ID] {
		return false
	}
	if len(s.found.Matches) >= maxMatches {
		s.found.Partial = true
		return hidden
	}
	s.found.Matches = append(s.found.Matches, m)
	if m.Links > 1 {
		s.linked[m.ID] = true
	}
	return hidden
}
