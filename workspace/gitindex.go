package workspace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Files that git tracks are part of the repository whatever its ignore files
// say, so tours ask the index. It is read here and not by a library because it is
// the workspace's own file and may hold anything: only names are taken, every
// length is checked, and both sizes of object names are known. A split or sparse
// index lists fewer names; what it leaves out counts as not tracked.
//
// The format: gitformat-index(5).

// maxIndex bounds an index that is read, about half a million files.
const maxIndex = 64 << 20

// trackedFiles are the files of one repository, by their paths below it, and the
// directories that hold some.
type trackedFiles struct {
	depth       int // components of the repository's own path
	files, dirs map[string]struct{}
}

// has tells whether the last of comps, which are below the root of the tour's
// tree, is tracked or, for a directory, holds tracked files.
func (t *trackedFiles) has(comps []string, isDir bool) bool {
	if t == nil || len(comps) <= t.depth {
		return false
	}
	names := t.files
	if isDir {
		names = t.dirs
	}
	_, ok := names[strings.Join(comps[t.depth:], "/")]
	return ok
}

// repository is a working tree of git whose index is read when it is first asked.
type repository struct {
	fs      *FS
	at      string // absolute
	depth   int    // components of it below the root
	loaded  bool
	tracked *trackedFiles
}

// repositoryOf finds the working tree that holds the directory comps of r, nil
// when there is none below r.
func (f *FS) repositoryOf(r *root, comps []string) *repository {
	for n := len(comps); n >= 0; n-- {
		at := path.Join(append([]string{r.real}, comps[:n]...)...)
		if p, err := f.walk(at+"/.git", walkOptions{}); err == nil {
			_, err = p.stat()
			p.close()
			if err == nil {
				return &repository{fs: f, at: at, depth: n}
			}
		}
	}
	return nil
}

func (r *repository) has(comps []string, isDir bool) bool {
	if r == nil {
		return false
	}
	if !r.loaded {
		r.loaded, r.tracked = true, r.load()
	}
	return r.tracked.has(comps, isDir)
}

// load reads the index. A repository whose index is out of reach, or cannot be
// read, has no tracked files.
func (r *repository) load() *trackedFiles {
	git := r.at + "/.git"
	if text, err := r.fs.readAtMost(git, maxPath); err == nil {
		// The file of a linked working tree or submodule (gitrepository-layout(5)).
		dir, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "gitdir: ")
		if !ok {
			return nil
		}
		if git = dir; !path.IsAbs(dir) {
			git = path.Join(r.at, dir)
		}
	}
	raw, err := r.fs.readAtMost(git+"/index", maxIndex)
	if err != nil {
		return nil
	}
	return r.parse(raw)
}

func (r *repository) parse(raw []byte) *trackedFiles {
	t := &trackedFiles{depth: r.depth, files: map[string]struct{}{}, dirs: map[string]struct{}{}}
	names, err := indexNames(raw)
	if err != nil {
		return nil
	}
	for _, name := range names {
		t.files[name] = struct{}{}
		for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
			if _, ok := t.dirs[name[:i]]; ok {
				break
			}
			t.dirs[name[:i]] = struct{}{}
		}
	}
	return t
}

// indexNames are the paths in an index, for object names of either length.
func indexNames(raw []byte) ([]string, error) {
	names, err := indexNamesOf(raw, 20)
	if err != nil {
		names, err = indexNamesOf(raw, 32)
	}
	return names, err
}

var errIndex = errors.New("damaged index")

func indexNamesOf(raw []byte, hash int) ([]string, error) {
	const header, fixed = 12, 40 // of an entry: times, ids and size
	if len(raw) < header+hash || string(raw[:4]) != "DIRC" {
		return nil, errIndex
	}
	version, count := binary.BigEndian.Uint32(raw[4:]), int(binary.BigEndian.Uint32(raw[8:]))
	least := fixed + hash + 2
	if version < 2 || version > 4 || count < 0 || count > len(raw)/least {
		return nil, errIndex
	}
	raw = raw[:len(raw)-hash] // its own checksum
	names := make([]string, 0, count)
	last := ""
	for at := header; count > 0; count-- {
		start := at
		if at += least; at > len(raw) {
			return nil, errIndex
		}
		flags := binary.BigEndian.Uint16(raw[at-2:])
		if flags&0x4000 != 0 { // extended
			if at += 2; version < 3 || at > len(raw) {
				return nil, errIndex
			}
		}
		prefix := ""
		if version == 4 {
			drop, n := offsetInt(raw[at:])
			if n == 0 || drop > len(last) {
				return nil, errIndex
			}
			at, prefix = at+n, last[:len(last)-drop]
		}
		end := bytes.IndexByte(raw[at:], 0)
		if end < 0 || end > maxPath {
			return nil, errIndex
		}
		name := prefix + string(raw[at:at+end])
		at += end + 1
		if version < 4 {
			at = start + (at-1-start)&^7 + 8 // padded with 1 to 8 NUL bytes
		}
		// Of a file in conflict there are several entries with one name.
		if name == "" || len(name) > maxPath || name < last || at > len(raw) {
			return nil, errIndex
		}
		if last = name; len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names, nil
}

// offsetInt is git's variable length number; n is 0 for a damaged one.
func offsetInt(b []byte) (v, n int) {
	for n < len(b) && n < 4 {
		c := b[n]
		n++
		v = v<<7 | int(c&0x7f)
		if c&0x80 == 0 {
			return v, n
		}
		v++
	}
	return 0, 0
}

// readAtMost is the content of a file in reach of f, unless it is longer than
// limit.
func (f *FS) readAtMost(abs string, limit int64) ([]byte, error) {
	p, err := f.walk(abs, walkOptions{follow: true})
	if err != nil {
		return nil, err
	}
	defer p.close()
	file, err := openRegular(p)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, unwrapPath(err)
	}
	if int64(len(raw)) > limit {
		return nil, unix.EFBIG
	}
	return raw, nil
}
