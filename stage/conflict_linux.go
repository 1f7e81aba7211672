package stage

import (
	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// conflict says what somebody else did to a path since the index was taken. was is
// what the project has there now.
func (s *Stage) conflict(p string, kind Kind, was *unix.Stat_t) string {
	base, known := s.index.files[p]
	switch {
	case s.index.unsure[p] || !s.index.whole && !known:
		return "it is not known what it was when the session started"
	case was == nil && known:
		return "removed in the project meanwhile"
	case was == nil:
		return ""
	case !known:
		return "made in the project meanwhile"
	case sigOf(was) != base:
		if was.Mode&unix.S_IFMT != base.mode&unix.S_IFMT {
			return "replaced in the project meanwhile"
		}
		return "changed in the project meanwhile"
	}
	if was.Mode&unix.S_IFMT == unix.S_IFDIR && kind != Meta {
		return s.conflictBelow(p)
	}
	return ""
}

// asItWas says whether the session has left the mode and attributes of a directory as
// they were when the index was taken: it is in the upper layer for what lies in it, and
// what the project has now is what somebody else made of it.
func (s *Stage) asItWas(p string, up *unix.Stat_t, attributes map[string][]byte) bool {
	base, known := s.index.files[p]
	return known && !s.index.unsure[p] && base.mode == up.Mode && s.index.attributes[p] == attributesSum(attributes)
}

// conflictBelow looks through a directory that is about to go.
func (s *Stage) conflictBelow(p string) string { return s.conflictIn(int(s.root.Fd()), p, p) }

// conflictIn is conflictBelow for the directory that lies at at below dir and is p in
// the project.
func (s *Stage) conflictIn(dir int, at, p string) string {
	fd, err := treecopy.Open(dir, at)
	if err != nil {
		return "it cannot be looked at"
	}
	defer unix.Close(fd)
	why := ""
	err = walkAttributes(fd, p, func(q string, st *unix.Stat_t) {
		base, known := s.index.files[q]
		switch {
		case why != "":
		case s.index.unsure[q]:
			why = "it is not known what " + show(q) + " was when the session started"
		case !known:
			why = show(q) + " was made in the project meanwhile"
		case sigOf(st) != base:
			why = show(q) + " was changed in the project meanwhile"
		}
	}, func(q, sum string) {
		if why == "" && s.index.attributes[q] != sum {
			why = "the attributes of " + show(q) + " were changed in the project meanwhile"
		}
	})
	if err != nil && why == "" {
		why = "it cannot be looked at"
	}
	return why
}
