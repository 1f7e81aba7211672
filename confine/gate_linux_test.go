package confine

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mcp-sandbox/sandbox"
)

// answering serves l with the address that each connection was meant for.
func answering(t *testing.T, l net.Listener, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "for "+c.LocalAddr().String()+"\n")
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
}

func gatedPolicy(t *testing.T, level sandbox.Level) sandbox.Policy {
	p := testPolicy(t)
	p.Level, p.Network = level, sandbox.NetworkAllow
	return p
}

// findsLocalhost checks that programs which ask for the addresses of a kind that
// is configured, as Node's fetch does, get both of localhost's.
func findsLocalhost(t *testing.T, s *Sandbox, dir string) {
	t.Helper()
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		return
	}
	needTools(t, "python3")
	out, _ := sh(t, s, dir, `/usr/bin/python3 -c 'import socket
print(sorted({a[4][0] for a in socket.getaddrinfo("localhost", 80, flags=socket.AI_ADDRCONFIG)}))'`)
	if out != "['127.0.0.1', '::1']\n" {
		t.Errorf("localhost is %q", out)
	}
}

// TestGate: the gate takes connections to any address on the ports that are open
// there, the session keeps its own, and what is asked of names arrives.
func TestGate(t *testing.T) {
	for _, level := range []sandbox.Level{sandbox.LevelNamespaces, sandbox.LevelNamespacesNoProc} {
		t.Run(string(level), func(t *testing.T) {
			p := gatedPolicy(t, level)
			s := start(t, p)
			if s.Gate() != GateNetwork {
				t.Fatalf("%d, %q", s.Gate(), s.Report().Warnings)
			}
			l, err := s.ListenGate(80)
			answering(t, l, err)
			if _, err := s.ListenGate(80); err == nil || sandbox.CodeOf(err) != "already_exists" {
				t.Errorf("a second listener: %v", err)
			}
			names, err := s.ListenNames()
			if err != nil {
				t.Fatal(err)
			}
			defer names.Close()
			go func() {
				b := make([]byte, 100)
				n, from, err := names.ReadFrom(b)
				if err == nil {
					_, _ = names.WriteTo(append([]byte("asked "), b[:n]...), from)
				}
			}()
			out, _ := sh(t, s, p.Workspace, `exec 2>/dev/null bash -c 'for a in 198.19.0.1 8.8.8.8 10.255.255.1 198.18.0.1; do cat < /dev/tcp/$a/80; done
for a in 127.0.0.1/80 198.18.0.2/80 8.8.8.8/81; do cat < /dev/tcp/$a || echo none; done
exec 3<>/dev/udp/198.18.0.1/53; echo x >&3; head -1 <&3'`)
			findsLocalhost(t, s, p.Workspace)
			if out != "for 198.19.0.1:80\nfor 8.8.8.8:80\nfor 10.255.255.1:80\nfor 198.18.0.1:80\nnone\nnone\nnone\nasked x\n" {
				t.Errorf("%q", out)
			}
		})
	}
}

// TestGateIPv6: the gate takes connections to IPv6 addresses where the host has them,
// and where not they fail at once.
func TestGateIPv6(t *testing.T) {
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		t.Skip("the host has no IPv6")
	}
	for _, without := range []bool{false, true} {
		noIPv6 = without
		defer func() { noIPv6 = false }()
		p := gatedPolicy(t, sandbox.LevelNamespaces)
		s := start(t, p)
		var told []netip.AddrPort
		s.ExplainConns(func(to netip.AddrPort) sandbox.Denial {
			told = append(told, to)
			return sandbox.Denial{Kind: sandbox.DenialNetwork, Text: "x"}
		})
		if s.GateIPv6() == without || strings.Contains(fmt.Sprint(s.Report().Warnings), "network") {
			t.Errorf("without IPv6 %t: %t, %q", without, s.GateIPv6(), s.Report().Warnings)
		}
		l, err := s.ListenGate(80)
		answering(t, l, err)
		out, _ := sh(t, s, p.Workspace, `exec 2>/dev/null bash -c 'for a in 2001:db8::1/80 8.8.8.8/80 ::1/80 2001:db8::1/81; do cat < /dev/tcp/$a || echo none; done'`)
		want, unheard := "for [2001:db8::1]:80\nfor 8.8.8.8:80\nnone\nnone\n", []string{"[2001:db8::1]:81"}
		if without {
			want, unheard = "none\nfor 8.8.8.8:80\nnone\nnone\n", []string{"[2001:db8::1]:80", "[2001:db8::1]:81"}
		}
		if out != want || fmt.Sprint(told) != fmt.Sprint(unheard) {
			t.Errorf("without IPv6 %t: %q, told %v", without, out, told)
		}
		findsLocalhost(t, s, p.Workspace)
		s.Close()
	}
}

// TestHostNames: localhost is what the kernel has.
func TestHostNames(t *testing.T) {
	for six, want := range map[bool]int{true: 1, false: 0} {
		if n := strings.Count(hostNames(six), "::1"); n != want {
			t.Errorf("with IPv6 %t: ::1 %d times", six, n)
		}
	}
	if _, err := os.Stat("/proc/net/if_inet6"); (err == nil) != hasIPv6() {
		t.Errorf("IPv6: %t, but /proc/net/if_inet6: %v", hasIPv6(), err)
	}
}

// TestRefusedSockets: without a network no socket of one is made, whether init can
// tell of it or not.
func TestRefusedSockets(t *testing.T) {
	needTools(t, "python3")
	for _, protect := range [][]string{nil, {".git/hooks"}} {
		p := testPolicy(t)
		p.Network, p.Protect = sandbox.NetworkNone, protect
		s := start(t, p)
		if !s.SeesConns() {
			t.Errorf("protecting %q: nothing tells of connections", protect)
		}
		out, _ := sh(t, s, p.Workspace, `/usr/bin/python3 -c 'import socket
for family in range(46):
    for kind in (1, 2, 3, 5, 1 | 0x80800):
        try: socket.socket(family, kind); print(family, kind)
        except OSError as e:
            if family in (2, 10) and e.errno != 97: print(family, kind, e)'`)
		if want := "1 1\n1 2\n1 3\n1 5\n1 526337\n"; out != want {
			t.Errorf("protecting %q: %q", protect, out)
		}
		s.Close()
	}
}

// TestGateOnLoopback: without veth names have addresses of the session's own
// loopback, and the report says what that costs.
func TestGateOnLoopback(t *testing.T) {
	noVeth = true
	defer func() { noVeth = false }()
	p := gatedPolicy(t, sandbox.LevelNamespaces)
	s := start(t, p)
	if s.Gate() != GateLoopback || !strings.Contains(strings.Join(s.Report().Warnings, "\n"), "names lead to the session's own loopback") {
		t.Fatalf("%d, %q", s.Gate(), s.Report().Warnings)
	}
	if _, err := s.ListenGate(80); err == nil {
		t.Error("there is a gate")
	}
	findsLocalhost(t, s, p.Workspace)
	names, err := s.ListenNames()
	if err != nil {
		t.Fatal(err)
	}
	defer names.Close()
	l, err := s.Listen("tcp", "198.19.0.1:80")
	answering(t, l, err)
	if out, _ := sh(t, s, p.Workspace, `exec bash -c 'cat < /dev/tcp/198.19.0.1/80; cat < /dev/tcp/198.19.0.2/80 || echo none'`); !strings.HasPrefix(out, "for 198.19.0.1:80\n") || !strings.HasSuffix(out, "none\n") {
		t.Errorf("%q", out)
	}
}

// TestProxyAlone: where names cannot be answered either, programs that use the proxy
// still reach it, look-ups fail at once and the report says why.
func TestProxyAlone(t *testing.T) {
	noVeth, noNames = true, true
	defer func() { noVeth, noNames = false, false }()
	needTools(t, "python3")
	p := gatedPolicy(t, sandbox.LevelNamespaces)
	s := start(t, p)
	if want := "network: names are not answered (operation not permitted): only programs that use the proxy settings reach allowed hosts"; s.Gate() != GateNone || !slices.Contains(s.Report().Warnings, want) {
		t.Fatalf("%d, %q", s.Gate(), s.Report().Warnings)
	}
	l, err := s.Listen("tcp", "127.0.0.1:3128")
	answering(t, l, err)
	if out, _ := sh(t, s, p.Workspace, `/usr/bin/python3 -c 'import socket, time
began = time.time()
try: socket.getaddrinfo("example.com", 443)
except socket.gaierror: print("no name", time.time() - began < 4)'; exec bash -c 'cat < /dev/tcp/127.0.0.1/3128'`); out != "no name True\nfor 127.0.0.1:3128\n" {
		t.Errorf("%q", out)
	}
	noVeth = false
	p = testPolicy(t)
	if s := start(t, p); s.Gate() != GateNone || strings.Contains(fmt.Sprint(s.Report().Warnings), "names") {
		t.Errorf("without a network: %d, %q", s.Gate(), s.Report().Warnings)
	}
}

// TestGateEnds: nothing of a gate stays when its session has ended, and none is
// made with another network.
func TestGateEnds(t *testing.T) {
	s := start(t, gatedPolicy(t, sandbox.LevelNamespaces))
	l, err := s.ListenGate(443)
	if err != nil {
		t.Fatal(err)
	}
	names, err := s.ListenNames()
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener: %v", err)
	}
	if _, _, err := names.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the socket for names: %v", err)
	}
	if _, err := s.ListenGate(80); err == nil {
		t.Error("an ended session has a gate")
	}
	p := testPolicy(t)
	other := start(t, p)
	if other.Gate() != GateNames {
		t.Errorf("%d", other.Gate())
	}
	if out, _ := sh(t, other, p.Workspace, "cat /proc/net/dev | grep -c :"); out != "1\n" {
		t.Errorf("%q", out)
	}
	p = testPolicy(t)
	p.Level = sandbox.LevelLandlock
	if g := start(t, p).Gate(); g != GateNone {
		t.Errorf("a gate of kind %d without a network of its own", g)
	}
}

// TestNameFiles: where names are looked up is the session's own, also where the
// host's files are links or a grant shows /etc.
func TestNameFiles(t *testing.T) {
	for network, want := range map[sandbox.Network]string{
		sandbox.NetworkAllow: "nameserver 198.18.0.1\nhosts: files dns\n", sandbox.NetworkLoopback: "nameserver 198.18.0.1\nhosts: files dns\n",
		sandbox.NetworkNone: "nameserver 198.18.0.1\nhosts: files dns files\n",
	} {
		for _, read := range [][]string{nil, {"/etc"}, {"/etc/ssl"}} {
			p := testPolicy(t)
			p.Network, p.Read = network, read
			s := start(t, p)
			if out, _ := sh(t, s, p.Workspace, "cat /etc/resolv.conf; grep ^hosts /etc/nsswitch.conf"); out != want {
				t.Errorf("%s, with %q: %q", network, read, out)
			}
			s.Close()
		}
	}
	p := testPolicy(t)
	p.Read = []string{"/etc/resolv.conf"}
	host, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := sh(t, start(t, p), p.Workspace, "cat /etc/resolv.conf"); out != string(host) {
		t.Errorf("the host's was granted: %q", out)
	}
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "target"), dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if got := actualPath(dir + "/link"); got != dir+"/link" {
		t.Errorf("a link to nothing: %s", got)
	}
	if err := os.WriteFile(dir+"/target", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := filepath.EvalSymlinks(dir + "/target"); err != nil || actualPath(dir+"/link") != got {
		t.Errorf("%s, %v", actualPath(dir+"/link"), err)
	}
}
