package snapshot

import (
	"context"

	"golang.org/x/sys/unix"
)

// A command can take the right to read from what is its user's own: chmod -R 0.
// No checkpoint then holds it, and no restore could compare it. The user may give
// the right back, so a restore does, of what the target holds.

// maxUnlock bounds how often: each time the next level of directories can be seen.
const maxUnlock = 64

// unlocked is an object whose mode a restore has changed to see it.
type unlocked struct {
	path string
	mode uint32
	ino  uint64
}

// unlock makes readable what the walk could not read, the target has, and the
// user owns; often that is nothing.
func (r *Repo) unlock(ctx context.Context, target *record, scope string, walk *scan) ([]unlocked, error) {
	want, rules := map[string]bool{}, r.rules(ctx)
	for _, s := range walk.skipped {
		if s.Reason == skipUnreadable && (within(s.Path, scope) || within(scope, s.Path)) && !rules.Protects(s.Path) {
			want[s.Path] = true
		}
	}
	if len(want) == 0 {
		return nil, nil
	}
	m, err := r.openManifest(ctx, target)
	if err != nil {
		return nil, err
	}
	defer m.close()
	var out []unlocked
	for {
		e, err := m.next()
		if err != nil || e == nil {
			return out, err
		}
		if !want[e.path] || e.path == "" {
			continue
		}
		if u, ok := r.unlockOne(e); ok {
			out = append(out, u)
		}
	}
}

func (r *Repo) unlockOne(e *entry) (unlocked, bool) {
	dir, name := splitPath(e.path)
	fd, err := r.tree.openDir(dir)
	if err != nil {
		return unlocked{}, false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || r.tree.user != nil && int(st.Uid) != r.uid {
		return unlocked{}, false
	}
	mode, more := uint32(st.Mode), uint32(0)
	switch {
	case mode&unix.S_IFMT == unix.S_IFDIR && e.kind == kindDir:
		more = 0o500
	case mode&unix.S_IFMT == unix.S_IFREG && e.kind == kindFile && st.Nlink == 1:
		more = 0o400
	}
	if mode&more == more || chmodAt(fd, name, mode&dirModeMask|more) != nil {
		return unlocked{}, false
	}
	return unlocked{e.path, mode & dirModeMask, st.Ino}, true
}

// lock takes the rights away again.
func (r *Repo) lock(list []unlocked) {
	for i := len(list) - 1; i >= 0; i-- {
		dir, name := splitPath(list[i].path)
		fd, err := r.tree.openDir(dir)
		if err != nil {
			continue
		}
		if st, err := lstatAt(fd, name); err == nil && st.ino == list[i].ino {
			_ = chmodAt(fd, name, list[i].mode)
		}
		unix.Close(fd)
	}
}
