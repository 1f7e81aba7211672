package session

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"mcp-sandbox/gitconfig"
)

// gitDirs are the directories that git uses at the root of a workspace and that
// are not its directory .git: those of a linked worktree, of a submodule's working
// tree, of init --separate-git-dir and of alternates.
type gitDirs struct {
	own       []string // git writes there: a git directory, or the common one
	alternate []string // objects of other repositories
}

// maxAlternates bounds the object directories that are shown, and how deep one
// names the next (git follows 5).
const maxAlternates, alternatesDepth = 16, 5

// gitDirsOf finds the git directories of a root. What lies outside of the
// workspace becomes readable inside, so a name that a session could have written
// is not enough: the directory must name this working tree in its turn, where git
// has it do so, be a git directory, and belong to the owner of the workspace.
func gitDirsOf(root string, stateDirs []string) (g gitDirs) {
	defer func() { g.addBare(root) }()
	dir, err := gitDirOf(root)
	if err != nil {
		if _, err := os.Lstat(filepath.Join(root, ".git")); err != nil && isGitDir(root) {
			// A bare repository: next to its objects is the rest of the workspace.
			g.own = append(g.own, filepath.Join(root, "objects"), filepath.Join(root, "config"))
			g.alternates(filepath.Join(root, "objects"), root, 0)
		}
		return g
	}
	common := dir
	if text := smallFile(filepath.Join(dir, "commondir")); text != "" && dir != filepath.Join(root, ".git") {
		if common, err = filepath.EvalSymlinks(absFrom(dir, text)); err != nil || filepath.Dir(dir) != filepath.Join(common, "worktrees") ||
			!samePlace(absFrom(dir, smallFile(filepath.Join(dir, "gitdir"))), filepath.Join(root, ".git")) {
			return g
		}
	} else if tree := configuredTree(dir); tree != "" && !samePlace(absFrom(dir, tree), root) {
		return g
	}
	if common != filepath.Join(root, ".git") {
		if !isGitDir(common) || !sameOwner(common, root) || within(root, common) || root == common || filepath.Dir(common) == "/" ||
			slices.ContainsFunc(stateDirs, func(s string) bool { return within(s, common) || within(common, s) || s == common }) {
			return g
		}
		g.own = append(g.own, common)
	}
	g.alternates(filepath.Join(common, "objects"), root, 0)
	return g
}

// maxBareLook and bareLookDepth bound the directories below the root that are looked
// into for bare repositories. Such a look takes about a millisecond. One that lies
// further off is staged in part, by its first change.
const maxBareLook, bareLookDepth = 100, 3

// addBare adds the git directories below the root that have another name than .git,
// so that they are staged whole.
func (g *gitDirs) addBare(root string) {
	level := []string{root}
	for depth, left := 0, maxBareLook; depth < bareLookDepth && len(level) > 0; depth++ {
		var next []string
		for _, dir := range level {
			if left--; left < 0 {
				return
			}
			entries, err := os.ReadDir(dir)
			if err != nil {
				continue
			}
			for _, e := range entries {
				p := filepath.Join(dir, e.Name())
				switch {
				case !e.IsDir() || e.Name() == ".git" || slices.Contains(g.own, p):
				case isGitDir(p):
					g.own = append(g.own, p)
				default:
					next = append(next, p)
				}
			}
		}
		level = next
	}
}

// alternates adds the object directories that objects names (gitrepository-layout(5)).
func (g *gitDirs) alternates(objects, root string, depth int) {
	for line := range strings.Lines(smallFile(filepath.Join(objects, "info", "alternates"))) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || len(g.alternate) >= maxAlternates || depth >= alternatesDepth {
			continue
		}
		dir, err := filepath.EvalSymlinks(absFrom(objects, line))
		if err != nil || filepath.Base(dir) != "objects" || !isGitDir(filepath.Dir(dir)) || within(dir, root) || slices.Contains(g.alternate, dir) {
			continue
		}
		if !slices.ContainsFunc(g.own, func(o string) bool { return within(dir, o) }) {
			g.alternate = append(g.alternate, dir)
		}
		g.alternates(dir, root, depth+1)
	}
}

// outside are those that are not in the workspace.
func (g *gitDirs) outside(root string) []string {
	return slices.DeleteFunc(slices.Concat(g.own, g.alternate), func(p string) bool { return within(p, root) })
}

// gitDirOf is where the .git of a root leads.
func gitDirOf(root string) (string, error) {
	name := filepath.Join(root, ".git")
	fi, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	if fi.IsDir() {
		return filepath.EvalSymlinks(name)
	}
	target, ok := strings.CutPrefix(smallFile(name), "gitdir: ")
	if !ok {
		return "", errors.New("no git file")
	}
	return filepath.EvalSymlinks(absFrom(root, target))
}

func absFrom(dir, p string) string {
	if p = strings.TrimRight(p, "\n"); filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(dir, p)
}

// smallFile reads a regular file of one line or a few, "" for anything else.
func smallFile(name string) string {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() || fi.Size() > 64<<10 {
		return ""
	}
	b, _ := io.ReadAll(io.LimitReader(f, 64<<10))
	return string(b)
}

// configuredTree is core.worktree of a git directory.
func configuredTree(dir string) string {
	f, err := gitconfig.Parse(smallFile(filepath.Join(dir, "config")))
	if err != nil {
		return ""
	}
	return f.Last("core", "", "worktree")
}

func isGitDir(dir string) bool {
	for _, name := range []string{"HEAD", "objects", "refs"} {
		fi, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || fi.IsDir() != (name != "HEAD") {
			return false
		}
	}
	return true
}

func samePlace(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

func sameOwner(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	if err1 != nil || err2 != nil {
		return false
	}
	s, ok1 := x.Sys().(*syscall.Stat_t)
	t, ok2 := y.Sys().(*syscall.Stat_t)
	return ok1 && ok2 && s.Uid == t.Uid
}
