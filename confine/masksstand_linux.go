package confine

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maskedPaths are what is hidden or protected, to be looked at.
type maskedPaths struct {
	pinned, missing []string          // see protectedSet
	links           map[string]string // as there
	masks           []string          // hidden paths
}

// maskedPaths are everything hidden or protected as it was last found.
func (s *initState) maskedPaths() maskedPaths {
	set := s.protected.Load()
	v := maskedPaths{pinned: set.pinned, missing: set.missing, links: set.links}
	for _, c := range s.cfg.Masks {
		v.masks = append(v.masks, c.Path)
	}
	return v
}

// masksIntact says whether everything hidden or protected is as it was when it
// was last looked at.
func (s *initState) masksIntact() bool {
	return !s.hide.Wild() && s.stands(s.maskedPaths()) // with a pattern, a new file may match
}

func (s *initState) stands(v maskedPaths) bool {
	for _, p := range v.pinned {
		if ok, there := mounted(p); !ok || !there {
			return false
		}
	}
	for _, p := range v.missing {
		if _, there := mounted(p); there {
			return false
		}
	}
	for p, target := range v.links {
		if now, err := s.root.readlink(p); err != nil || now != target {
			return false
		}
	}
	for _, p := range v.masks {
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFLNK && !s.root.masked(&st) {
			return false
		}
	}
	return true
}

// mounted says whether p is the root of a mount, and whether it exists at all.
func mounted(p string) (ok, there bool) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, p, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st)
	return err == nil && (st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 || st.Mode&unix.S_IFMT == unix.S_IFLNK), err == nil
}

// unwatched keeps of v what the watch cannot vouch for, and adds the watches that the
// rest needs. names gets the names by which events are told to matter.
func (w *watch) unwatched(v maskedPaths, names map[string]bool) maskedPaths {
	seen := map[string]vouch{}
	split := func(paths []string) (left []string) {
		for _, p := range paths {
			for part := range strings.SplitSeq(p, "/") {
				names[foldName(part)] = true
			}
			if !w.over(p, seen) {
				left = append(left, p)
			}
		}
		return left
	}
	out := maskedPaths{pinned: split(v.pinned), missing: split(v.missing), masks: split(v.masks), links: map[string]string{}}
	for p, target := range v.links {
		if len(split([]string{p})) > 0 {
			out.links[p] = target
		}
	}
	return out
}

// vouch is what is known of the names in a directory.
type vouch uint8

const (
	vouchNone   vouch = iota
	vouchMounts       // those that are mounts stay what they are
	vouchAll          // a change comes as an event, or cannot be
)

// over says whether nothing can come to be at p, and nothing there or on the way can be
// replaced, without an event.
func (w *watch) over(p string, seen map[string]vouch) bool {
	dir := path.Dir(p)
	v, ok := seen[dir]
	if !ok {
		if dir == "/" || w.over(dir, seen) {
			v = w.vouches(dir)
		}
		seen[dir] = v
	}
	if v == vouchMounts {
		isMount, _ := mounted(p)
		return isMount
	}
	return v == vouchAll
}

// vouches is asked about a directory of which all above is known not to change.
func (w *watch) vouches(dir string) vouch {
	var st unix.Stat_t
	switch err := unix.Lstat(dir, &st); {
	case err == unix.ENOENT:
		return vouchAll // it would have to be made, in the one above
	case err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return vouchNone
	case st.Dev == w.own:
		// Of the file system that init has made: nobody outside reaches it, and a
		// command cannot move what is a mount.
		if unix.Access(dir, unix.W_OK) == nil {
			return vouchMounts
		}
		return vouchAll
	case !w.add(dir) || !tellsAll(dir):
		return vouchNone
	}
	return vouchAll
}

// tellsAll says whether every change of a name in dir passes this kernel's directory,
// and so comes as an event: not on a network file system or one in user space, where
// another host or a program makes it, and not on an overlay, whose layers can be changed
// below it.
func tellsAll(dir string) bool {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return false
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return true
	}
	return false
}
