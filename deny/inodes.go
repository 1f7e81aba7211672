package deny

import (
	"context"

	"golang.org/x/sys/unix"
)

// Inodes are what the patterns hide as inodes, so that a hidden file is known by any
// of its names. Make them when the names are used: they hold what was there then.
type Inodes struct {
	all bool // nobody can tell: every file with several names counts as hidden
	ids map[ID]struct{}
}

// Inodes looks for what is hidden now. A nil List hides nothing.
func (l *List) Inodes(ctx context.Context) Inodes {
	if l.Empty() {
		return Inodes{}
	}
	h := Inodes{ids: map[ID]struct{}{}}
	for _, p := range l.Paths() {
		var st unix.Stat_t
		if unix.Stat(p, &st) == nil {
			h.ids[ID{uint64(st.Dev), uint64(st.Ino)}] = struct{}{}
		}
	}
	found, err := l.Scan(ctx)
	h.all = err != nil || found.Partial
	for _, m := range found.Matches {
		h.ids[m.ID] = struct{}{}
	}
	return h
}

// Has says whether the open file fd has a further name that is hidden. It is false
// for what has one name only.
func (h Inodes) Has(fd int) bool {
	if h.ids == nil {
		return false
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return true
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink < 2 {
		return false
	}
	_, found := h.ids[ID{uint64(st.Dev), uint64(st.Ino)}]
	return found || h.all
}
