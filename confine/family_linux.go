package confine

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"mcp-sandbox/sandbox"
)

// mostRelatives bounds one answer.
const mostRelatives = 64

// Family lists the living processes the command has started, its leader
// included, at most 64, with the TCP ports they listen on.
func (p *Process) Family(ctx context.Context) ([]sandbox.Relative, error) {
	a, err := p.s.askFor(ctx, opFamily, func(e *encoder) { e.u32(p.id) })
	if err != nil {
		return nil, errorf("internal", err, "the processes could not be listed (%s); try again", errnoText(err))
	}
	d := decoder{b: a.data}
	out := make([]sandbox.Relative, d.count(12))
	for i := range out {
		out[i] = sandbox.Relative{PID: int(d.u32()), Name: d.str(), Ports: make([]int, d.count(2))}
		for j := range out[i].Ports {
			out[i].Ports[j] = int(d.u16())
		}
	}
	return out, d.done()
}

// Listening reports whether a process of the session listens on a TCP port.
func (p *Process) Listening(ctx context.Context, port int) (bool, error) {
	n, err := p.s.ask(ctx, opListening, func(e *encoder) { e.u16(uint16(port)) })
	if err != nil {
		return false, errorf("internal", err, "the session's ports could not be read (%s); try again", errnoText(err))
	}
	return n > 0, nil
}

// encodeFamily is the answer to opFamily.
func (s *initState) encodeFamily(c *command) []byte {
	tasks := s.living(c)
	tasks = tasks[:min(len(tasks), mostRelatives)]
	sockets := listeners()
	var e encoder
	e.u32(uint32(len(tasks)))
	for _, t := range tasks {
		var name [64]byte
		e.u32(uint32(t.pid))
		e.str(string(bytes.TrimSpace(name[:readSmall(t.dir+"/comm", name[:])])))
		ports := t.ports(sockets)
		e.u32(uint32(len(ports)))
		for _, p := range ports {
			e.u16(p)
		}
	}
	return e.b
}

// listening says whether a process of the session holds a listener on port. The
// network namespace may be shared with the host, so holding it counts.
func (s *initState) listening(port uint16) bool {
	sockets := listeners()
	for inode, p := range sockets {
		if p != port {
			delete(sockets, inode)
		}
	}
	return len(sockets) > 0 && slices.ContainsFunc(s.tasks(), func(t markedTask) bool { return len(t.ports(sockets)) > 0 })
}

// stateListen is the state of a listener in proc_net(5), TCP_LISTEN.
const stateListen = "0A"

// listeners are the listening TCP sockets of the network namespace by inode, see
// proc_pid_net(5).
func listeners() map[string]uint16 {
	return sockets("tcp", func(state, _ string, _ uint16) bool { return state == stateListen })
}

// sockets are those of the network namespace that keep holds, with their local
// ports, by inode.
func sockets(network string, keep func(state, address string, port uint16) bool) map[string]uint16 {
	found := map[string]uint16{}
	for _, name := range []string{"/proc/net/" + network, "/proc/net/" + network + "6"} {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(b) {
			f := bytes.Fields(line)
			if len(f) < 10 {
				continue
			}
			address, digits, _ := strings.Cut(string(f[1]), ":")
			port, err := strconv.ParseUint(digits, 16, 16)
			if err == nil && keep(string(f[3]), address, uint16(port)) {
				found[string(f[9])] = uint16(port)
			}
		}
	}
	return found
}

// owner is the command of which a process holds the socket with a local address
// that is not a listener, 0 for none. A socket of IPv6 may have it too (ipv6(7)).
func (s *initState) owner(network string, at netip.AddrPort) int {
	if network != "tcp" && network != "udp" {
		return 0
	}
	address := "" // as proc_net(5) has it
	for b := at.Addr().Unmap().AsSlice(); len(b) > 0; b = b[4:] {
		address += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(b))
	}
	held := sockets(network, func(state, local string, port uint16) bool {
		unbound := network == "udp" && strings.Trim(local, "0") == ""
		return port == at.Port() && state != stateListen && (unbound || strings.HasSuffix(local, address))
	})
	// One that waits to be accepted has no inode yet.
	delete(held, "0")
	if len(held) == 0 {
		return 0
	}
	for _, t := range s.tasks() {
		if len(t.ports(held)) == 0 {
			continue
		}
		s.reaper.mu.Lock()
		for _, c := range s.reaper.commands {
			if c.mark == t.mark {
				s.reaper.mu.Unlock()
				return int(c.id)
			}
		}
		s.reaper.mu.Unlock()
	}
	return 0
}

// ports are those of the sockets that t holds, in order.
func (t task) ports(sockets map[string]uint16) []uint16 {
	if len(sockets) == 0 {
		return nil
	}
	var out []uint16
	for _, fd := range t.descriptors() {
		inode, ok := strings.CutPrefix(t.target(fd), "socket:[")
		if port, known := sockets[strings.TrimSuffix(inode, "]")]; ok && known && !slices.Contains(out, port) {
			out = append(out, port)
		}
	}
	slices.Sort(out)
	return out
}
