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

// makeProc makes the session's /proc, which is hung in its root later and read-only
// by then. Where it may not be writable at all (the host's is not), mountProc makes it.
func (s *initState) makeProc() error {
	s.proc = -1
	if !s.base.HostProc {
		if fd, err := newFS("proc", attrRW|unix.MOUNT_ATTR_NOEXEC); err == nil {
			s.proc = fd
		}
	}
	return nil
}

// sysctlDir is where the settings of init's namespaces are, as a descriptor and the
// path from there. The kernel keeps the names that were looked up in a /proc for each
// namespace in one list: in the host's, a look-up passes those of all other sessions.
func (s *initState) sysctlDir() (dir int, prefix string) {
	if s.proc >= 0 {
		return s.proc, "sys/"
	}
	return unix.AT_FDCWD, "/proc/sys/"
}

// namespaceSysctls sets what belongs to the user and network namespaces. A host
// that mounts /proc/sys read-only (containers) refuses; the filter then stands
// alone against nested user namespaces, and ports below 1024 stay closed.
func (s *initState) namespaceSysctls() error {
	dir, prefix := s.sysctlDir()
	if err := writeSysctl(dir, prefix+"user/max_user_namespaces", "0"); err != nil {
		s.gap("nested user namespaces", err)
	}
	// What a session opens counts against the host user's limit as well, so a
	// session may have a part of it only.
	for _, l := range []struct{ host, own string }{
		{"/proc/sys/fs/inotify/max_user_instances", "user/max_inotify_instances"},
		{"/proc/sys/fs/inotify/max_user_watches", "user/max_inotify_watches"},
	} {
		if n := readNumber(l.host); n > 0 {
			if err := writeSysctl(dir, prefix+l.own, itoa(max(n/inotifyShare, 1))); err != nil {
				s.gap(gapInotify, err)
				break
			}
		}
	}
	if s.base.Network == sandbox.NetworkHost {
		return nil
	}
	if err := writeSysctl(dir, prefix+"net/ipv4/ip_unprivileged_port_start", "0"); err != nil {
		s.portsClosed = true
		s.gap(gapLowPorts, err)
	}
	return nil
}

// holdNames opens the socket for names where init could not do so when it is asked
// for it: without its capabilities, and with ports below 1024 closed, as in a
// container whose /proc/sys is read-only.
func (s *initState) holdNames() error {
	if !s.portsClosed || s.base.Network != sandbox.NetworkLoopback {
		return nil
	}
	fd, err := listenSocket(listenNames, gateAddress, namesPort, false)
	if err != nil {
		s.gap("names", err)
		return nil
	}
	s.names = fd
	return nil
}

func writeSysctl(dir int, name, value string) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(value))
	return err
}

// gapLowPorts names the gap of a sandbox whose commands cannot listen on ports below
// 1024: where /proc/sys is read-only, and on some kernels that a session's uid 0 is not
// mapped in (seen on Ubuntu's 6.8.0-31, not on Debian's 6.1 and 6.12). There the setting
// seems to have no owner, until "sysctl: always initialize i_uid/i_gid" (Linux 6.11).
const gapLowPorts = "ports below 1024"

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
