package confine

import (
	"os"

	"golang.org/x/sys/unix"
)

// usable says whether the session's user may read, or write, what a grant names.
// A root server asks the mode bits for it, and knows nothing of access lists.
func usable(p string, id identity, write bool) bool {
	if os.Geteuid() != 0 {
		want := uint32(unix.R_OK)
		if write {
			want = unix.W_OK
		}
		return unix.Faccessat(unix.AT_FDCWD, p, want, unix.AT_EACCESS) == nil
	}
	var st unix.Stat_t
	if id.uid == 0 || unix.Stat(p, &st) != nil {
		return true
	}
	bit := uint32(0o4)
	if write {
		bit = 0o2
	}
	uid, gid := int(st.Uid), int(st.Gid)
	if id.owner.needed() && uid == id.owner.uid.disk {
		uid = id.owner.uid.inside
	}
	if id.owner.needed() && gid == id.owner.gid.disk {
		gid = id.owner.gid.inside
	}
	switch {
	case uid == id.uid:
		bit <<= 6
	case gid == id.gid:
		bit <<= 3
	}
	return st.Mode&bit != 0
}
