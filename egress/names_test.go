package egress

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// gateServer is the address that look-ups are sent to.
var gateServer = netip.MustParseAddr("198.18.0.1")

// gatedListener accepts connections that were meant for an address of the test's
// choice, as those of a session's gate are.
type gatedListener struct {
	net.Listener
	to func() netip.AddrPort
}

func (l *gatedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return gatedConn{c.(*net.TCPConn), l.to()}, nil
}

type gatedConn struct {
	*net.TCPConn
	to netip.AddrPort
}

func (c gatedConn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.to) }

// gated serves p's gate and gives a function that sends bytes to an address of
// it and gives all that comes back.
func gated(t testing.TB, p *Proxy) func(to netip.AddrPort, send string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	next := make(chan netip.AddrPort, 1)
	served := make(chan error, 1)
	go func() { served <- p.ServeNamed(&gatedListener{l, func() netip.AddrPort { return <-next }}) }()
	t.Cleanup(func() {
		p.Close()
		if err := <-served; err != nil {
			t.Errorf("ServeNamed: %v", err)
		}
	})
	return func(to netip.AddrPort, send string) string {
		next <- to
		return raw(t, l.Addr().String(), send)
	}
}

// ask is one question as a message.
func ask(t testing.TB, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	n, err := dnsmessage.NewName(name)
	if err != nil {
		t.Fatal(err)
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: kind, Class: dnsmessage.ClassINET}}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lookup asks p for an address and gives it, invalid for none.
func lookup(t testing.TB, p *Proxy, name string) (netip.Addr, dnsmessage.RCode) {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(p.answer(nil, ask(t, name, dnsmessage.TypeA))); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if m.ID != 7 || !m.Response || !m.RecursionAvailable || len(m.Questions) != 1 || m.Questions[0].Name.String() != name {
		t.Fatalf("%s: %+v", name, m)
	}
	for _, r := range m.Answers {
		if a, ok := r.Body.(*dnsmessage.AResource); ok && r.Header.TTL == nameTTL {
			return netip.AddrFrom4(a.A), m.RCode
		}
	}
	return netip.Addr{}, m.RCode
}

// TestNames: names that rules allow have an address each that stays theirs, all
// others do not exist, what is missing is told once a look-up, and no look-up
// leaves the session.
func TestNames(t *testing.T) {
	w := newWorld()
	pol, err := NewPolicy([]string{"a.example", "*.b.example", "c.example:22", "wiki", "d.example", "192.0.2.0/24"}, []string{"no.b.example", "d.example"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := hear(Options{Policy: pol, Resolver: w, Dial: w.dial})
	defer p.Close()
	given := map[string]netip.Addr{}
	for _, name := range []string{"a.example.", "x.b.example.", "y.x.b.example.", "c.example.", "wiki.", "A.eXample.", "x.b.example."} {
		a, code := lookup(t, p, name)
		if code != dnsmessage.RCodeSuccess || !netip.MustParsePrefix("198.19.0.0/16").Contains(a) {
			t.Errorf("%s: %v %v", name, a, code)
		}
		name = strings.ToLower(name)
		for other, b := range given {
			if (a == b) != (name == other) {
				t.Errorf("%s has %s, %s has %s", name, a, other, b)
			}
		}
		given[name] = a
	}
	for _, name := range []string{"localhost.", "app.localhost."} {
		if a, _ := lookup(t, p, name); a.String() != "127.0.0.1" {
			t.Errorf("%s: %v", name, a)
		}
	}
	if len(p.denials()) != 0 {
		t.Errorf("%v", p.denials())
	}
	// Also each of these tries to be read as an allowed name.
	missing := []string{"evil.test.", "b.example.", "no.b.example.", "d.example.", "evila.example.", "a.example.evil.test.", "word.", ".",
		"192.0.2.7.", "7.2.0.192.in-addr.arpa.", "evil.test\x00.b.example.", "evil.test\\.b.example.", "evil .b.example.", "evil.test/.b.example.",
		"ev\xffil.b.example.", "0x7f.1.", "a.example@.b.example.", "-.b.example.", "sandbox.", "a.example:443."}
	for _, name := range missing {
		if a, code := lookup(t, p, name); a.IsValid() || code != dnsmessage.RCodeNameError {
			t.Errorf("%q: %v %v", name, a, code)
		}
	}
	var told []string
	for _, d := range p.denials() {
		told = append(told, d.String())
	}
	want := []string{
		"evil.test is not allowed: the allow list has no rule for it; start the server with --allow-host evil.test to allow its ports 80 and 443, or with evil.test:PORT for another",
		"b.example is not allowed: the allow list has no rule for it; start the server with --allow-host b.example to allow its ports 80 and 443, or with b.example:PORT for another",
		"no.b.example is not allowed: a rule denies it (rule !no.b.example), no setting of this session allows it",
	}
	for _, line := range want {
		if !slices.Contains(told, line) {
			t.Errorf("%q is not told: %q", line, told)
		}
	}
	for _, line := range told {
		if strings.HasPrefix(line, "word ") || strings.HasPrefix(line, "sandbox ") {
			t.Errorf("told: %q", line)
		}
	}
	if n := w.lookedUp(); n != 0 {
		t.Errorf("%d look-ups went out", n)
	}
	// A reload takes a name away, and its address is given to no other.
	p.SetPolicy(policy(t, "new.example"))
	if a, _ := lookup(t, p, "a.example."); a.IsValid() {
		t.Error("a name outlived its rule")
	}
	fresh, _ := lookup(t, p, "new.example.")
	for name, a := range given {
		if a == fresh {
			t.Errorf("%s was given to another name than %s", a, name)
		}
	}
}

// TestNamesIPv6: a name's IPv6 address is one too, and localhost's is ::1.
func TestNamesIPv6(t *testing.T) {
	p := hear(Options{Policy: policy(t, "a.example", "b.example", "2001:db8::1"), IPv6: true})
	defer p.Close()
	six := func(name string) netip.Addr {
		t.Helper()
		var m dnsmessage.Message
		if err := m.Unpack(p.answer(nil, ask(t, name, dnsmessage.TypeAAAA))); err != nil || len(m.Answers) != 1 {
			t.Fatalf("%s: %+v, %v", name, m, err)
		}
		return netip.AddrFrom16(m.Answers[0].Body.(*dnsmessage.AAAAResource).AAAA)
	}
	a, b := six("a.example."), six("b.example.")
	for addr, want := range map[netip.Addr]string{
		a: "a.example:443", b: "b.example:443", netip.MustParseAddr("2001:db8::1"): "[2001:db8::1]:443",
		netip.MustParseAddr("2001:2::1:c613:ff"): "[2001:2::1:c613:ff]:443", netip.MustParseAddr("198.19.0.1"): "a.example:443",
	} {
		if got := p.names.endpoint(netip.AddrPortFrom(addr, 443)).String(); got != want {
			t.Errorf("%s is %s, want %s", addr, got, want)
		}
	}
	if l := six("localhost."); !l.IsLoopback() {
		t.Errorf("localhost is %s", l)
	}
	for to, want := range map[string]string{
		"198.19.0.1:22":      "a.example:22 is not allowed: the rule for it does not cover this port (rule a.example); start the server with --allow-host a.example:22 to allow it",
		"[2001:db8::2]:5432": "[2001:db8::2]:5432 is not allowed: 2001:db8::2 is a documentation address that no rule names; start the server with --allow-host [2001:db8::2]:5432 to allow it",
		"1.1.1.1:853":        "1.1.1.1:853 is not allowed: the allow list has no rule for it; start the server with --allow-host 1.1.1.1:853 to allow it",
	} {
		if got := p.RefuseUnheard(netip.MustParseAddrPort(to)).String(); got != want {
			t.Errorf("%s: %q", to, got)
		}
	}
	p.o.IPv6 = false
	if got, want := p.RefuseUnheard(netip.MustParseAddrPort("[2001:db8::1]:443")).String(), "[2001:db8::1]:443 cannot be reached without the proxy: this host gives sessions no IPv6; use a program that reads http_proxy and https_proxy"; got != want {
		t.Errorf("%q", got)
	}
}

// TestNameMessages: what else a message may hold.
func TestNameMessages(t *testing.T) {
	p := hear(Options{Policy: policy(t, "a.example")})
	defer p.Close()
	reply := func(query []byte) dnsmessage.Message {
		t.Helper()
		var m dnsmessage.Message
		if err := m.Unpack(p.answer(nil, query)); err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeAAAA, dnsmessage.TypeMX, dnsmessage.TypeTXT, dnsmessage.TypeHTTPS, dnsmessage.TypeALL} {
		if m := reply(ask(t, "a.example.", kind)); m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) != 0 {
			t.Errorf("%s of an allowed name: %+v", kind, m)
		}
		if kind == dnsmessage.TypeAAAA {
			reply(ask(t, "evil.test.", dnsmessage.TypeA)) // which is told
		}
		if m := reply(ask(t, "evil.test.", kind)); m.RCode != dnsmessage.RCodeNameError || len(m.Answers) != 0 {
			t.Errorf("%s of another name: %+v", kind, m)
		}
	}
	if d := p.denials(); len(d) != 1 {
		t.Errorf("told of the further kinds of a name: %v", d)
	}
	if reply(ask(t, "six.test.", dnsmessage.TypeAAAA)); len(p.denials()) != 2 {
		t.Errorf("a name that is looked up for IPv6 alone is not told: %v", p.denials())
	}
	good := ask(t, "a.example.", dnsmessage.TypeA)
	response := bytes.Clone(good)
	response[2] |= 0x80
	for name, b := range map[string][]byte{"empty": nil, "short": good[:11], "response": response} {
		if a := p.answer(nil, b); a != nil {
			t.Errorf("%s: %x", name, a)
		}
	}
	none := bytes.Clone(good[:12])
	none[5] = 0
	two := append(bytes.Clone(good), good[12:]...)
	two[5] = 2
	notify := bytes.Clone(good)
	notify[2] |= 4 << 3
	chaos := bytes.Clone(good)
	chaos[len(chaos)-1] = 3
	loop := append(bytes.Clone(good[:12]), 0xc0, 12, 0, 1, 0, 1)
	for name, c := range map[string]struct {
		query []byte
		code  dnsmessage.RCode
	}{
		"no question": {none, dnsmessage.RCodeFormatError}, "two questions": {two, dnsmessage.RCodeFormatError}, "cut": {good[:20], dnsmessage.RCodeFormatError},
		"loop": {loop, dnsmessage.RCodeFormatError}, "notify": {notify, dnsmessage.RCodeNotImplemented}, "chaos": {chaos, dnsmessage.RCodeRefused},
	} {
		if m := reply(c.query); m.RCode != c.code || len(m.Answers) != 0 {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// TestNamesAreBounded: 10,000 names that a wildcard covers use up the session's
// and nothing else, and what it knew stays known.
func TestNamesAreBounded(t *testing.T) {
	p := hear(Options{Policy: policy(t, "*.b.example")})
	defer p.Close()
	first, _ := lookup(t, p, "first.b.example.")
	seen := map[netip.Addr]bool{}
	for i := range 10_000 {
		if a, _ := lookup(t, p, fmt.Sprintf("n%d.b.example.", i)); a.IsValid() {
			seen[a] = true
		}
	}
	if len(seen) != maxNames-1 || seen[first] {
		t.Errorf("%d addresses", len(seen))
	}
	if a, _ := lookup(t, p, "first.b.example."); a != first {
		t.Error("a name lost its address")
	}
	if d := p.denials(); len(d) == 0 || !strings.Contains(d[0].Reason, "1024 names") {
		t.Errorf("%v", d)
	}
}

// TestNamesAskedFor: where a user can be asked, a name no rule speaks of has an
// address, so that the question can come with the connection; made-up names leave
// room for those of rules.
func TestNamesAskedFor(t *testing.T) {
	w := newWorld()
	w.name("ask.example", public.String())
	w.listen(t, public.String()+":8443", func(c net.Conn) { _, _ = io.WriteString(c, "hello") })
	var asked []string
	p := hear(Options{Policy: policy(t, "*.b.example", "!no.example"), Resolver: w, Dial: w.dial, Ask: func(_ context.Context, host string, port int) Answer {
		asked = append(asked, fmt.Sprintf("%s:%d", host, port))
		return Granted
	}})
	send := gated(t, p)
	a, _ := lookup(t, p, "ask.example.")
	if !a.IsValid() || len(asked) != 0 {
		t.Fatalf("%v, asked %q", a, asked)
	}
	if out := send(netip.AddrPortFrom(a, 8443), ""); out != "hello" || !slices.Equal(asked, []string{"ask.example:8443"}) {
		t.Errorf("%q, asked %q", out, asked)
	}
	for _, name := range []string{"no.example.", "x.internal.", "word."} {
		if a, _ := lookup(t, p, name); a.IsValid() {
			t.Errorf("%s: %v", name, a)
		}
	}
	for i := range maxNames {
		lookup(t, p, fmt.Sprintf("n%d.made.up.", i))
	}
	if a, _ := lookup(t, p, "x.b.example."); !a.IsValid() {
		t.Error("made-up names left no room")
	}
}

// TestNamesServed: both transports, and their end with Close.
func TestNamesServed(t *testing.T) {
	p := hear(Options{Policy: policy(t, "a.example"), NameServer: gateServer})
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.ServeNames(c) }()
	send := gated(t, p)
	u, err := net.Dial("udp", c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	_ = u.SetDeadline(time.Now().Add(20 * time.Second))
	query, buf := ask(t, "a.example.", dnsmessage.TypeA), make([]byte, 512)
	_, _ = u.Write([]byte("nonsense"))
	_, _ = u.Write(query)
	n, err := u.Read(buf)
	if err != nil || !bytes.Equal(buf[:n], p.answer(nil, query)) {
		t.Errorf("udp: %x, %v", buf[:n], err)
	}
	framed := func(b []byte) string {
		return string(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	}
	to := netip.AddrPortFrom(gateServer, 53)
	if got := send(to, framed(query)+framed(query)); got != framed(p.answer(nil, query))+framed(p.answer(nil, query)) {
		t.Errorf("tcp: %x", got)
	}
	for _, bad := range []string{"\xff\xff", "\x00\x00", framed(query)[:20]} {
		if got := send(to, bad); got != "" {
			t.Errorf("tcp %x: %x", bad, got)
		}
	}
	p.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// FuzzNames: whatever comes is answered with the question's id or not at all, and
// nothing but an allowed name has an address.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"a.example.", "evil.test.", "x.b.example.", "."} {
		f.Add(ask(f, name, dnsmessage.TypeA))
		f.Add(ask(f, name, dnsmessage.TypeAAAA))
	}
	f.Add([]byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	pol := policy(f, "a.example", "*.b.example")
	f.Fuzz(func(t *testing.T, query []byte) {
		p := NewProxy(Options{Policy: pol})
		defer p.Close()
		answer := p.answer(nil, query)
		if answer == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(answer); err != nil || !bytes.Equal(answer[:2], query[:2]) || !m.Response || len(answer) > len(query)+64 {
			t.Fatalf("%x: %x, %v", query, answer, err)
		}
		for _, r := range m.Answers {
			name := strings.ToLower(r.Header.Name.String())
			if name != "a.example." && !strings.HasSuffix(name, ".b.example.") && name != "localhost." && !strings.HasSuffix(name, ".localhost.") {
				t.Fatalf("%x: %q has an address", query, name)
			}
		}
	})
}
