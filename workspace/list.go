package workspace

import (
	"context"
	"io/fs"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of List.
const (
	defaultListMax = 1000
	maxListMax     = 20000
	maxListDepth   = 64
)

// ListRequest is the input of List.
type ListRequest struct {
	Path  string // a directory, or a single file or link; "" is "."
	Depth int    // levels of directories; 0 is 1, at most maxListDepth
	All   bool   // names that start with a dot too
	Max   int    // most entries; 0 is defaultListMax
}

// Entry is one name of a directory. Links are described, not followed.
type Entry struct {
	Path       string // as other calls take it
	Name       string
	Kind       Kind
	Size       int64
	Mode       fs.FileMode // permission, set-ID and sticky bits, and the type
	ModTime    time.Time
	LinkTarget string
	UID, GID   int
	Links      int
	// Denied says that policy hides the file: only its name and kind are told.
	Denied bool
}

// ListResult is sorted as a tree: every directory is followed by what it holds.
type ListResult struct {
	Path      string
	Entries   []Entry
	Hidden    int  // entries left out because their names start with a dot
	Truncated bool // there were more entries
	Unread    Unread
}

// List lists a directory. Shallow entries come first when there are too many,
// so one large directory does not hide its siblings.
func (f *FS) List(ctx context.Context, req ListRequest) (ListResult, error) {
	if req.Depth < 0 || req.Max < 0 {
		return ListResult{}, fail(codeInvalid, "depth and the number of entries cannot be negative; give numbers above 0")
	}
	if req.Path == "" {
		req.Path = "."
	}
	if req.Depth == 0 {
		req.Depth = 1
	}
	if req.Max == 0 {
		req.Max = defaultListMax
	}
	req.Depth, req.Max = min(req.Depth, maxListDepth), min(req.Max, maxListMax)
	var res ListResult
	err := f.at(req.Path, walkOptions{follow: true}, func(p *resolved) error {
		res = ListResult{Path: p.display()}
		st, err := p.stat()
		if err != nil {
			return err
		}
		if kindOf(st) != KindDirectory {
			res.Entries = []Entry{entryOf(p.fd, p.name, p.display(), st)}
			return nil
		}
		fd, err := openSubdir(p.fd, p.name)
		if err != nil {
			return err
		}
		return f.listTree(ctx, fd, p.display(), p.absolute(), req, &res)
	})
	return res, err
}

// level is a directory waiting to be read.
type level struct {
	fd   int
	path string
	key  []string
}

// listTree reads level by level. It takes ownership of fd; base is the directory
// as shown, at its absolute path.
func (f *FS) listTree(ctx context.Context, fd int, base, at string, req ListRequest, res *ListResult) error {
	type keyed struct {
		Entry
		key []string
	}
	var found []keyed
	hidden := f.hiddenNow(ctx)
	queue := []level{{fd: fd, path: base}}
	defer func() {
		for _, l := range queue {
			unix.Close(l.fd)
		}
	}()
	// Directories of one level are open at once; the number is bounded apart
	// from the number of entries, because descriptors are scarcer.
	const maxOpen = 256
	for depth := 1; depth <= req.Depth && len(queue) > 0; depth++ {
		var next []level
		for len(queue) > 0 {
			l := queue[0]
			entries, more, err := readEntries(ctx, l.fd)
			if err != nil {
				queue = append(queue, next...)
				return err
			}
			res.Truncated = res.Truncated || more
			for _, e := range entries {
				if !req.All && strings.HasPrefix(e.name, ".") || strings.HasPrefix(e.name, tempPrefix) {
					res.Hidden++
					continue
				}
				if len(found) >= req.Max {
					res.Truncated = true
					break
				}
				st, err := statAt(l.fd, e.name)
				if err != nil {
					continue // gone since the directory was read
				}
				key := append(append([]string(nil), l.key...), e.name)
				path := joinDisplay(l.path, e.name)
				if hidden.has(st) || hidden != nil && f.opts.Deny.CoversEntry(filepath.Join(append([]string{at}, l.key...)...), e.name) {
					found = append(found, keyed{Entry{Path: path, Name: e.name, Kind: kindOf(st), Denied: true}, key})
					continue
				}
				found = append(found, keyed{entryOf(l.fd, e.name, path, st), key})
				if kindOf(st) != KindDirectory || depth == req.Depth {
					continue
				}
				if len(next)+len(queue) >= maxOpen {
					res.Truncated = true
					continue
				}
				sub, err := openSubdir(l.fd, e.name)
				if err != nil {
					if unreadable(err) {
						res.Unread.add(path)
					}
					continue
				}
				next = append(next, level{sub, path, key})
			}
			unix.Close(l.fd)
			queue = queue[1:]
		}
		queue = next
	}
	sort.SliceStable(found, func(i, j int) bool { return lessKey(found[i].key, found[j].key) })
	for _, k := range found {
		res.Entries = append(res.Entries, k.Entry)
	}
	return nil
}

func lessKey(a, b []string) bool {
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return len(a) < len(b)
}

func joinDisplay(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

func entryOf(dir int, name, path string, st *unix.Stat_t) Entry {
	_, mtime := statTimes(st)
	e := Entry{
		Path: path, Name: name, Kind: kindOf(st), Size: st.Size, Mode: modeOf(st),
		ModTime: time.Unix(mtime.Unix()), UID: int(st.Uid), GID: int(st.Gid), Links: int(st.Nlink),
	}
	if name == "." {
		e.Name = path
	}
	if e.Kind == KindSymlink {
		e.LinkTarget, _ = readlinkAt(dir, name)
	}
	return e
}

func modeOf(st *unix.Stat_t) fs.FileMode {
	m := fs.FileMode(st.Mode & 0o777)
	for _, b := range [...]struct {
		bit  uint32
		mode fs.FileMode
	}{{unix.S_ISUID, fs.ModeSetuid}, {unix.S_ISGID, fs.ModeSetgid}, {unix.S_ISVTX, fs.ModeSticky}} {
		if uint32(st.Mode)&b.bit != 0 {
			m |= b.mode
		}
	}
	switch kindOf(st) {
	case KindDirectory:
		m |= fs.ModeDir
	case KindSymlink:
		m |= fs.ModeSymlink
	case KindFIFO:
		m |= fs.ModeNamedPipe
	case KindSocket:
		m |= fs.ModeSocket
	case KindDevice:
		m |= fs.ModeDevice
		if st.Mode&unix.S_IFMT == unix.S_IFCHR {
			m |= fs.ModeCharDevice
		}
	}
	return m
}
