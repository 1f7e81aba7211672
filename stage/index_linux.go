package stage

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

func sigOf(st *unix.Stat_t) sig {
	g := sig{mode: st.Mode, size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(), ino: st.Ino}
	// A directory changes with the names in it, which have entries of their own.
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		g.size, g.mtime, g.ctime = 0, 0, 0
	}
	return g
}

// index is the project as it was when the stage was last known to agree with it.
type index struct {
	files map[string]sig
	// applied are upper files that were applied as they are: they do not count as
	// changes, also when the project has gone on since.
	applied map[string]sig
	// attributes identify those of directories that have any: the times of a directory
	// tell of names alone.
	attributes map[string]string
	// unsure are paths that changed while the index was made.
	unsure map[string]bool
	whole  bool
}

func newIndex() *index {
	return &index{files: map[string]sig{}, applied: map[string]sig{}, unsure: map[string]bool{}, attributes: map[string]string{}}
}

// note has the index know the attributes of a directory, "" for none.
func (x *index) note(p, attributes string) {
	if attributes == "" {
		delete(x.attributes, p)
	} else {
		x.attributes[p] = attributes
	}
}

// clockGrain is how far a file's time may lie behind the clock.
const clockGrain = 10 * time.Millisecond

// Scan takes the index of the project, in the background: what the session has
// changed already keeps its old entries. warn is told of files that the session's
// user may not change although it lies in the project. To be called once, before
// anything of the session runs.
func (s *Stage) Scan(uid, gid int, warn func(strangers []string, more int)) {
	old := s.readIndex()
	s.scanned = make(chan struct{})
	began := time.Now().Add(-clockGrain).UnixNano()
	kept, hides, sure := s.stagedPaths()
	if !sure {
		// Some of the session's changes cannot be read: any path may be one of them.
		for p := range old.files {
			kept[p] = true
		}
	}
	go func() {
		defer close(s.scanned)
		x := newIndex()
		var strangers, repositories []string
		parts := map[string]int{}
		more := 0
		err := walkAttributes(int(s.root.Fd()), "", func(p string, st *unix.Stat_t) {
			x.files[p] = sigOf(st)
			dir, name := path.Split(p)
			if name == ".git" && st.Mode&unix.S_IFMT == unix.S_IFDIR {
				repositories = append(repositories, p)
			}
			if dir = strings.TrimSuffix(dir, "/"); dir != "" && slices.Contains(repositoryNames, name) {
				if parts[dir]++; parts[dir] == len(repositoryNames) && path.Base(dir) != ".git" {
					repositories = append(repositories, dir)
				}
			}
			if st.Mode&unix.S_IFMT != unix.S_IFDIR && (st.Ctim.Nano() >= began || st.Mtim.Nano() >= began) {
				x.unsure[p] = true
			}
			if int(st.Uid) != uid || int(st.Gid) != gid {
				if len(strangers) < maxStrangers {
					strangers = append(strangers, p)
				} else {
					more++
				}
			}
		}, x.note)
		x.whole = err == nil
		// What the session does not see any more is as old as what hides it.
		for _, files := range []map[string]sig{x.files, old.files} {
			for p := range files {
				for dir := path.Dir(p); dir != "." && !kept[p]; dir = path.Dir(dir) {
					if hides[dir] {
						kept[p] = true
					}
				}
			}
		}
		for p := range kept {
			delete(x.files, p)
			delete(x.unsure, p)
			x.note(p, old.attributes[p])
			if g, ok := old.files[p]; ok {
				x.files[p] = g
			}
			if old.unsure[p] || !old.whole {
				x.unsure[p] = true
			}
			if g, ok := old.applied[p]; ok {
				x.applied[p] = g
			}
		}
		s.mu.Lock()
		if s.Git != nil {
			_ = s.Git.Begin(outermost(repositories), began) // what it does not know counts as changed twice
		}
		s.index = x
		_ = s.saveIndex() // without it whoever resumes is sure of no path, and asks
		s.mu.Unlock()
		if len(strangers) > 0 && warn != nil {
			warn(strangers, more)
		}
	}()
}

// outermost leaves out what lies in another.
func outermost(dirs []string) (out []string) {
	slices.Sort(dirs)
	in := map[string]bool{}
	for _, d := range dirs {
		inside := false
		for up := path.Dir(d); up != "." && !inside; up = path.Dir(up) {
			inside = in[up]
		}
		if !inside {
			in[d] = true
			out = append(out, d)
		}
	}
	return out
}

// maxStrangers bounds the names of one warning.
const maxStrangers = 5

// walk calls fn for all that lies below an open directory, parents first.
func walk(dir int, at string, fn func(p string, st *unix.Stat_t)) error {
	return walkAt(dir, at, 0, fn, nil)
}

// walkAttributes is walk that also calls attributes for the directory and each below
// it, with what identifies the attributes that it has.
func walkAttributes(dir int, at string, fn func(p string, st *unix.Stat_t), attributes func(p, sum string)) error {
	return walkAt(dir, at, 0, fn, attributes)
}

const maxDepth = 1024

func walkAt(dir int, at string, depth int, fn func(p string, st *unix.Stat_t), attributes func(p, sum string)) error {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if attributes != nil {
		attrs, err := treecopy.Xattrs(fd)
		if err != nil {
			return err
		}
		attributes(at, attributesSum(attrs))
	}
	names, err := treecopy.Names(fd)
	if err != nil {
		return err
	}
	slices.Sort(names)
	var first error
	for _, n := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, n, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			continue // gone meanwhile
		}
		p := path.Join(at, n)
		fn(p, &st)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		if depth > maxDepth {
			first = cmp.Or(first, error(unix.ELOOP))
			continue
		}
		sub, err := unix.Openat(fd, n, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			err = walkAt(sub, p, depth+1, fn, attributes)
			unix.Close(sub)
		}
		if err != nil && first == nil && err != unix.ENOENT {
			first = err
		}
	}
	return first
}

// stagedPaths are the paths of the upper layer, and those that hide what the project
// has below them; whole is false where some cannot be read.
func (s *Stage) stagedPaths() (paths, hides map[string]bool, whole bool) {
	paths, hides = map[string]bool{}, map[string]bool{}
	err := walk(int(s.upper.Fd()), "", func(p string, st *unix.Stat_t) {
		paths[p] = true
		if st.Mode&unix.S_IFMT != unix.S_IFDIR || hides[path.Dir(p)] || s.opaque(p) {
			hides[p] = true
		}
	})
	return paths, hides, err == nil
}

const indexMagic = "mcp-sandbox stage index 2\n"

func (s *Stage) indexPath() string { return filepath.Join(s.dir, "index") }

// saveIndex writes the index; the caller holds mu.
func (s *Stage) saveIndex() error {
	var b bytes.Buffer
	b.WriteString(indexMagic)
	flag := byte(0)
	if s.index.whole {
		flag = 1
	}
	b.WriteByte(flag)
	for _, list := range []map[string]sig{s.index.files, s.index.applied} {
		b.Write(binary.AppendUvarint(nil, uint64(len(list))))
		for p, g := range list {
			e := binary.AppendUvarint(nil, uint64(len(p)))
			e = append(e, p...)
			e = binary.AppendUvarint(e, uint64(g.mode))
			e = binary.AppendVarint(e, g.size)
			e = binary.AppendVarint(e, g.mtime)
			e = binary.AppendVarint(e, g.ctime)
			b.Write(binary.AppendUvarint(e, g.ino))
		}
	}
	b.Write(binary.AppendUvarint(nil, uint64(len(s.index.unsure))))
	for p := range s.index.unsure {
		b.Write(append(binary.AppendUvarint(nil, uint64(len(p))), p...))
	}
	b.Write(binary.AppendUvarint(nil, uint64(len(s.index.attributes))))
	for p, sum := range s.index.attributes {
		b.Write(append(binary.AppendUvarint(nil, uint64(len(p))), p...))
		b.Write(append(binary.AppendUvarint(nil, uint64(len(sum))), sum...))
	}
	return writeOver(s.indexPath(), b.Bytes())
}

// readIndex reads the index; one that is missing or damaged is empty, so that every
// change is one that a person decides about.
func (s *Stage) readIndex() *index {
	b, err := os.ReadFile(s.indexPath())
	if err != nil {
		return newIndex()
	}
	x, err := parseIndex(b)
	if err != nil {
		return newIndex()
	}
	return x
}

func parseIndex(b []byte) (*index, error) {
	rest, ok := bytes.CutPrefix(b, []byte(indexMagic))
	if !ok || len(rest) == 0 {
		return nil, errors.New("not an index")
	}
	x := newIndex()
	x.whole = rest[0] == 1
	r := bufio.NewReader(bytes.NewReader(rest[1:]))
	var failed error
	unsigned := func() uint64 {
		v, err := binary.ReadUvarint(r)
		failed = errors.Join(failed, err)
		return v
	}
	signed := func() int64 {
		v, err := binary.ReadVarint(r)
		failed = errors.Join(failed, err)
		return v
	}
	name := func() string {
		n := unsigned()
		if n > unix.PathMax*4 {
			failed = errors.Join(failed, errors.New("a path is too long"))
			return ""
		}
		p := make([]byte, n)
		_, err := io.ReadFull(r, p)
		failed = errors.Join(failed, err)
		return string(p)
	}
	for _, list := range []map[string]sig{x.files, x.applied} {
		for n := unsigned(); n > 0 && failed == nil; n-- {
			p := name()
			list[p] = sig{mode: uint32(unsigned()), size: signed(), mtime: signed(), ctime: signed(), ino: unsigned()}
		}
	}
	for n := unsigned(); n > 0 && failed == nil; n-- {
		x.unsure[name()] = true
	}
	for n := unsigned(); n > 0 && failed == nil; n-- {
		p := name()
		x.attributes[p] = name()
	}
	return x, failed
}

func (s *Stage) loadIndex() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index = s.readIndex()
	return nil
}

// ready waits for the index of Scan.
func (s *Stage) ready() {
	if c := s.scanned; c != nil {
		<-c
	}
}
