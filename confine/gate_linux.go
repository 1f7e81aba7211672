package confine

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

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

	// gateIndex is the interfaces' number, above those of devices that some kernels
	// put into every new namespace.
	gateIndex = 1000
	loIndex   = 1
	// vethPeer is VETH_INFO_PEER of linux/veth.h.
	vethPeer = 1
)

var (
	gateAddress    = netip.MustParseAddr(GateAddress).As4()
	sessionAddress = netip.MustParseAddr(SessionAddress).As4()
)

// noVeth has tests see what a kernel without veth gets.
var noVeth bool

// gate is init's side of it.
type gate struct {
	// ops runs functions on the thread that is in the gate's namespace; nil where
	// there is none.
	ops  chan func()
	made chan error
}

// makeGate begins to make the gate while the base is built.
func (s *initState) makeGate() error {
	if s.base.Network != sandbox.NetworkAllow {
		return nil
	}
	s.gate = &gate{ops: make(chan func()), made: make(chan error, 1)}
	if s.base.NoVeth {
		s.gate.made <- unix.EOPNOTSUPP
		return nil
	}
	go func() {
		// Never unlocked: the thread stays in the gate and ends with this goroutine.
		runtime.LockOSThread()
		err := buildGate()
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
	if s.gate == nil {
		return nil
	}
	err := <-s.gate.made
	if err == nil {
		return nil
	}
	s.gate.ops = nil
	if lerr := gateOnLoopback(); lerr != nil {
		s.gap(gapNames, err)
	} else {
		s.gap(gapGate, err)
	}
	return nil
}

func netlinkSocket() (int, error) {
	return unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
}

// buildGate moves the calling thread into a new network namespace and ties that
// to the session's by a veth pair.
func buildGate() error {
	session, err := netlinkSocket()
	if err != nil {
		return fmt.Errorf("routing socket: %w", err)
	}
	defer unix.Close(session)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	// A host that routes hands that on to new namespaces. There is nowhere to route
	// to from here, and nothing else to answer pings for.
	for _, v := range [][2]string{{"ip_forward", "0"}, {"icmp_echo_ignore_all", "1"}} {
		_ = writeSysctl("/proc/sys/net/ipv4/"+v[0], v[1]) // read-only in containers
	}
	inside, err := netlinkSocket()
	if err != nil {
		return fmt.Errorf("routing socket: %w", err)
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
	pair.defaultRoute(unix.RTN_LOCAL, unix.RT_SCOPE_HOST, rtNumber(unix.RTA_OIF, loIndex))
	if err := pair.run(inside); err != nil {
		return fmt.Errorf("veth pair: %w", err)
	}

	var way rtRequests
	way.withoutLinkLocal(gateIndex)
	way.keepLocalhost()
	way.address(gateIndex, sessionAddress, 30)
	way.up(gateIndex)
	// By one neighbour: a route to the link itself would have the kernel look for
	// each address, in a table that all of the host shares.
	way.defaultRoute(unix.RTN_UNICAST, unix.RT_SCOPE_UNIVERSE, rtAttr{unix.RTA_GATEWAY, gateAddress[:]}, rtNumber(unix.RTA_OIF, gateIndex))
	if err := way.run(session); err != nil {
		return fmt.Errorf("route to the gate: %w", err)
	}
	return nil
}

// keepLocalhost has programs go on looking for localhost at ::1, where servers
// such as Node's listen: with AI_ADDRCONFIG glibc leaves IPv6 addresses out once
// an interface has an address of IPv4 besides 127.0.0.1 and none has one of IPv6
// besides ::1.
func (r *rtRequests) keepLocalhost() { r.linkLocal(loIndex) }

// gateOnLoopback gives the session's loopback the addresses of names: on such a
// device all of a prefix is local.
func gateOnLoopback() error {
	fd, err := netlinkSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var r rtRequests
	r.keepLocalhost()
	r.address(loIndex, gateAddress, 15)
	return r.run(fd)
}

// gateKind is what init's gaps say of the gate.
func gateKind(n sandbox.Network, gaps []string) Gate {
	missing := gapsByName(gaps)
	_, none := missing[gapNames]
	_, loopback := missing[gapGate]
	switch {
	case n != sandbox.NetworkAllow || none:
		return GateNone
	case loopback:
		return GateLoopback
	}
	return GateNetwork
}

// Gate says which gate the sandbox has, GateNone with another network than
// sandbox.NetworkAllow.
func (s *Sandbox) Gate() Gate { return s.gate }

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
	const domain = 53
	f, err := s.listenFile(listenNames, gateAddress[:], domain)
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
	open := func() { fd, err = listenSocket(kind, [4]byte([]byte(ip)), int(port)) }
	if kind == listenInside || !gated {
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
	s.answer(req, nil, 0, fd)
}

func listenSocket(kind uint8, ip [4]byte, port int) (int, error) {
	socketKind := unix.SOCK_STREAM
	if kind == listenNames {
		socketKind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, socketKind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if kind != listenNames {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: ip})
	if err == nil && kind != listenNames {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
