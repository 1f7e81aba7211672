package egress

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// TestGateBypassAttempts (AC-38, AC-39, AC-40) walks the attempts of TestEgressBypassAttempts through
// the gate: what an attempt asks of the proxy is looked up and connected to
// instead, with the bytes that would follow; and all of it is sent to the ports of
// the allowed name as it is.
func TestGateBypassAttempts(t *testing.T) {
	allowed := []netip.AddrPort{netip.AddrPortFrom(public, 80), netip.AddrPortFrom(public, 443), netip.AddrPortFrom(public, 8443)}
	y, p, _ := newYard(t)
	send := gated(t, p)
	good, _ := lookup(t, p, "example.com.")
	tries := 0
	try := func(t *testing.T, to netip.AddrPort, bytes string) {
		tries++
		answer := send(to, bytes)
		// An allowed request may come first.
		if strings.Contains(answer, "Date: ") && !strings.HasPrefix(bytes, "GET / HTTP/1.1\r\nHost: example.com\r\n") {
			t.Errorf("an answer came through: %q", answer)
		}
		for _, to := range y.dials() {
			if !slices.Contains(allowed, to) {
				t.Fatalf("it connected to %s", to)
			}
		}
	}
	for name, bytes := range bypassAttempts() {
		t.Run(name, func(t *testing.T) {
			if to, rest, ok := asked(t, p, bytes); ok {
				try(t, to, rest)
			}
			// The request line of a server: what the gate is there for.
			if name != "origin form" {
				try(t, netip.AddrPortFrom(good, 80), bytes)
			}
			try(t, netip.AddrPortFrom(good, 443), bytes)
		})
	}
	// Addresses that no name has, the gate's own, and the session's.
	for _, a := range []string{"198.19.200.200", "198.18.0.1", "198.18.0.2", "198.18.0.3", "127.0.0.1", "0.0.0.0", "255.255.255.255", "169.254.169.254",
		"10.0.0.1", "192.168.1.1", "100.100.100.200", "168.63.129.16", "224.0.0.1", "8.8.8.8", public.String(), "::1", "fe80::1", "fd00:ec2::254"} {
		for _, port := range []uint16{22, 53, 80, 443, 8443} {
			for _, bytes := range []string{"", get("/evil", "evil.test"), get("/evil", "example.com"), get("/evil", a), string(records(helloMsg(sni("example.com"), ext{99, []byte("evil")}), 16384))} {
				t.Run(net.JoinHostPort(a, strconv.Itoa(int(port))), func(t *testing.T) {
					try(t, netip.AddrPortFrom(netip.MustParseAddr(a), port), bytes)
				})
			}
		}
	}
	p.Close()
	y.onlyAllowed(t)
	t.Logf("%d tries", tries)
}

// asked is where an attempt wants to go, as a program finds it that looks names
// up, and what it sends there; false for a name that does not exist.
func asked(t *testing.T, p *Proxy, attempt string) (to netip.AddrPort, rest string, ok bool) {
	t.Helper()
	host, port := "", 0
	switch {
	case strings.HasPrefix(attempt, "CONNECT "):
		target, _, _ := strings.Cut(strings.TrimPrefix(attempt, "CONNECT "), " ")
		_, rest, _ = strings.Cut(attempt, "\r\n\r\n")
		h, service, err := net.SplitHostPort(target)
		if err != nil {
			return to, "", false
		}
		host = h
		if port, err = strconv.Atoi(service); err != nil || port < 1 || port > 65535 {
			return to, "", false
		}
	case strings.HasPrefix(attempt, "\x05\x01\x00\x05\x01\x00\x03"):
		b := attempt[7:]
		n := int(b[0])
		if len(b) < n+3 {
			return to, "", false
		}
		host, port, rest = b[1:1+n], int(b[1+n])<<8|int(b[2+n]), b[3+n:]
	default:
		return to, "", false
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(a.Unmap().WithZone(""), uint16(port)), rest, true
	}
	if len(host) > 253 {
		return to, "", false
	}
	if !strings.HasSuffix(host, ".") {
		host += "."
	}
	n, err := dnsmessage.NewName(host)
	if err != nil {
		return to, "", false
	}
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	query, err := m.Pack()
	if err != nil {
		return to, "", false
	}
	var r dnsmessage.Message
	if err := r.Unpack(p.answer(nil, query)); err != nil || len(r.Answers) == 0 {
		return to, "", false
	}
	return netip.AddrPortFrom(netip.AddrFrom4(r.Answers[0].Body.(*dnsmessage.AResource).A), uint16(port)), rest, true
}

// TestGateControl: the same gate lets through what is allowed, and says what it
// refuses in the words of the protocol.
func TestGateControl(t *testing.T) {
	y, p, _ := newYard(t)
	send := gated(t, p)
	a, _ := lookup(t, p, "example.com.")
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
	if out := send(at(80), get("/named", "example.com")); !strings.Contains(out, "200 OK") {
		t.Errorf("%q", out)
	}
	send(at(443), string(records(helloMsg(sni("example.com"), ext{99, []byte("mark0")}), 16384)))
	send(at(8443), "plain text mark1")
	if out := send(at(22), ""); out != "" {
		t.Errorf("another port: %q", out)
	}
	literal := netip.MustParseAddr("1.2.3.4")
	if out := send(netip.AddrPortFrom(literal, 80), get("/", "1.2.3.4")); !strings.Contains(out, "403 Forbidden") || !strings.Contains(out, "--allow-host 1.2.3.4") {
		t.Errorf("%q", out)
	}
	if out := send(netip.AddrPortFrom(literal, 443), ""); out != "\x15\x03\x01\x00\x02\x02\x70" {
		t.Errorf("%x", out)
	}
	var told []string
	for _, d := range p.denials() {
		told = append(told, net.JoinHostPort(d.Host, strconv.Itoa(d.Port)))
	}
	if !slices.Equal(told, []string{"example.com:22", "1.2.3.4:80", "1.2.3.4:443"}) {
		t.Errorf("told of %q", told)
	}
	p.Close()
	y.mu.Lock()
	defer y.mu.Unlock()
	if got := y.bytes.String(); !slices.Contains(y.requests, "example.com /named") || !strings.Contains(got, "mark0") || !strings.Contains(got, "mark1") {
		t.Errorf("%q, %q", y.requests, got)
	}
}

// TestLoopbackRules: those of this host's loopback either have a place inside or
// are refused.
func TestLoopbackRules(t *testing.T) {
	p := policy(t, "127.0.0.1:5432", "127.0.0.2:80", "127.0.0.2", "example.com:8080", "0.0.0.0/0", "10.0.0.0/8:22")
	places, err := p.Loopback()
	var got []string
	for _, a := range places {
		got = append(got, a.String())
	}
	if err != nil || !slices.Equal(got, []string{"127.0.0.1:5432", "127.0.0.2:80", "127.0.0.2:443"}) {
		t.Errorf("%q, %v", got, err)
	}
	if ports := p.Ports(); !slices.Equal(ports, []uint16{22, 80, 443, 5432, 8080}) {
		t.Errorf("%v", ports)
	}
	for _, rule := range []string{"127.0.0.0/8", "127.0.0.0/30:80", "[::1]:80", "::1", "localhost:80"} {
		if _, err := policy(t, rule).Loopback(); err == nil || !strings.Contains(err.Error(), "127.0.0.1:5432") {
			t.Errorf("%s: %v", rule, err)
		}
	}
}
