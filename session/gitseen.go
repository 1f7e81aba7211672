package session

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"mcp-sandbox/gitstage"
)

// gitPrint tells one state of a file from the next. No program can set the time of
// change; see gitSeen.unsure for what it does not show.
type gitPrint struct {
	mode, ino        uint64
	size, sec, nanos int64
}

// Bounds of one look: directories below the workspace that are searched for
// repositories, and how deep. A look at all of them takes up to 17 ms. The first and
// the last one of a session go further.
const (
	maxGitLook, gitLookDepth         = 200, 3
	maxLastGitLook, lastGitLookDepth = 5000, 12
)

// gitLook is one look at what git obeys in a workspace.
type gitLook struct {
	root  *os.Root
	files map[string]gitPrint // by path from the workspace
	dirs  map[string]bool     // git directories
	bare  map[string]bool     // those of them with another name than .git
	known map[string]bool     // looked at in any case
}

// lookAtGit finds what git obeys in the repositories of the workspace: in those that
// are known, true for bare ones, and in others within the bounds, so that none is
// pushed out of view by making many. The caller closes it.
func (s *Session) lookAtGit(known map[string]bool, most, deepest int) (*gitLook, error) {
	root, err := os.OpenRoot(s.root)
	if err != nil {
		return nil, err
	}
	if fi, err := root.Stat("."); err != nil || !sameDir(fi, s.rootFD) {
		root.Close()
		return nil, fmt.Errorf("the workspace is another directory")
	}
	l := &gitLook{root: root, files: map[string]gitPrint{}, dirs: map[string]bool{}, bare: map[string]bool{}, known: known}
	for _, dir := range slices.Sorted(maps.Keys(known)) {
		if fi, err := root.Lstat(dir); err == nil && fi.IsDir() {
			l.gitDir(dir)
			if known[dir] {
				l.bare[dir] = true
			}
		}
	}
	// Breadth first: what lies near the root is likeliest to be gone into.
	level := []string{"."}
	for depth, left := 0, most; depth <= deepest && len(level) > 0; depth++ {
		var next []string
		for _, dir := range level {
			if left--; left < 0 {
				break
			}
			next = append(next, l.directory(dir)...)
		}
		level = next
	}
	return l, nil
}

func (l *gitLook) close() { l.root.Close() }

// directory takes what git obeys of one directory, and gives those below it.
func (l *gitLook) directory(dir string) (below []string) {
	entries, err := fs.ReadDir(l.root.FS(), dir)
	if err != nil {
		return nil
	}
	bare := 0
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		switch e.Name() {
		case ".git":
			if e.IsDir() {
				l.gitDir(p)
			} else {
				l.file(p)
			}
			continue
		case "HEAD", "objects", "refs":
			bare++
		}
		if e.IsDir() {
			below = append(below, p)
		}
	}
	if bare == 3 {
		l.gitDir(dir)
		l.bare[dir] = true
	}
	return below
}

// obeyedFiles are those of a git directory that name programs or other files. The
// index names paths to write, which only a checkout does.
var obeyedFiles = []string{"config", "config.worktree", "commondir", "info/attributes", "index", backLink}

// backLink is the file of a linked worktree's git directory that names the .git file
// of its files.
const backLink = "gitdir"

// gitDir takes the files of a git directory, and of those of its submodules and
// worktrees. A repository in the index is gone into by git at its root, however
// deep it lies.
func (l *gitLook) gitDir(dir string) {
	if _, known := l.known[dir]; l.dirs[dir] || !known && len(l.files) > 50*maxGitLook {
		return
	}
	l.dirs[dir] = true
	for _, name := range obeyedFiles {
		l.file(path.Join(dir, name))
	}
	for _, name := range append([]string{"hooks", "remotes", "branches"}, gitstage.States()...) {
		sub := path.Join(dir, name)
		if fi, err := l.root.Lstat(sub); err != nil || !fi.IsDir() {
			l.file(sub) // a link
			continue
		}
		entries, _ := fs.ReadDir(l.root.FS(), sub)
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".sample") {
				l.file(path.Join(sub, e.Name()))
			}
		}
	}
	l.subDirs(path.Join(dir, "modules"), 0)
	l.subDirs(path.Join(dir, "worktrees"), 7)
	if index, err := readSmall(l.root, path.Join(dir, "index"), maxGitIndex); err == nil && path.Base(dir) == ".git" {
		for _, p := range gitstage.Gitlinks(index) {
			p = path.Join(path.Dir(dir), p)
			if fi, err := l.root.Lstat(path.Join(p, ".git")); err == nil && fi.IsDir() {
				l.gitDir(path.Join(p, ".git"))
			} else if err == nil {
				l.file(path.Join(p, ".git"))
			}
		}
	}
}

// maxGitIndex bounds an index that is read at the end of a command, in bytes.
const maxGitIndex = 32 << 20

// subDirs goes into the modules or worktrees of a git directory; a module's name may
// have slashes.
func (l *gitLook) subDirs(dir string, depth int) {
	if fi, err := l.root.Lstat(dir); err != nil || !fi.IsDir() {
		if err == nil {
			l.file(dir)
		}
		return
	}
	entries, _ := fs.ReadDir(l.root.FS(), dir)
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		_, err := l.root.Lstat(path.Join(p, "HEAD"))
		switch {
		case !e.IsDir():
			if e.Type()&fs.ModeSymlink != 0 {
				l.file(p)
			}
		case err == nil:
			l.gitDir(p)
		case depth < 8:
			l.subDirs(p, depth+1)
		}
	}
}

func (l *gitLook) file(p string) {
	if print, ok := printFile(l.root, p); ok {
		l.files[p] = print
	}
}

func printFile(root *os.Root, p string) (gitPrint, bool) {
	fi, err := root.Lstat(p)
	if err != nil {
		return gitPrint{}, false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return gitPrint{}, false
	}
	sec, nanos := changeTime(st)
	return gitPrint{mode: uint64(st.Mode), ino: st.Ino, size: st.Size, sec: sec, nanos: nanos}, true
}

// outOfView adds what was seen before and lies beyond the bounds now.
func (l *gitLook) outOfView(before map[string]gitPrint) {
	for p := range before {
		if _, ok := l.files[p]; !ok {
			l.file(p)
		}
	}
}

func (l *gitLook) isGitDir(dir string) bool {
	_, err := l.root.Lstat(path.Join(dir, "HEAD"))
	return err == nil
}

// changedFrom are the paths that are another in l than in before.
func (l *gitLook) changedFrom(before map[string]gitPrint) (paths []string) {
	for p, print := range l.files {
		if was, ok := before[p]; !ok || was != print {
			paths = append(paths, p)
		}
	}
	for p := range before {
		if _, ok := l.files[p]; !ok {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}
