package session

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// gitSeen says what changed of the files that git outside obeys, at the levels
// whose commands write git directories where they are. It prevents nothing: a
// person who knows can look before running git there.
type gitSeen struct {
	mu   sync.Mutex
	seen map[string]gitPrint // by path from the workspace
}

// gitPrint tells one state of a file from the next. No program can set the time
// of change.
type gitPrint struct {
	mode, ino        uint64
	size, sec, nanos int64
}

// Bounds of one look: directories below the workspace that are searched for
// repositories, and how deep. A look at all of them takes up to 17 ms.
const (
	maxGitLook   = 200
	gitLookDepth = 3
)

// lookAtGit finds what git obeys in the repositories of the workspace.
func (s *Session) lookAtGit() (map[string]gitPrint, error) {
	root, err := os.OpenRoot(s.root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if fi, err := root.Stat("."); err != nil || !sameDir(fi, s.rootFD) {
		return nil, fmt.Errorf("the workspace is another directory")
	}
	out := map[string]gitPrint{}
	// Breadth first: what lies near the root is likeliest to be gone into.
	level := []string{"."}
	for depth, left := 0, maxGitLook; depth <= gitLookDepth && len(level) > 0; depth++ {
		var next []string
		for _, dir := range level {
			if left--; left < 0 {
				break
			}
			entries, err := fs.ReadDir(root.FS(), dir)
			if err != nil {
				continue
			}
			bare := 0
			for _, e := range entries {
				p := path.Join(dir, e.Name())
				switch e.Name() {
				case ".git":
					if e.IsDir() {
						printGitDir(root, p, out)
					} else {
						printFile(root, p, out)
					}
					continue
				case "HEAD", "objects", "refs":
					bare++
				}
				if e.IsDir() {
					next = append(next, p)
				}
			}
			if bare == 3 {
				printGitDir(root, dir, out)
			}
		}
		level = next
	}
	return out, nil
}

// printGitDir takes the files of a git directory, and of those of its submodules
// and worktrees.
func printGitDir(root *os.Root, dir string, out map[string]gitPrint) {
	for _, name := range []string{"config", "config.worktree", "commondir", "info/attributes"} {
		printFile(root, path.Join(dir, name), out)
	}
	hooks := path.Join(dir, "hooks")
	if fi, err := root.Lstat(hooks); err == nil && !fi.IsDir() {
		printFile(root, hooks, out) // a link
	}
	entries, _ := fs.ReadDir(root.FS(), hooks)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".sample") {
			printFile(root, path.Join(hooks, e.Name()), out)
		}
	}
	for _, below := range []string{"modules", "worktrees"} {
		entries, _ := fs.ReadDir(root.FS(), path.Join(dir, below))
		for _, e := range entries {
			if len(out) < 50*maxGitLook && e.IsDir() {
				printGitDir(root, path.Join(dir, below, e.Name()), out)
			}
		}
	}
}

func printFile(root *os.Root, p string, out map[string]gitPrint) {
	fi, err := root.Lstat(p)
	if err != nil {
		return
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	sec, nanos := changeTime(st)
	out[p] = gitPrint{mode: uint64(st.Mode), ino: st.Ino, size: st.Size, sec: sec, nanos: nanos}
}

// gitChanges is a sentence on what changed since the last look, "" if nothing did.
func (s *Session) gitChanges() string {
	g := s.gitSeen
	if g == nil {
		return ""
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now, err := s.lookAtGit()
	if err != nil {
		return ""
	}
	var names []string
	for _, p := range slices.Sorted(maps.Keys(now)) {
		if was, ok := g.seen[p]; !ok || was != now[p] {
			names = append(names, p)
		}
	}
	g.seen = now
	if len(names) == 0 {
		return ""
	}
	s.log.Warn("files that git outside obeys have changed", "paths", names)
	more := ""
	if n := len(names) - maxKeptNames; n > 0 {
		names, more = names[:maxKeptNames], fmt.Sprintf(" and %d more", n)
	}
	return "git outside the sandbox obeys what changed here, so tell the user to look at it before running git there: " + oneLine(strings.Join(names, ", ")) + more
}

// watchGit remembers how the repositories are at the start.
func (s *Session) watchGit() {
	if seen, err := s.lookAtGit(); err == nil {
		s.gitSeen = &gitSeen{seen: seen}
	}
}
