package workspace

import (
	"os"
	"path"
	"strings"
)

// Git obeys a directory that holds HEAD, objects and refs like one that is called
// .git. Commands' changes of one are staged (package confine). The file tools
// change it where it is: they make none, and change nothing of one that runs
// something.

// bareObeyed are the names there by which git is led to programs, files and other
// directories.
var bareObeyed = map[string]bool{
	"config": true, "config.worktree": true, "commondir": true, "hooks": true, "info": true, "modules": true, "worktrees": true,
	"remotes": true, "branches": true, "objects": true, "refs": true, "head": true,
}

// isDotGit: git obeys a directory of that name whatever it holds, and the list of
// protected names has what runs something there.
func isDotGit(name string) bool { return foldName(name) == ".git" }

// guardsBare says whether a change of the absolute path would make a git directory
// below a root, or change what git obeys in one.
func (f *FS) guardsBare(abs string) bool {
	for _, r := range f.roots {
		p := f.patternsOf(r)
		if p == nil || p.empty() {
			continue
		}
		rel, ok := below(r.real, abs)
		if !ok || rel == "" {
			continue
		}
		comps := split(rel)
		for i, c := range comps {
			name := foldName(c)
			if !bareObeyed[name] {
				continue
			}
			if i > 0 && isDotGit(comps[i-1]) {
				continue
			}
			dir := path.Join(r.real, strings.Join(comps[:i], "/"))
			has := func(name string) bool { _, err := os.Lstat(path.Join(dir, name)); return err == nil }
			switch {
			case i == len(comps)-1 && name == "commondir" && !has(c):
				return true
			case i == len(comps)-1 && name == "head" && !has(c):
				// A command can add the third of the names at any moment.
				if has("objects") || has("refs") {
					return true
				}
			case name == "objects" || name == "refs":
				if i > 0 && has("HEAD") && (!has(c) || has("objects") && has("refs")) {
					return true
				}
			case has("HEAD") && (i > 0 && name != "head" || has("objects") && has("refs")):
				return true // a command can add what is missing at any moment
			}
		}
	}
	return false
}

// completesBare says whether the directory name, just made in dir, makes a git
// directory of it: a command can have added HEAD since guardsBare looked.
func (f *FS) completesBare(p *resolved, name string) bool {
	if name = foldName(name); name != "objects" && name != "refs" || len(p.comps) == 0 || isDotGit(p.comps[len(p.comps)-1]) {
		return false
	}
	if prot := f.patternsOf(p.root); prot == nil || prot.empty() {
		return false
	}
	_, err := statAt(p.fd, "HEAD")
	return err == nil
}

// completesBareWith says whether a member of an archive, at comps below the
// absolute path final, makes a git directory together with what is there and the
// members before it (kinds).
func (f *FS) completesBareWith(final string, comps []string, kinds map[string]Kind) bool {
	for i, c := range comps {
		name := foldName(c)
		if name != "head" && name != "objects" && name != "refs" || !f.protects(final) {
			continue
		}
		at := strings.Join(comps[:i], "/")
		if isDotGit(path.Base(path.Join(final, at))) {
			continue
		}
		has := func(want string) bool {
			if foldName(want) == name {
				return true
			}
			if kinds[path.Join(at, want)] != KindUnknown {
				return true
			}
			_, err := os.Lstat(path.Join(final, at, want))
			return err == nil
		}
		if has("HEAD") && has("objects") && has("refs") {
			return true
		}
	}
	return false
}

// protects says whether anything is protected where the absolute path lies.
func (f *FS) protects(abs string) bool {
	for _, r := range f.roots {
		if _, ok := below(r.real, abs); ok {
			if p := f.patternsOf(r); p != nil && !p.empty() {
				return true
			}
		}
	}
	return false
}
