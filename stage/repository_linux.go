package stage

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// repositoryNames are what git looks for to take a directory for a repository
// (is_git_directory in its setup.c); such a one has programs in it like .git.
var repositoryNames = []string{"HEAD", "objects", "refs"}

func isRepository(upper, lower int) bool {
	for _, n := range repositoryNames {
		var st unix.Stat_t
		if unix.Fstatat(upper, n, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && !isWhiteout(&st) {
			continue
		}
		if lower < 0 || unix.Fstatat(lower, n, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			return false
		}
	}
	return true
}

// holdsProtected says whether a directory of the project, which is to go, has
// something protected in it; also of one that cannot be looked at.
func (s *Stage) holdsProtected(p string) bool {
	fd, err := treecopy.Open(int(s.root.Fd()), p)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	found, parts := false, map[string]int{}
	err = walk(fd, p, func(q string, _ *unix.Stat_t) {
		if found {
			return
		}
		if dir, name := path.Split(q); slices.Contains(repositoryNames, name) {
			parts[dir]++
			found = parts[dir] == len(repositoryNames)
		}
		found = found || s.protects(q)
	})
	return found || err != nil
}

// inGit says whether a path lies in a git directory: its files mean something
// together, and some of them name programs.
func inGit(p string) bool {
	for part := range strings.SplitSeq(p, "/") {
		if strings.EqualFold(part, ".git") {
			return true
		}
	}
	return false
}

// What a publisher does not write of a git directory is applied path by path, as a
// person agrees to each. The repository of the project stays whole all the same: what is
// named comes before what names it, and no object is changed or removed.

// inRepository is the path within the repository around it, "" for none.
func (c *Change) inRepository() string {
	if c.repo == "." {
		return c.Path
	}
	if in, ok := strings.CutPrefix(c.Path, c.repo+"/"); ok && c.repo != "" {
		return in
	}
	// One that is not whole yet.
	if _, in, ok := strings.Cut("/"+c.Path, "/.git/"); ok {
		return in
	}
	return ""
}

// gitRank orders the parts of git directories as git itself writes them: what is
// named before what names it.
func (c *Change) gitRank() int {
	switch top, _, _ := strings.Cut(c.inRepository(), "/"); top {
	case "":
		return 0
	case "objects":
		return 1
	case "HEAD", "index":
		return 3
	}
	return 2
}

// keepObject leaves what the project has of objects alone: they are named by what they
// hold, so another content is a broken one, and git gc removes what nobody needs.
func (c *Change) keepObject() {
	in := c.inRepository()
	if c.Kind == Added || c.Unfit != "" || in != "objects" && !strings.HasPrefix(in, "objects/") || strings.HasPrefix(in, "objects/info/") || c.Type == "directory" && c.Kind == Meta {
		return
	}
	c.Unfit = "git objects of the project stay as they are; git gc in the project tidies them"
}

// namedLater are the changes that others in their repository name: objects, and the
// packed refs that stand for those that are gone.
func namedLater(all []Change) map[string][]*Change {
	out := map[string][]*Change{}
	for i := range all {
		c := &all[i]
		if in := c.inRepository(); c.Unfit == "" && (in == "packed-refs" || c.Type == "file" && c.Kind == Added && strings.HasPrefix(in, "objects/")) {
			out[c.repo] = append(out[c.repo], c)
		}
	}
	return out
}

// comesFirst is a path that has to be in the project before c is, "" for none.
func (a *applier) comesFirst(c *Change) string {
	in := c.inRepository()
	if c.gitRank() < 2 {
		return ""
	}
	left := a.named[c.repo]
	for len(left) > 0 && a.done[left[0].Path] {
		left = left[1:]
	}
	a.named[c.repo] = left
	for _, x := range left {
		packed := x.inRepository() == "packed-refs"
		if !a.done[x.Path] && (!packed || c.Kind == Removed && strings.HasPrefix(in, "refs")) && x.Path != c.Path {
			return x.Path
		}
	}
	return ""
}
