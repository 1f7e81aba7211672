package egress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"mcp-sandbox/sandbox"
)

const (
	// maxNames is how many names a session may look up, and so how many addresses
	// are given out: an address is never used for a second name.
	maxNames = 1024
	// nameTTL is how long an answer may be kept, in seconds: rules change.
	nameTTL = 5
	// maxQuery is the longest message that is read, in bytes. One question with
	// its options is far shorter.
	maxQuery = 2048
)

// firstName is the address of the first name. RFC 2544 gives its block to
// measurements between two devices.
var firstName = netip.AddrFrom4([4]byte{198, 19, 0, 1})

// names are the addresses under which a session knows the names it has looked up.
// They mean nothing outside: what a name's address is in the world is looked up
// once a connection to it has been allowed.
type names struct {
	mu     sync.Mutex
	byName map[string]netip.Addr
	byAddr map[netip.Addr]string
	next   netip.Addr
	// last is the name that was asked for last for its IPv4 addresses.
	last string
}

// firstName6 is the same for IPv6, of the block of RFC 5180: the name's IPv4 address
// is the end of its IPv6 address.
var firstName6 = netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 3: 0x02, 11: 1})

func name6(a netip.Addr) netip.Addr {
	b, v4 := firstName6.As16(), a.As4()
	copy(b[12:], v4[:])
	return netip.AddrFrom16(b)
}

// of gives the address of a name, and a new one while fewer than most are given.
func (n *names) of(name string, most int) (netip.Addr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.byName[name]; ok {
		return a, true
	}
	if len(n.byName) >= most {
		return netip.Addr{}, false
	}
	if n.byName == nil {
		n.byName, n.byAddr, n.next = map[string]netip.Addr{}, map[netip.Addr]string{}, firstName
	}
	a := n.next
	n.next = a.Next()
	n.byName[name], n.byAddr[a] = a, name
	return a, true
}

// endpoint is what a connection to a was meant for.
func (n *names) endpoint(a netip.AddrPort) endpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	known := a.Addr()
	if b := known.As16(); known.Is6() && netip.PrefixFrom(firstName6, 96).Contains(known) {
		known = netip.AddrFrom4([4]byte(b[12:]))
	}
	if name, ok := n.byAddr[known]; ok {
		return endpoint{name: name, port: a.Port()}
	}
	return endpoint{addr: a.Addr(), port: a.Port()}
}

// ServeNames answers the look-ups of a session that come by UDP on c, until Close
// (then it returns nil) or until c fails. It closes c when it returns. No look-up
// leaves the session: names that may be reached get an address that ServeNamed
// knows, all others do not exist.
func (p *Proxy) ServeNames(c net.PacketConn) error {
	defer c.Close()
	if !p.begin(c) {
		return nil
	}
	defer p.end(c)
	buf := make([]byte, maxQuery)
	for {
		n, from, err := c.ReadFrom(buf)
		if p.ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return sandbox.Errorf(codeInternal, err, "the socket for names was closed; restart the session")
		}
		if err != nil {
			select { // of another's making, such as a client that is gone
			case <-time.After(5 * time.Millisecond):
			case <-p.ctx.Done():
			}
			continue
		}
		if answer := p.answer(from, buf[:n]); answer != nil {
			_, _ = c.WriteTo(answer, from)
		}
	}
}

// serveLookups answers look-ups over TCP (RFC 1035 section 4.2.2).
func (p *Proxy) serveLookups(c *client) {
	for {
		_ = c.SetDeadline(time.Now().Add(p.o.HeaderTimeout))
		var size [2]byte
		if _, err := io.ReadFull(c.br, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if len(query) > maxQuery {
			return
		}
		if _, err := io.ReadFull(c.br, query); err != nil {
			return
		}
		answer := p.answer(c.RemoteAddr(), query)
		if answer == nil {
			return
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// answer answers one query, nil for what gets none.
func (p *Proxy) answer(from net.Addr, query []byte) []byte {
	var parser dnsmessage.Parser
	h, err := parser.Start(query)
	if err != nil || h.Response {
		return nil
	}
	reply := dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired, RecursionAvailable: true}
	q, err := parser.Question()
	if err == nil {
		if _, more := parser.Question(); more != dnsmessage.ErrSectionDone {
			err = errors.New("more than one question")
		}
	}
	var addr netip.Addr
	switch {
	case err != nil:
		reply.RCode = dnsmessage.RCodeFormatError
	case h.OpCode != 0:
		reply.RCode = dnsmessage.RCodeNotImplemented
	case q.Class != dnsmessage.ClassINET:
		reply.RCode = dnsmessage.RCodeRefused
	default:
		addr, reply.RCode = p.lookUp(from, q.Name.String(), q.Type)
	}
	b := dnsmessage.NewBuilder(nil, reply)
	if err == nil {
		// As it was asked, letter by letter: resolvers compare it.
		if b.StartQuestions() != nil || b.Question(q) != nil {
			return nil
		}
	}
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: nameTTL}
	switch {
	case !addr.IsValid():
	case q.Type == dnsmessage.TypeA:
		if b.StartAnswers() != nil || b.AResource(header, dnsmessage.AResource{A: addr.As4()}) != nil {
			return nil
		}
	case q.Type == dnsmessage.TypeAAAA && (p.o.IPv6 || addr.IsLoopback()):
		six := netip.IPv6Loopback()
		if !addr.IsLoopback() {
			six = name6(addr)
		}
		if b.StartAnswers() != nil || b.AAAAResource(header, dnsmessage.AAAAResource{AAAA: six.As16()}) != nil {
			return nil
		}
	}
	out, err := b.Finish()
	if err != nil {
		return nil
	}
	return out
}

// tells says whether a refusal of a look-up is to be told. Programs ask for a name's
// kinds of addresses one by one, IPv4 first unless they want the other alone.
func (n *names) tells(name string, kind dnsmessage.Type) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch kind {
	case dnsmessage.TypeA:
		n.last = name
		return true
	case dnsmessage.TypeAAAA:
		return n.last != name
	}
	return false
}

// lookUp gives the address of a name within the session.
func (p *Proxy) lookUp(from net.Addr, name string, kind dnsmessage.Type) (netip.Addr, dnsmessage.RCode) {
	e, err := parseHost(name)
	if err != nil || e.name == "" {
		return netip.Addr{}, dnsmessage.RCodeNameError
	}
	if e.name == "localhost" || strings.HasSuffix(e.name, ".localhost") {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsmessage.RCodeSuccess // RFC 6761 section 6.3
	}
	tell := p.names.tells(e.name, kind)
	e.port = 443 // of those that a rule without one covers
	policy, most := p.Policy(), p.o.MaxNames
	if len(policy.portsOf(e.name)) == 0 && !p.asks.hasName(e.name) {
		d := policy.decide(e)
		if !d.gap || p.o.Ask == nil || !p.offerable(e) {
			// Without a dot it is a word that a shell or a search list made up.
			if tell && strings.ContainsRune(e.name, '.') {
				_ = p.deny(from, e.name, 0, d)
			}
			return netip.Addr{}, dnsmessage.RCodeNameError
		}
		// The user is asked when it is connected to. Names that may be made up leave
		// room for those that rules allow.
		most /= 4
	}
	a, ok := p.names.of(e.name, most)
	if !ok {
		if tell {
			_ = p.deny(from, e.name, 0, Decision{Reason: fmt.Sprintf("the session has looked up %d names, which is as many as it may", most)})
		}
		return netip.Addr{}, dnsmessage.RCodeServerFailure
	}
	if p.o.OnName != nil {
		p.o.OnName(a, policy.portsOf(e.name))
	}
	return a, dnsmessage.RCodeSuccess
}
