package confine

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// own says whether only the process itself can make fd ready: an eventfd, a
// signalfd, a watch, or a pipe or a pair of sockets it holds both ends of.
func (t task) own(fd int) bool {
	target := t.target(fd)
	if strings.HasPrefix(target, "socket:") {
		return t.ownPair(fd, target)
	}
	if strings.HasPrefix(target, "anon_inode:") || target == "/dev/null" {
		return true
	}
	if !strings.HasPrefix(target, "pipe:") {
		return false
	}
	ends := 0
	for _, n := range t.descriptors() {
		if t.target(n) == target {
			ends++
		}
	}
	return ends > 1
}

// ownPair says whether fd is one of two sockets that socketpair(2) gave the process
// and it still holds, by which event loops (asyncio, tokio) wake themselves. The
// kernel tells who made a pair, and numbers its ends in a row. A parent keeps one
// end only of a pair whose other end is a child's.
func (t task) ownPair(fd int, target string) bool {
	if !t.paired(fd) {
		return false
	}
	inode, err := strconv.ParseUint(strings.Trim(target, "socket:[]"), 10, 64)
	if err != nil {
		return false
	}
	for _, n := range t.descriptors() {
		other := t.target(n)
		for _, next := range []uint64{inode - 1, inode + 1} {
			if other == "socket:["+strconv.FormatUint(next, 10)+"]" && t.paired(n) {
				return true
			}
		}
	}
	return false
}

// paired says whether fd is a Unix socket whose other end the process has made.
func (t task) paired(fd int) bool {
	got := borrow(t.pid, fd)
	if got < 0 {
		return false
	}
	defer unix.Close(got)
	domain, err := unix.GetsockoptInt(got, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || domain != unix.AF_UNIX {
		return false
	}
	peer, err := unix.GetsockoptUcred(got, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && int(peer.Pid) == t.pid
}

func (t task) descriptors() []int {
	var out []int
	for _, n := range dirNames(t.dir + "/fd") {
		if fd, err := strconv.Atoi(n); err == nil {
			out = append(out, fd)
		}
	}
	return out
}

// listens says whether fd is a socket that takes connections.
func (t task) listens(fd int) bool {
	if !strings.HasPrefix(t.target(fd), "socket:") {
		return false
	}
	got := borrow(t.pid, fd)
	if got < 0 {
		return false
	}
	defer unix.Close(got)
	v, err := unix.GetsockoptInt(got, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && v != 0
}
