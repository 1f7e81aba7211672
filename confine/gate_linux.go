package confine

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// A gate is a second network namespace, to which the only route out of the
// session's leads. Every address is its own there, so a listener takes the
// connections to all of them, and the server, which holds it, learns from the
// socket which one was meant. Nothing else is in it: no process, no address of the
// host, no way on.

const (
	// gapGate names the gap of a session whose gate is its own loopback, gapNames
	// that of one without any.
	gapGate  = "gate"
	gapNames = "names"
	// gapGate6 is that of a gate without IPv6.
	gapGate6 = "gate6"

	// gateIndex is the interfaces' number, above those of devices that some kernels
	// put into every new namespace.
	gateIndex = 1000
	loIndex   = 1
	// vethPeer is VETH_INFO_PEER of linux/veth.h.
	vethPeer = 1
)

var (
	gateAddress     = netip.MustParseAddr(GateAddress).As4()
	sessionAddress  = netip.MustParseAddr(SessionAddress).As4()
	gateAddress6    = netip.MustParseAddr("2001:2::1").As16()
	sessionAddress6 = netip.MustParseAddr(SessionAddress6).As16()
)

// noVeth has tests see what a kernel without veth gets, noIPv6 what one without
// IPv6, and noNames one that takes no further address of the loopback.
var noVeth, noIPv6, noNames bool

// gate is init's side of it.
type gate struct {
	// ops runs functions on the thread that is in the gate's namespace; nil where
	// there is none.
	ops  chan func()
	made chan error
	six  bool // takes connections to IPv6 addresses

	mu   sync.Mutex
	open map[netip.AddrPort]bool // listeners that the server has; the zero address is every one
}

// makeGate begins to make the gate while the base is built.
func (s *initState) makeGate() error {
	switch s.base.Network {
	case sandbox.NetworkAllow:
	case sandbox.NetworkLoopback:
		// Names are answered there, none with an address.
		if err := s.gateOnLoopback(32); err != nil {
			s.gap(gapNames, err)
			return nil
		}
		s.gate = &gate{open: map[netip.AddrPort]bool{}}
		return nil
	default:
		return nil
	}
	s.gate = &gate{ops: make(chan func()), made: make(chan error, 1), open: map[netip.AddrPort]bool{}}
	if s.base.NoVeth {
		s.gate.made <- unix.EOPNOTSUPP
		return nil
	}
	go func() {
		// Never unlocked: the thread stays in the gate and ends with this goroutine.
		runtime.LockOSThread()
		six, err := buildGate(s.base.NoIPv6)
		s.gate.six = six == nil
		if err == nil && six != nil {
			s.gap(gapGate6, six)
		}
		s.gate.made <- err
		if err != nil {
			return
		}
		for f := range s.gate.ops {
			f()
		}
	}()
	return nil
}

// gateMade waits for the gate. A kernel without veth gets names on the loopback.
func (s *initState) gateMade() error {
	if s.gate == nil || s.gate.made == nil {
		return nil
	}
	err := <-s.gate.made
	if err == nil {
		return nil
	}
	s.gate.ops = nil
	if lerr := s.gateOnLoopback(15); lerr != nil {
		s.gap(gapNames, lerr)
	} else {
		s.gap(gapGate, err)
	}
	return nil
}

func netlinkSocket() (int, error) {
	return unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
}

// buildGate moves the calling thread into a new network namespace and ties that
// to the session's by a veth pair. six is why it takes no connections to IPv6
// addresses.
func buildGate(noIPv6 bool) (six, err error) {
	session, err := netlinkSocket()
	if err != nil {
		return nil, fmt.Errorf("routing socket: %w", err)
	}
	defer unix.Close(session)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	// A host that routes hands that on to new namespaces. There is nowhere to route
	// to from here, and nothing else to answer pings for.
	for _, v := range [][2]string{
		{"ipv4/ip_forward", "0"}, {"ipv4/icmp_echo_ignore_all", "1"}, {"ipv6/conf/all/forwarding", "0"}, {"ipv6/icmp/echo_ignore_all", "1"},
	} {
		// The host's /proc: the session's becomes read-only meanwhile. That fails in
		// containers, and without IPv6.
		_ = writeSysctl(unix.AT_FDCWD, "/proc/sys/net/"+v[0], v[1])
	}
	inside, err := netlinkSocket()
	if err != nil {
		return nil, fmt.Errorf("routing socket: %w", err)
	}
	defer unix.Close(inside)

	peer := nested(vethPeer, linkHeader(gateIndex, 0, 0),
		rtText(unix.IFLA_IFNAME, "eth0"), rtNumber(unix.IFLA_NET_NS_PID, uint32(os.Getpid())))
	var pair rtRequests
	pair.add(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, linkHeader(gateIndex, 0, 0),
		rtText(unix.IFLA_IFNAME, "gate"),
		nested(unix.IFLA_LINKINFO, nil, rtText(unix.IFLA_INFO_KIND, "veth"), nested(unix.IFLA_INFO_DATA, nil, peer)))
	pair.address(gateIndex, gateAddress, 30)
	pair.up(loIndex)
	pair.withoutLinkLocal(gateIndex)
	pair.up(gateIndex)
	// Not in the table of local addresses, which wins over the way back.
	pair.defaultRoute(unix.AF_INET, unix.RTN_LOCAL, unix.RT_SCOPE_HOST, rtNumber(unix.RTA_OIF, loIndex))
	if err := pair.run(inside); err != nil {
		return nil, fmt.Errorf("veth pair: %w", err)
	}

	var way rtRequests
	way.withoutLinkLocal(gateIndex)
	way.keepLocalhost()
	way.address(gateIndex, sessionAddress, 30)
	way.up(gateIndex)
	// By one neighbour: a route to the link itself would have the kernel look for
	// each address, in a table that all of the host shares.
	way.defaultRoute(unix.AF_INET, unix.RTN_UNICAST, unix.RT_SCOPE_UNIVERSE, rtAttr{unix.RTA_GATEWAY, gateAddress[:]}, rtNumber(unix.RTA_OIF, gateIndex))
	if err := way.run(session); err != nil {
		return nil, fmt.Errorf("route to the gate: %w", err)
	}
	if noIPv6 {
		return unix.EAFNOSUPPORT, nil
	}
	return buildGate6(inside, session), nil
}

// buildGate6 does the same for IPv6, which a host may be without.
func buildGate6(inside, session int) error {
	var pair, way rtRequests
	pair.address6(gateIndex, gateAddress6, 126)
	pair.defaultRoute(unix.AF_INET6, unix.RTN_LOCAL, unix.RT_SCOPE_UNIVERSE, rtNumber(unix.RTA_OIF, loIndex))
	if err := pair.run(inside); err != nil {
		return err
	}
	way.address6(gateIndex, sessionAddress6, 126)
	way.defaultRoute(unix.AF_INET6, unix.RTN_UNICAST, unix.RT_SCOPE_UNIVERSE, rtAttr{unix.RTA_GATEWAY, gateAddress6[:]}, rtNumber(unix.RTA_OIF, gateIndex))
	return way.run(session)
}

// keepLocalhost has programs go on looking for localhost at ::1, where servers
// such as Node's listen: with AI_ADDRCONFIG glibc leaves IPv6 addresses out once
// an interface has an address of IPv4 besides 127.0.0.1 and none has one of IPv6
// besides ::1.
func (r *rtRequests) keepLocalhost() { r.linkLocal(loIndex) }

// gateOnLoopback gives the session's loopback the address where names are asked
// for, and with a shorter prefix those of names: on such a device all of it is
// local. With an address besides 127.0.0.1 glibc looks for those of IPv4 also when
// it is asked for kinds that are configured.
func (s *initState) gateOnLoopback(bits uint8) error {
	if s.base.NoNames {
		return unix.EPERM
	}
	fd, err := netlinkSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var r rtRequests
	r.keepLocalhost()
	r.address(loIndex, gateAddress, bits)
	return r.run(fd)
}

// gateKind is what init's gaps say of the gate.
func gateKind(n sandbox.Network, gaps []string) Gate {
	missing := gapsByName(gaps)
	_, none := missing[gapNames]
	_, loopback := missing[gapGate]
	switch {
	case none || n != sandbox.NetworkAllow && n != sandbox.NetworkLoopback:
		return GateNone
	case n == sandbox.NetworkLoopback:
		return GateNames
	case loopback:
		return GateLoopback
	}
	return GateNetwork
}

// Gate says which gate the sandbox has.
func (s *Sandbox) Gate() Gate { return s.gate }

// GateIPv6 reports whether a GateNetwork takes connections to IPv6 addresses too.
func (s *Sandbox) GateIPv6() bool { return s.gate == GateNetwork && s.gate6 }

// ListenGate makes a TCP listener in the gate that takes the connections to a
// port of any address; LocalAddr of a connection is the one that was meant. It is
// closed when the sandbox ends.
func (s *Sandbox) ListenGate(port int) (net.Listener, error) {
	if s.gate != GateNetwork {
		return nil, errorf("confinement_unavailable", nil, "the session has no gate of its own; use the proxy")
	}
	return s.listener(listenGate, net.IPv4zero.To4(), port)
}

// ListenNames makes the UDP socket on which names are asked for. It is closed
// when the sandbox ends.
func (s *Sandbox) ListenNames() (net.PacketConn, error) {
	f, err := s.listenFile(listenNames, gateAddress[:], namesPort)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, errorf("internal", err, "the socket for names cannot be used; try again")
	}
	h := &heldPackets{PacketConn: c, s: s}
	if !s.hold(h) {
		c.Close()
		return nil, s.gone()
	}
	return h, nil
}

type heldPackets struct {
	net.PacketConn
	s *Sandbox
}

func (h *heldPackets) Close() error {
	h.s.release(h)
	return h.PacketConn.Close()
}

// namesPort is where names are asked for (DNS).
const namesPort = 53

// What opListen makes.
const (
	listenInside uint8 = iota // TCP in the session's network
	listenGate                // TCP in the gate
	listenNames               // UDP in the gate, or in the session's network without one
)

// listenFile has init make a listening socket.
func (s *Sandbox) listenFile(kind uint8, ip []byte, port int) (*os.File, error) {
	a, err := s.askFor(context.Background(), opListen, func(e *encoder) {
		e.u8(kind)
		e.str(string(ip))
		e.u16(uint16(port))
	})
	if err != nil {
		return nil, s.socketError(err, "listener")
	}
	return socketFile(a)
}

// listen makes a listening socket and answers with it.
func (s *initState) listen(req uint32, f *frame) {
	kind, ip, port := f.u8(), f.str(), f.u16()
	gated := s.gate != nil && s.gate.ops != nil
	if f.done() != nil || len(ip) != 4 || kind > listenNames || kind == listenGate && !gated {
		s.answer(req, unix.EBADMSG, 0)
		return
	}
	fd, err := -1, error(nil)
	open := func() { fd, err = listenSocket(kind, [4]byte([]byte(ip)), int(port), gated && s.gate.six) }
	if kind == listenNames && s.names != 0 {
		fd, s.names = s.names, 0
	} else if kind == listenInside || !gated {
		open()
	} else {
		done := make(chan struct{})
		s.gate.ops <- func() { open(); close(done) }
		<-done
	}
	if err != nil {
		s.answer(req, err, 0)
		return
	}
	defer unix.Close(fd)
	if s.gate != nil && kind != listenNames {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte([]byte(ip))), port)
		if kind == listenGate {
			at = netip.AddrPortFrom(netip.Addr{}, port)
		}
		s.gate.mu.Lock()
		s.gate.open[at] = true
		s.gate.mu.Unlock()
	}
	s.answer(req, nil, 0, fd)
}

// listenSocket makes one of IPv4. With six one of the gate takes the connections of
// both families, those of IPv4 by their mapped addresses (ipv6(7)).
func listenSocket(kind uint8, ip [4]byte, port int, six bool) (int, error) {
	family, socketKind := unix.AF_INET, unix.SOCK_STREAM
	if kind == listenNames {
		socketKind = unix.SOCK_DGRAM
	}
	var at unix.Sockaddr = &unix.SockaddrInet4{Port: port, Addr: ip}
	if six && kind == listenGate {
		family, at = unix.AF_INET6, &unix.SockaddrInet6{Port: port}
	}
	fd, err := unix.Socket(family, socketKind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if kind != listenNames {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if family == unix.AF_INET6 {
		// Whatever net.ipv6.bindv6only of the host says.
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	if err == nil {
		err = unix.Bind(fd, at)
	}
	if err == nil && kind != listenNames {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
