package confine

import (
	"strings"

	"mcp-sandbox/sandbox"
)

// fileID tells a file from all others as long as it is there.
type fileID struct{ dev, ino uint64 }

// protectedSet is what must not change, by the names all of the sandbox sees.
// It is built by a look at what exists (protectPaths) and never changed after.
type protectedSet struct {
	// covered names and all below them do not change.
	covered map[string]bool
	// parents are the directories and links on the way to them. A directory may
	// be made there, and filled with what is not covered; nothing may take their
	// place, and they do not move.
	parents map[string]bool
	// ids are the parents that exist, by which they are found under any name.
	ids map[fileID]string
	// pinned are the names that are mounts of their own, links the targets of
	// the links on the way, missing the covered names that did not exist.
	pinned  []string
	links   map[string]string
	missing []string
}

func newProtectedSet() *protectedSet {
	return &protectedSet{covered: map[string]bool{}, parents: map[string]bool{}, ids: map[fileID]string{}, links: map[string]string{}}
}

// verb is what a call does to a name.
type verb uint8

const (
	verbOpen      verb = iota // makes a file, or opens one for writing
	verbMakeDir               // makes a directory
	verbPlace                 // puts a finished thing there: rename, link, symlink, bind
	verbRemove                // removes what is not a directory
	verbRemoveDir             // removes an empty directory
	verbTake                  // moves it away, or gives it a second name
)

// judge says why a call may not do v to path, "" if it may.
func (p *protectedSet) judge(v verb, path string) sandbox.DenialKind {
	if p == nil {
		return ""
	}
	path = foldName(path)
	for q := path; len(q) > 1; {
		if p.covered[q] {
			return sandbox.DenialProtected
		}
		i := strings.LastIndexByte(q, '/')
		if i <= 0 {
			break
		}
		q = q[:i]
	}
	// An empty directory holds nothing protected; the mount over one that does
	// keeps it.
	if p.parents[path] && v != verbMakeDir && v != verbRemoveDir {
		return sandbox.DenialProtected
	}
	return ""
}

// judgeAt is judge for a name in a directory that may be reached under more
// names than the one it was reached by.
func (p *protectedSet) judgeAt(v verb, at *place) sandbox.DenialKind {
	if why := p.judge(v, at.path); why != "" || p == nil {
		return why
	}
	if dir, ok := p.ids[at.id]; ok {
		return p.judge(v, join(dir, strings.TrimRight(at.name, "/")))
	}
	return ""
}

// foldName maps names that some file system takes for the same to one string:
// letter case, and the code points that such file systems leave out
// (CVE-2014-9390).
func foldName(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return strings.ToLower(strings.Map(foldRune, s))
		}
	}
	return strings.ToLower(s)
}

func foldRune(r rune) rune {
	switch {
	case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
		return -1
	case r == 0x17f: // long s: its upper case is S
		return 's'
	case r == 0x212a: // Kelvin sign
		return 'k'
	}
	return r
}
