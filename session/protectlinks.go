package session

import (
	"os"
	"path"
	"path/filepath"
	"strings"
)

// gitObeys are the names in a git directory that git runs or goes by.
var gitObeys = []string{"config", "config.worktree", "commondir", "hooks", "info/attributes", "remotes", "branches"}

// maxLinkHops is how many links the kernel follows in one name (path_resolution(7)).
const maxLinkHops = 40

// maxHookLinks bounds the links in one directory of hooks that are followed. Git
// knows fewer than 30 hooks.
const maxHookLinks = 100

// linkedFrom are the places of the workspace, relative to root, that the git
// directories dirs lead to through links: a directory of hooks, a hook or a
// configuration that is kept next to the files of the project. Commands get a stage of
// a git directory, but what its links lead to lies outside of the stage.
func linkedFrom(root string, dirs []string) (out []string) {
	add := func(dir, name string) {
		for _, p := range linkTrail(filepath.Join(root, dir), name) {
			if rel, err := filepath.Rel(root, p); err == nil && rel != "." && filepath.IsLocal(rel) {
				out = append(out, rel)
			}
		}
	}
	for _, dir := range dirs {
		for _, name := range gitObeys {
			add(dir, name)
		}
		hooks, err := os.ReadDir(filepath.Join(root, dir, "hooks"))
		if err != nil {
			continue
		}
		for _, h := range hooks[:min(len(hooks), maxHookLinks)] {
			if h.Type()&os.ModeSymlink != 0 {
				add(dir, path.Join("hooks", h.Name()))
			}
		}
	}
	return out
}

// linkTrail follows name in dir, which has no links in it. It returns the links that
// were met outside of dir, and where the name ends if that is outside, whether
// anything is there or not. Nothing is returned for a name without links.
func linkTrail(dir, name string) (trail []string) {
	at, rest, hops := dir, strings.Split(name, "/"), 0
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		at = filepath.Join(at, part)
		target, err := os.Readlink(at)
		if err != nil {
			continue
		}
		if hops++; hops > maxLinkHops {
			return trail
		}
		if !within(at, dir) {
			trail = append(trail, at)
		}
		if at = filepath.Dir(at); filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	if hops > 0 && !within(at, dir) {
		trail = append(trail, at)
	}
	return trail
}

// nestedGitDirs are the directories .git of the workspace, relative to root, within
// the bounds of a look.
func nestedGitDirs(root string) (out []string) {
	level, left := []string{"."}, maxGitLook
	for depth := 0; depth <= gitLookDepth && len(level) > 0; depth++ {
		var next []string
		for _, dir := range level {
			if left--; left < 0 {
				return out
			}
			entries, err := os.ReadDir(filepath.Join(root, dir))
			if err != nil {
				continue
			}
			for _, e := range entries {
				switch p := path.Join(dir, e.Name()); {
				case !e.IsDir():
				case e.Name() == ".git":
					out = append(out, p)
				default:
					next = append(next, p)
				}
			}
		}
		level = next
	}
	return out
}
