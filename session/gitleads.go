package session

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"mcp-sandbox/gitconfig"
	"mcp-sandbox/gitstage"
)

// A .git file and core.worktree name a directory, to which git goes through links.
// What a session makes of them is accepted as long as it reads as it leads.

// leadsToSeen gives the text that a new .git file may have: one that leads to a
// worktree or module of a git directory that is looked at, through nothing but
// directories above the file. Any other could be moved, and a link be made in its
// place. It is "" for a file that leads elsewhere.
func (s *Session) leadsToSeen(l *gitLook, p string, f *gitFile) string {
	target, ok := strings.CutPrefix(f.text, "gitdir: ")
	target = strings.TrimRight(target, "\n")
	dir := path.Dir(p)
	if !ok || !f.mode.IsRegular() || path.Clean(target) != target || !l.plainWay(dir) {
		return ""
	}
	rel, err := filepath.Rel(s.root, absFrom(filepath.Join(s.root, dir), target))
	if err != nil || !l.dirs[rel] {
		return ""
	}
	base, sub, ok := strings.Cut("/"+rel, "/.git/")
	if !ok || !strings.HasPrefix(sub, "worktrees/") && !strings.HasPrefix(sub, "modules/") {
		return ""
	}
	if base == "" {
		return f.text
	}
	up, ok := strings.CutPrefix("/"+dir, base+"/")
	if !ok {
		return ""
	}
	return "gitdir: " + strings.Repeat("../", strings.Count(up, "/")+1) + ".git/" + sub + "\n"
}

// leadsBack says whether a worktree's gitdir names a .git file of the workspace: git
// outside writes to that file (git worktree repair), and removes it with its directory
// (git worktree remove).
func (s *Session) leadsBack(l *gitLook, dir, text string) bool {
	name := strings.TrimRight(text, "\n")
	rel, err := filepath.Rel(s.root, absFrom(filepath.Join(s.root, dir), name))
	return err == nil && path.Clean(name) == name && path.Base(name) == ".git" && filepath.IsLocal(rel) && rel != ".git" &&
		!slices.Contains(strings.Split(path.Dir(rel), "/"), ".git") && l.plainWay(path.Dir(rel))
}

// plainWay says whether nothing on the way to a directory of the workspace is a
// link. What is missing is none.
func (l *gitLook) plainWay(dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		fi, err := l.root.Lstat(dir)
		if err == nil && !fi.IsDir() || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// ledAway forgets what was accepted and leads elsewhere now, to be judged again, and
// gives its paths.
func (g *gitSeen) ledAway(s *Session, l *gitLook) (paths []string) {
	for p := range g.made {
		f := readGitFile(l.root, p)
		if f == nil || g.was[p] == nil || *f != *g.was[p] {
			continue // gone, or judged as a change
		}
		ok := true
		if path.Base(p) == ".git" {
			ok = s.leadsToSeen(l, p, f) == f.text
		} else if path.Base(p) == backLink {
			ok = s.leadsBack(l, path.Dir(p), f.text)
		} else if c, err := gitconfig.Parse(f.text); err == nil {
			tree := c.Last("core", "", "worktree")
			ok = tree == "" || s.gitTree(l, path.Dir(p), tree)
		}
		if !ok {
			delete(g.was, p)
			delete(g.made, p)
			paths = append(paths, p)
		}
	}
	return paths
}

// gitTree says whether a module in dir may have its files in tree.
func (s *Session) gitTree(l *gitLook, dir, tree string) bool {
	rel, err := filepath.Rel(s.root, absFrom(filepath.Join(s.root, dir), tree))
	return err == nil && path.Clean(tree) == tree && filepath.IsLocal(rel) && rel != "." &&
		!slices.Contains(strings.Split(rel, "/"), ".git") && l.plainWay(dir) && l.plainWay(rel)
}

func (s *Session) gitConfigOptions(l *gitLook, dir string, made bool) gitstage.ConfigOptions {
	writable := append([]string{s.root, s.temp, s.scratch}, s.config.Write...)
	return gitstage.ConfigOptions{
		Made: made, Bare: l.bare[dir], Module: strings.Contains(dir, "/modules/"),
		// Not every directory that the session makes is looked at.
		Writable: func(p string) bool {
			return leadsInto(p, writable)
		},
		Tree: func(tree string) bool { return s.gitTree(l, dir, tree) },
	}
}

// leadsInto says whether a path is in one of dirs, also by links on the way. Of /proc
// and /dev each process has its own, and what cannot be looked at could lead anywhere.
func leadsInto(p string, dirs []string) bool {
	in := func(p string) bool {
		return slices.ContainsFunc(append([]string{"/proc", "/dev"}, dirs...), func(d string) bool { return d != "" && (p == d || within(p, d)) })
	}
	if in(p) {
		return true
	}
	for at, rest := p, ""; ; at, rest = filepath.Dir(at), filepath.Join(filepath.Base(at), rest) {
		switch _, err := os.Lstat(at); {
		case err == nil:
			real, err := filepath.EvalSymlinks(at)
			return err != nil || in(filepath.Join(real, rest))
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) || at == "/":
			return true
		}
	}
}
