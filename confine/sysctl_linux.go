package confine

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// gapInotify names the gap of a session that may use up its user's inotify
// instances and watches.
const gapInotify = "inotify limits"

// inotifyShare is the part of the user's inotify instances and watches one
// session may have: a quarter, 32 of the usual 128 instances.
const inotifyShare = 4

// readNumber reads a file of one number, 0 when it cannot.
func readNumber(name string) int {
	var b [32]byte
	n, _ := strconv.Atoi(string(bytes.TrimSpace(b[:readSmall(name, b[:])])))
	return n
}

// namespaceSysctls sets what belongs to the user and network namespaces. A host
// that mounts /proc/sys read-only (containers) refuses; the filter then stands
// alone against nested user namespaces, and ports below 1024 stay closed.
func (s *initState) namespaceSysctls() error {
	if err := writeSysctl("/proc/sys/user/max_user_namespaces", "0"); err != nil {
		s.gap("nested user namespaces", err)
	}
	// What a session opens counts against the host user's limit as well, so a
	// session may have a part of it only.
	for _, l := range []struct{ host, own string }{
		{"/proc/sys/fs/inotify/max_user_instances", "/proc/sys/user/max_inotify_instances"},
		{"/proc/sys/fs/inotify/max_user_watches", "/proc/sys/user/max_inotify_watches"},
	} {
		if n := readNumber(l.host); n > 0 {
			if err := writeSysctl(l.own, itoa(max(n/inotifyShare, 1))); err != nil {
				s.gap(gapInotify, err)
				break
			}
		}
	}
	if s.base.Network == sandbox.NetworkHost {
		return nil
	}
	if err := writeSysctl("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"); err != nil {
		s.gap("ports below 1024", err)
	}
	return nil
}

func writeSysctl(name, value string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(value))
	return err
}

// gapHostName names the gap of a sandbox that has the server's host name.
const gapHostName = "host name"

// setHostName gives the session a name of its own. A filter around the server may
// refuse the call, as that of rootless Podman does: the namespace is there all the
// same, and holds a copy of the server's name.
func (s *initState) setHostName() error {
	err := unix.Sethostname([]byte("sandbox"))
	if err == unix.EPERM || err == unix.EACCES || err == unix.ENOSYS {
		s.gap(gapHostName, err)
		return nil
	}
	return err
}
