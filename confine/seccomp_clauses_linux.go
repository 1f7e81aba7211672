package confine

import "golang.org/x/sys/unix"

// The argument rules of the table. Each returns the clauses for one session's
// options; no clauses at all means the call is not looked at.

// cloneNewFlags are the namespace flags of clone(2). CLONE_NEWTIME is missing:
// its bit is part of the exit signal there and it is unshare's alone.
const cloneNewFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

func cloneClauses(seccompOptions) []clause {
	return []clause{deny(unix.EPERM, anySet(0, cloneNewFlags))}
}

func unshareClauses(seccompOptions) []clause {
	return []clause{deny(unix.EPERM, anySet(0, cloneNewFlags|unix.CLONE_NEWTIME))}
}

// Personalities of linux/personality.h that programs use for good reasons.
const (
	perLinux         = 0x0
	perLinux32       = 0x8     // setarch linux32: uname says i686
	perUname26       = 0x20000 // uname says 2.6
	addrNoRandomize  = 0x40000 // debuggers start their program so
	personalityQuery = 0xffffffff
)

func personalityClauses(seccompOptions) []clause {
	return []clause{
		permit(equal(0, perLinux)),
		permit(equal(0, perLinux32)),
		permit(equal(0, perUname26)),
		permit(equal(0, perUname26|perLinux32)),
		permit(equal(0, addrNoRandomize)),
		permit(equal(0, personalityQuery)),
		deny(unix.EPERM),
	}
}

// targetPid1Clauses refuses signals addressed to pid 1. They are one of three
// defences: init has threads with ids of their own, and kill(2) takes a thread
// id, so the Landlock scope and init's signal dispositions must hold, too.
func targetPid1Clauses(seccompOptions) []clause {
	return []clause{deny(unix.EPERM, equal(0, 1))}
}

// fcntlClauses: F_SETOWN_EX takes its pid from memory and is refused whole.
func fcntlClauses(seccompOptions) []clause {
	return []clause{
		deny(unix.EPERM, equal(1, unix.F_SETOWN), equal(2, 1)),
		deny(unix.EPERM, equal(1, unix.F_SETOWN_EX)),
	}
}

func prlimitClauses(o seccompOptions) []clause {
	switch {
	case o.LandlockOnly:
		// Pids are the host's here: only the caller's own limits.
		return []clause{deny(unix.EPERM, notEqual(0, 0))}
	case o.ProtectPid1:
		return []clause{deny(unix.EPERM, equal(0, 1))}
	}
	return nil
}

// Pids are the host's at the landlock level, and scheduling is not what Landlock
// looks at, so these calls may name the caller by 0 only. A thread that names
// itself by its number (pthread_setaffinity_np, pthread_setschedparam) is
// refused with the rest, as a filter does not know whose a number is.
func ownSchedulingClauses(seccompOptions) []clause {
	return []clause{deny(unix.EPERM, notEqual(0, 0))}
}

func setpriorityClauses(seccompOptions) []clause {
	return []clause{deny(unix.EPERM, equal(0, unix.PRIO_USER)), deny(unix.EPERM, notEqual(1, 0))}
}

// ioprioWhoUser is IOPRIO_WHO_USER of linux/ioprio.h: all of a user's processes.
const ioprioWhoUser = 3

func ioprioClauses(seccompOptions) []clause {
	return []clause{deny(unix.EPERM, equal(0, ioprioWhoUser)), deny(unix.EPERM, notEqual(1, 0))}
}

const (
	sxid = unix.S_ISUID | unix.S_ISGID
	// creating are the open flags that make the mode argument count; without
	// them its register holds whatever was there.
	creating = unix.O_CREAT | (unix.O_TMPFILE &^ unix.O_DIRECTORY)
)

func sxidArg1Clauses(seccompOptions) []clause { return []clause{deny(unix.EPERM, anySet(1, sxid))} }

func sxidArg2Clauses(seccompOptions) []clause { return []clause{deny(unix.EPERM, anySet(2, sxid))} }

func openClauses(o seccompOptions) []clause { return openModeClauses(o, 1) }

func openatClauses(o seccompOptions) []clause { return openModeClauses(o, 2) }

func openModeClauses(o seccompOptions, flags int) []clause {
	c := []clause{deny(unix.EPERM, anySet(flags, creating), anySet(flags+1, sxid))}
	if o.LandlockOnly {
		// Opening for reading and truncating at once needs no write right before
		// Landlock ABI 3; no sane program does it (POSIX leaves it undefined).
		c = append(c, deny(unix.EPERM, masked(flags, unix.O_ACCMODE|unix.O_TRUNC, unix.O_TRUNC)))
	}
	return c
}

func mknodClauses(seccompOptions) []clause { return mknodModeClauses(1) }

func mknodatClauses(seccompOptions) []clause { return mknodModeClauses(2) }

func mknodModeClauses(arg int) []clause {
	return []clause{
		deny(unix.EPERM, masked(arg, unix.S_IFMT, unix.S_IFCHR)),
		deny(unix.EPERM, masked(arg, unix.S_IFMT, unix.S_IFBLK)),
		deny(unix.EPERM, anySet(arg, sxid)),
	}
}

func chownClauses(o seccompOptions) []clause { return ownerClauses(o, 1) }

func fchownatClauses(o seccompOptions) []clause { return ownerClauses(o, 2) }

// ownerClauses: -1 leaves an owner as it is (chown(2)).
func ownerClauses(o seccompOptions, arg int) []clause {
	if !o.OneUser {
		return nil
	}
	const keep = ^uint32(0)
	var c []clause
	for _, uid := range []uint32{keep, uint32(o.UID)} {
		for _, gid := range []uint32{keep, uint32(o.GID)} {
			c = append(c, permit(equal(arg, uid), equal(arg+1, gid)))
		}
	}
	return append(c, deny(unix.EPERM))
}

const (
	tioclinux = 0x541c // asm-generic/ioctls.h, same on amd64 and arm64
	tioccons  = 0x541d
	tiocsetd  = 0x5423
	fiosetown = 0x8901
	siocspgrp = 0x8902
)

func ioctlClauses(o seccompOptions) []clause {
	c := []clause{
		deny(unix.EPERM, equal(1, unix.TIOCSTI)),
		deny(unix.EPERM, equal(1, tioclinux)),
		deny(unix.EPERM, equal(1, tiocsetd)),
		deny(unix.EPERM, equal(1, tioccons)),
	}
	if o.guardPid1() {
		// F_SETOWN under other names, with the pid in memory.
		c = append(c, deny(unix.EPERM, equal(1, fiosetown)), deny(unix.EPERM, equal(1, siocspgrp)))
	}
	return c
}

// sockTypeMask is SOCK_TYPE_MASK of linux/net.h; the bits above are
// SOCK_CLOEXEC and SOCK_NONBLOCK.
const sockTypeMask = 0xf

// socketClauses: a list of what is permitted, the rest refused with the answer
// of a kernel built without it, which programs take as "try the next family".
//
//	AF_UNIX      any type; not at the landlock level, where a path reaches the
//	             host's docker, D-Bus and agent sockets
//	AF_INET, 6   TCP, UDP, ping; not with network none; at the landlock level
//	             only with network host, for there is no network namespace below
//	AF_NETLINK   routes only (getifaddrs); as AF_INET
//
// Raw and packet sockets, MPTCP, SCTP, SMC, UDP-Lite and L2TP are not in the
// list: Landlock's TCP rules and most firewalls do not see them.
func socketClauses(o seccompOptions) []clause {
	var c []clause
	if !o.LandlockOnly {
		c = append(c, permit(equal(0, unix.AF_UNIX)))
	}
	if o.SocketsByInit {
		// Of which it tells; without a supervisor refuseSockets does it.
		c = append(c, permit(equal(0, unix.AF_INET)), permit(equal(0, unix.AF_INET6)))
	}
	inet := o.Network != "none"
	if o.LandlockOnly {
		inet = o.Network == "host"
	}
	if inet {
		for _, family := range []uint32{unix.AF_INET, unix.AF_INET6} {
			stream := []argTest{equal(0, family), masked(1, sockTypeMask, unix.SOCK_STREAM)}
			dgram := []argTest{equal(0, family), masked(1, sockTypeMask, unix.SOCK_DGRAM)}
			for _, proto := range []uint32{unix.IPPROTO_IP, unix.IPPROTO_TCP} {
				c = append(c, permit(append(stream[:2:2], equal(2, proto))...))
			}
			for _, proto := range []uint32{unix.IPPROTO_IP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6} {
				c = append(c, permit(append(dgram[:2:2], equal(2, proto))...))
			}
			c = append(c,
				deny(unix.EPROTONOSUPPORT, stream...),
				deny(unix.EPROTONOSUPPORT, dgram...),
				// The answer a process without CAP_NET_RAW gets anyway.
				deny(unix.EPERM, equal(0, family)))
		}
		c = append(c,
			permit(equal(0, unix.AF_NETLINK), equal(2, unix.NETLINK_ROUTE)),
			deny(unix.EPROTONOSUPPORT, equal(0, unix.AF_NETLINK)))
	}
	return append(c, deny(unix.EAFNOSUPPORT))
}

// socketpairClauses: local pairs only. A connected datagram socket takes
// another destination in sendto and connect, so at the landlock level a
// datagram pair would reach /dev/log and every other datagram socket by path;
// stream and seqpacket pairs cannot be re-aimed (unix(7)).
func socketpairClauses(o seccompOptions) []clause {
	if !o.LandlockOnly {
		return []clause{permit(equal(0, unix.AF_UNIX)), deny(unix.EAFNOSUPPORT)}
	}
	return []clause{
		permit(equal(0, unix.AF_UNIX), masked(1, sockTypeMask, unix.SOCK_STREAM)),
		permit(equal(0, unix.AF_UNIX), masked(1, sockTypeMask, unix.SOCK_SEQPACKET)),
		deny(unix.ESOCKTNOSUPPORT, equal(0, unix.AF_UNIX)),
		deny(unix.EAFNOSUPPORT),
	}
}
