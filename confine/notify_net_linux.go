package confine

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// Connections are no more refused here than without: there is nothing in the
// session's network to reach but what it may. Init looks at them to tell which one
// could not come about, and why.

// The lengths of an address that networkFilter takes for one of IPv4 or IPv6: of
// sockaddr_in, sockaddr_in6 and sockaddr_storage. Those of unix sockets, which are
// far more frequent, have others.
var inetAddressLengths = [...]uint32{unix.SizeofSockaddrInet4, unix.SizeofSockaddrInet6, 128}

// networkFilter is the part of supervisorFilter for connections, and for sockets of
// the network where there is none: the main filter leaves those to init, which
// refuses them.
func networkFilter(c supervisedCall, network sandbox.Network) []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
	)
	var arg int
	var values []uint32
	switch {
	case c.kind == callConnect && (network == sandbox.NetworkLoopback || network == sandbox.NetworkAllow):
		arg, values = 2, inetAddressLengths[:]
	case c.kind == callSocket && network == sandbox.NetworkNone:
		arg, values = 0, []uint32{unix.AF_INET, unix.AF_INET6}
	default:
		return nil
	}
	n := uint8(len(values))
	prog := []unix.SockFilter{{Code: equal, K: uint32(c.nr), Jf: n + 3}, {Code: load, K: uint32(dataArgs + 8*arg)}}
	for i, v := range values {
		prog = append(prog, unix.SockFilter{Code: equal, K: v, Jt: n - uint8(i)})
	}
	return append(prog, unix.SockFilter{Code: ret, K: retAllow}, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_USER_NOTIF})
}

// supervisorMissing says that init could not install it.
func supervisorMissing(gaps []string) bool {
	missing := gapsByName(gaps)
	_, files := missing[gapSupervisor]
	_, conns := missing[gapConns]
	return files || conns
}

// refuseSockets takes the place of the supervisor where it could not be installed.
func refuseSockets() []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
	)
	return []unix.SockFilter{
		{Code: load, K: dataNr},
		{Code: equal, K: unix.SYS_SOCKET, Jf: 4},
		{Code: load, K: dataArgs},
		{Code: equal, K: unix.AF_INET, Jt: 1},
		{Code: equal, K: unix.AF_INET6, Jf: 1},
		{Code: ret, K: retErrno(unix.EAFNOSUPPORT)},
		{Code: ret, K: retAllow},
	}
}

// explainConnect tells the server of a connection that nothing in the session's
// network takes.
func (t *supervisorThread) explainConnect(q *request) {
	to, ok := t.address(q)
	if !ok || t.s.reachable(to) || !t.stream(q) {
		return
	}
	why := sandbox.DenialName
	if t.s.base.Network == sandbox.NetworkAllow {
		why = sandbox.DenialNetwork
	}
	t.s.denied(q.who, to.String(), why)
}

// address reads the address of a connect(2).
func (t *supervisorThread) address(q *request) (netip.AddrPort, bool) {
	b := t.text[:unix.SizeofSockaddrInet6]
	b = b[:min(len(b), int(uint32(q.args[q.flags])))]
	n, err := q.who.memory(q.args[q.path], b)
	if err != nil || n < unix.SizeofSockaddrInet4 {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(b[2:])
	switch binary.NativeEndian.Uint16(b) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port), true
	case unix.AF_INET6:
		if n == unix.SizeofSockaddrInet6 {
			return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), port), true
		}
	}
	return netip.AddrPort{}, false
}

// stream says whether a call's socket is one of TCP: programs connect those of UDP
// only to learn which address they would have.
func (t *supervisorThread) stream(q *request) bool {
	fd, err := q.who.descriptor(int(int32(q.args[q.dir])))
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && kind == unix.SOCK_STREAM
}

// reachable says whether a connection to an address finds the session itself or
// something that the server has opened.
func (s *initState) reachable(to netip.AddrPort) bool {
	a := to.Addr()
	if to.Port() == 0 || a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return true
	}
	g := s.gate
	if g == nil {
		return false
	}
	own := []netip.Addr{netip.AddrFrom4(sessionAddress), netip.AddrFrom16(sessionAddress6)}
	if g.ops == nil {
		own = []netip.Addr{netip.AddrFrom4(gateAddress)}
	}
	for _, o := range own {
		if a == o {
			return true
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ops != nil && (a.Is4() || g.six) {
		a = netip.Addr{} // of every address there
	}
	return g.open[netip.AddrPortFrom(a, to.Port())]
}
