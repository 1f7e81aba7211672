package deny

import (
	"context"
	"sync"

	"golang.org/x/sys/unix"
)

// Inodes know a hidden file by any of its names. The zero value is ready to use. It
// looks for what is hidden when it first meets a file with several names, and keeps
// what was there then: use one for one piece of work.
type Inodes struct {
	once sync.Once
	all  bool // nobody can tell: every file with several names counts as hidden
	ids  map[ID]struct{}
}

// Has says whether the open file fd has a further name that l hides. It is false for
// what has one name only, and where l is nil.
func (h *Inodes) Has(ctx context.Context, l *List, fd int) bool {
	if l.Empty() {
		return false
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return true
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink < 2 {
		return false
	}
	h.once.Do(func() { h.look(ctx, l) })
	_, found := h.ids[ID{uint64(st.Dev), uint64(st.Ino)}]
	return found || h.all
}

func (h *Inodes) look(ctx context.Context, l *List) {
	h.ids = map[ID]struct{}{}
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
}
