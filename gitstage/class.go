package gitstage

import (
	"regexp"
	"slices"
	"strings"
	"sync"
)

// class is what a path of a git directory is to this package.
type class byte

const (
	classKept   class = iota // stays in the session, and is told of
	classSilent              // stays in the session: nobody would miss it
	classLoose               // one object
	classPack                // a pack or what belongs to it
	classRef
	classPacked // packed-refs
	classLog
	classHead  // HEAD and the like: one ref or name
	classIndex // the index
	classText  // text that git shows or goes by, and never runs
	classUnit  // a file of a state that is published as a whole
	classConfig
)

// files are the names at the top of a git directory, with why each is data.
var files = map[string]class{
	"HEAD": classHead, "ORIG_HEAD": classHead, "MERGE_HEAD": classText, "CHERRY_PICK_HEAD": classHead, "REVERT_HEAD": classHead,
	"REBASE_HEAD": classHead, "BISECT_HEAD": classHead, "BISECT_EXPECTED_REV": classHead, "AUTO_MERGE": classHead,
	"FETCH_HEAD": classText, // lines of an object, a mark and a remark

	"packed-refs": classPacked, "index": classIndex, "shallow": classText, "config": classConfig, "description": classText,
	"info/exclude": classText, "info/sparse-checkout": classText, // patterns of paths

	"COMMIT_EDITMSG": classText, "MERGE_MSG": classText, "MERGE_MODE": classText, "MERGE_RR": classText, "SQUASH_MSG": classText,
	"TAG_EDITMSG": classText, "NOTES_EDITMSG": classText,
	"BISECT_LOG": classText, "BISECT_NAMES": classText, "BISECT_START": classText, "BISECT_TERMS": classText, "BISECT_ANCESTORS_OK": classText,

	// Derived, or of the running git alone.
	"objects/info/packs": classSilent, "info/refs": classSilent, "objects/info/commit-graph": classSilent, "gc.pid": classSilent, "gc.log": classSilent,
	"objects/pack/multi-pack-index": classSilent, "COMMIT_EDITMSG~": classSilent, "gitk.cache": classSilent, "BISECT_RUN": classSilent,
}

var (
	looseName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^objects/[0-9a-f]{2}/([0-9a-f]{38}|[0-9a-f]{62})$`) })
	packName  = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^objects/pack/pack-([0-9a-f]{40}|[0-9a-f]{64})\.(pack|idx)$`)
	})
)

// units are states that are published whole or not at all.
var units = []string{"rebase-merge", "rebase-apply", "sequencer"}

// classify judges a path of a git directory. What it does not know stays.
func classify(p string) class {
	if c, ok := files[p]; ok {
		return c
	}
	top, rest, _ := strings.Cut(p, "/")
	switch {
	case strings.HasSuffix(p, ".lock"), strings.Contains(p, "/tmp_"), strings.HasPrefix(p, "objects/incoming-"):
		return classSilent
	case looseName().MatchString(p):
		return classLoose
	case packName().MatchString(p):
		return classPack
	case top == "objects" && (strings.HasPrefix(rest, "pack/") || strings.HasPrefix(rest, "info/commit-graphs")):
		return classSilent
	case top == "refs" && validRef(p):
		return classRef
	case top == "logs" && (rest == "HEAD" || validRef(rest)):
		return classLog
	case slices.Contains(units, top) && rest != "":
		return classUnit
	case top == "hooks" && strings.HasSuffix(p, ".sample"), top == "rr-cache", top == "lfs":
		return classSilent
	}
	return classKept
}

// validRef says whether git could have made a ref of that name
// (git-check-ref-format(1)), and it is none of this package.
func validRef(name string) bool {
	// A replacement has git outside show another object under a name that is published.
	if !strings.HasPrefix(name, "refs/") || strings.HasPrefix(name, RefPrefix) || strings.HasPrefix(name, "refs/replace/") || len(name) > 500 {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' || strings.HasSuffix(part, ".lock") || strings.HasSuffix(part, ".") || strings.Contains(part, "..") || strings.Contains(part, "@{") {
			return false
		}
		for _, c := range []byte(part) {
			if c <= ' ' || c == 0x7f || strings.IndexByte(`~^:?*[\`, c) >= 0 {
				return false
			}
		}
	}
	return true
}

// isOID says whether s names an object.
func isOID(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' && c < 'a' || c > 'f' {
			return false
		}
	}
	return true
}

// refValue reads the content of a ref: an object or "ref: refs/...", "" for
// anything else.
func refValue(b []byte) string {
	s := strings.TrimRight(string(b), "\n\r \t")
	if isOID(s) {
		return s
	}
	if target, ok := strings.CutPrefix(s, "ref: "); ok && validRef(strings.TrimSpace(target)) {
		return "ref: " + strings.TrimSpace(target)
	}
	return ""
}
