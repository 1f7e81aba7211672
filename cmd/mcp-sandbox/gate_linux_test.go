package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mcp-sandbox/confine"
	"mcp-sandbox/egress"
	"mcp-sandbox/library"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// upstream is the world beyond a gateway: every name has one public address, and
// its ports lead to servers of the test.
type upstream struct {
	mu      sync.Mutex
	ports   map[uint16]string
	lookups []string
	dialled []netip.AddrPort
}

var upstreamAddress = netip.MustParseAddr("93.184.215.14")

func (u *upstream) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lookups = append(u.lookups, strings.TrimSuffix(host, "."))
	return []netip.Addr{upstreamAddress}, nil
}

func (u *upstream) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	u.mu.Lock()
	u.dialled = append(u.dialled, to)
	real := u.ports[to.Port()]
	if real == "" && to.Addr().IsLoopback() {
		real = to.String()
	}
	u.mu.Unlock()
	var d net.Dialer
	return d.DialContext(ctx, "tcp", real)
}

// place has a port of the world answered by what listens at real.
func (u *upstream) place(port uint16, real string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ports[port] = real
}

// greeter is a server that speaks first.
func greeter(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, text)
			c.Close()
		}
	}()
	return l.Addr().String()
}

// gatedSession is a session whose world is u.
type gatedSession struct {
	told []string // what the network refused to the last command
	*library.Proxied
	t    *testing.T
	gate *library.Gateway
	dir  string
}

// gateLevels are those that have a network of a session's own.
var gateLevels = []sandbox.Level{sandbox.LevelNamespaces, sandbox.LevelNamespacesNoProc}

func startGated(t *testing.T, level sandbox.Level, u *upstream, rules ...string) *gatedSession {
	t.Helper()
	needsOwnNetwork(t)
	log := slog.New(slog.DiscardHandler)
	g, err := library.NewGateway(library.Rules{Allow: rules}, log)
	if err != nil {
		t.Fatal(err)
	}
	g.Upstream = egress.Options{Resolver: u, Dial: u.dial}
	dir := t.TempDir()
	openPath(t, dir)
	started, err := library.Launcher{Gateway: g}.Start(t.Context(), sandbox.Policy{
		Workspace: dir, UID: -1, GID: -1, AllowRoot: true, Path: os.Getenv("PATH"), Level: level, Network: sandbox.NetworkAllow, Log: log,
	}, session.Callbacks{})
	if err != nil {
		unconfinable(t, err.Error())
	}
	t.Cleanup(func() { started.Close() })
	s := &gatedSession{Proxied: started.(*library.Proxied), t: t, gate: g, dir: dir}
	if s.Gate() != confine.GateNetwork {
		t.Fatalf("the gate is of kind %d: %q", s.Gate(), s.Report().Warnings)
	}
	return s
}

// run gives a command's output and exit code. No proxy is named to it.
func (s *gatedSession) run(line string, env ...string) (string, int) {
	s.t.Helper()
	p, err := s.Spawn(context.Background(), sandbox.Command{Argv: []string{"/bin/bash", "-c", line}, Env: append(s.Sandbox.Environ(), env...), Dir: s.dir})
	if err != nil {
		s.t.Fatal(err)
	}
	defer p.Stdout().Close()
	_ = p.Stdout().SetReadDeadline(time.Now().Add(60 * time.Second))
	out, err := io.ReadAll(p.Stdout())
	if err != nil {
		s.t.Fatalf("%s: %v after %q", line, err, out)
	}
	code := p.Wait().Code
	s.told = nil
	for _, d := range p.(sandbox.Denier).Denied() {
		s.told = append(s.told, d.Text)
	}
	return string(out), code
}

// TestGateClients: programs without proxy settings reach what the rules allow,
// each in its own way of looking names up.
func TestGateClients(t *testing.T) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello from "+r.Host) })
	u := &upstream{ports: map[uint16]string{}}
	plain, secure := httptest.NewServer(hello), httptest.NewUnstartedServer(hello)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer plain.Close()
	defer secure.Close()
	u.place(80, strings.TrimPrefix(plain.URL, "http://"))
	u.place(443, strings.TrimPrefix(secure.URL, "https://"))
	u.place(22, greeter(t, "SSH-2.0-test\r\n"))
	repos, port := t.TempDir(), freePort(t)
	for _, args := range [][]string{{"init", "-q", repos + "/a.git"}, {"-C", repos + "/a.git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "hello from git"}} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	daemon := exec.Command("git", "daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", "--port="+port, "--base-path="+repos, repos)
	daemon.Env = append(os.Environ(), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // git starts another program for it
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-daemon.Process.Pid, syscall.SIGKILL); _ = daemon.Wait() })
	u.place(9418, "127.0.0.1:"+port)

	for _, level := range gateLevels {
		t.Run(string(level), func(t *testing.T) {
			s := startGated(t, level, u, "example.com", "example.com:22", "example.com:9418", "93.184.215.14")
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
			java := `import java.net.*; public class Get { public static void main(String[] a) throws Exception { System.out.print(new String(new URL("http://example.com/").openStream().readAllBytes())); } }`
			for name, text := range map[string]string{"ca.pem": string(ca), "Get.java": java} {
				if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range []struct{ needs, cmd, want string }{
				{"getent", "getent ahostsv4 example.com", "198.19.0.1 "},
				{"curl", "curl -sS http://example.com/", "hello from example.com"},
				{"curl", "curl -sS --cacert ca.pem -w ' HTTP/%{http_version}' https://example.com/", "hello from example.com HTTP/2"},
				{"curl", "curl -sS --cacert ca.pem https://example.com/ --next -sS http://example.com/", "hello from example.comhello from example.com"},
				{"curl", "curl -sS http://93.184.215.14/", "hello from 93.184.215.14"},
				{"node", `node -e 'fetch("https://example.com/").then(r => r.text()).then(console.log)'`, "hello from example.com"},
				{"node", `node -e 'require("dns").resolve4("example.com", (e, a) => console.log(e || a[0]))'`, "198.19.0.1"},
				{"/usr/bin/python3", `/usr/bin/python3 -c 'import http.client, ssl; c = http.client.HTTPSConnection("example.com", context=ssl.create_default_context(cafile="ca.pem")); c.request("GET", "/"); print(c.getresponse().read())'`, "hello from example.com"},
				{"java", "java -XX:TieredStopAtLevel=1 Get.java", "hello from example.com"},
				{"git", "git clone -q git://example.com/a.git cloned && git -C cloned log --format=%s", "hello from git"},
				{"bash", "read -r line < /dev/tcp/example.com/22; echo \"$line\"", "SSH-2.0-test"},
				{"ssh", "ssh -v -o BatchMode=yes -o StrictHostKeyChecking=no nobody@example.com 2>&1", "remote software version test"},
			} {
				if _, err := exec.LookPath(c.needs); err != nil {
					t.Logf("%s is not installed", c.needs)
					continue
				}
				began := time.Now()
				out, _ := s.run(c.cmd, "NODE_EXTRA_CA_CERTS=ca.pem")
				if !strings.Contains(out, c.want) {
					if strings.Contains(out, "not found") && os.Geteuid() != 0 {
						t.Logf("%s: %s", c.cmd, out)
						continue
					}
					t.Errorf("%s: %q", c.cmd, out)
				}
				t.Logf("%v %s", time.Since(began).Round(time.Millisecond), c.cmd)
			}
			if notes := append(s.Notices(), s.told...); len(notes) != 0 {
				t.Errorf("%q", notes)
			}
			os.RemoveAll(filepath.Join(s.dir, "cloned"))
		})
	}
	for _, name := range u.lookups {
		if name != "example.com" {
			t.Errorf("%s was looked up outside", name)
		}
	}
}

// freePort is a port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// gateTries are what a program can do in a session's network besides what the gate
// is for. Each prints what it got; none may be "through".
const gateTries = `
import errno, socket, struct, sys
def tell(what, run):
    try:
        out = run()
        print(what, "through" if out is None else out)
    except OSError as e:
        print(what, "refused", errno.errorcode.get(e.errno, e.errno))
def tcp(to, family=socket.AF_INET):
    def run():
        s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(3); s.connect(to)
        try:
            s.sendall(b"SSH-2.0-evil\r\n"); b = s.recv(100)
        except OSError as e:
            return "cut"
        return "cut" if b == b"" or b[:1] == b"\x15" or b"403 " in b or b"400 " in b else None
    return run
def udp(to, family=socket.AF_INET, data=b"evil"):
    def run():
        s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(0.1); s.connect(to); s.send(data)
        try:
            s.recv(100)
        except socket.timeout:
            return "silent"
    return run
def lookup(name):
    try:
        socket.getaddrinfo(name, 443)
    except socket.gaierror as e:
        return "missing" if e.errno == socket.EAI_NONAME else "error %s" % e
hosts = sys.argv[1].split(",")
for h in ["198.18.0.1", "198.18.0.3", "198.19.0.77", "1.1.1.1", "169.254.169.254", "10.0.0.1", "192.168.0.1"] + hosts:
    for port in (22, 25, 53, 80, 443, 3128, 8443, 65535):
        tell("tcp %s %d" % (h, port), tcp((h, port)))
        if (h, port) != ("198.18.0.1", 53):
            tell("udp %s %d" % (h, port), udp((h, port)))
tell("udp nonsense", udp(("198.18.0.1", 53)))
for h in ("::1", "fe80::1%eth0", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"):
    for port in (53, 80, 443):
        tell("tcp %s %d" % (h, port), tcp((h, port, 0, 0), socket.AF_INET6))
        tell("udp %s %d" % (h, port), udp((h, port, 0, 0), socket.AF_INET6))
def broadcast():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.1); s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    s.sendto(b"evil", ("198.18.0.3", 443))
    try:
        s.recv(100)
    except socket.timeout:
        return "silent"
tell("broadcast", broadcast)
def icmp():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP); s.settimeout(0.1)
    s.sendto(struct.pack("!BBHHH", 8, 0, 0, 0, 1), ("1.1.1.1", 0))
    try:
        s.recv(100)
    except socket.timeout:
        return "silent"
tell("icmp", icmp)
tell("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) and None)
tell("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3) and None)
tell("freebind", lambda: socket.socket().setsockopt(socket.IPPROTO_IP, 19, 1))
def route():
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    s.send(struct.pack("=IHHII", 28, 24, 5 | 0x400, 1, 0) + struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 3, 0, 1, 0))
    code = struct.unpack("=i", s.recv(200)[16:20])[0]
    return None if code == 0 else "refused " + errno.errorcode.get(-code, str(-code))
tell("route", route)
def flood():
    import os
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3); s.connect(("198.18.0.1", 53))
    known = 0
    for i in range(10000):
        name = b"n%d" % i
        s.send(struct.pack("!HHHHHH", i, 256, 1, 0, 0, 0) + bytes([len(name)]) + name + b"\x02ok\x07example\x00\x00\x01\x00\x01")
        known += s.recv(512)[3] & 15 == 0
    return "%d names" % known
tell("flood", flood)
for name in ("evil.test", "evil.test.ok.example.evil.test", "ok.example", "169.254.169.254.nip.io", "metadata.google.internal", "x" * 63 + ".evil.test"):
    tell("name " + name, lambda: lookup(name))
`

// TestGateTries is AC-40 at the gate: nothing but its sockets is on the other side, no other
// protocol, no port that no rule names, no address of this host, no way to
// change the routes.
func TestGateTries(t *testing.T) {
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		t.Skip("there is no /usr/bin/python3")
	}
	var own []string
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			own = append(own, n.IP.String())
		}
	}
	for _, level := range gateLevels {
		t.Run(string(level), func(t *testing.T) {
			u := &upstream{ports: map[uint16]string{}}
			for _, port := range []uint16{22, 25, 53, 80, 443, 3128, 8443} {
				u.place(port, greeter(t, "through\r\n"))
			}
			s := startGated(t, level, u, "*.ok.example", "*.ok.example:8443", "example.com:22")
			if err := os.WriteFile(filepath.Join(s.dir, "tries.py"), []byte(gateTries), 0o644); err != nil {
				t.Fatal(err)
			}
			out, code := s.run("/usr/bin/python3 tries.py " + strings.Join(own, ","))
			if code != 0 || strings.Contains(out, "through") || strings.Contains(out, "error") || !strings.Contains(out, "flood 1024 names") || strings.Count(out, " missing\n") != 6 {
				t.Errorf("exit %d:\n%s", code, out)
			}
			if len(u.dialled) != 0 || len(u.lookups) != 0 {
				t.Errorf("dialled %v, looked up %q", u.dialled, u.lookups)
			}
			t.Logf("%d tries", strings.Count(out, "\n"))
		})
	}
}

// TestGateKeepsPorts: the session can listen on each port of a rule itself, and a
// rule of this host's loopback has its place inside.
func TestGateKeepsPorts(t *testing.T) {
	for _, level := range gateLevels {
		t.Run(string(level), func(t *testing.T) {
			u := &upstream{ports: map[uint16]string{}}
			service := greeter(t, "host's service\n")
			_, port, err := net.SplitHostPort(service)
			if err != nil {
				t.Fatal(err)
			}
			s := startGated(t, level, u, "example.com", "example.com:53", service)
			const listen = `/usr/bin/python3 -c 'import socket
for port in (53, 80, 443):
    l = socket.socket(); l.bind(("0.0.0.0", port)); l.listen(); c = socket.create_connection(("127.0.0.1", port)); l.accept()[0].send(b"x"); assert c.recv(1) == b"x"
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("0.0.0.0", 53)); print("own")'`
			if out, _ := s.run(listen); !strings.Contains(out, "own") {
				t.Errorf("%q", out)
			}
			// Servers print it, and a request to it must not go to the proxy.
			if !slices.ContainsFunc(s.Environ(), func(kv string) bool {
				return strings.HasPrefix(kv, "no_proxy=") && strings.Contains(kv, ","+confine.SessionAddress+",")
			}) {
				t.Errorf("no_proxy leaves out the session's own address: %q", s.Environ())
			}
			if out, _ := s.run("cat < /dev/tcp/127.0.0.1/" + port); out != "host's service\n" {
				t.Errorf("the loopback rule: %q", out)
			}
			// Rules that come later have their sockets too.
			other := greeter(t, "later\n")
			_, port, _ = net.SplitHostPort(other)
			u.place(2222, other)
			if out, _ := s.run("cat < /dev/tcp/example.com/2222"); !strings.Contains(out, "refused") {
				t.Errorf("before the reload: %q", out)
			}
			if n, err := s.gate.SetRules(library.Rules{Allow: []string{other, "example.com:2222"}}); n != 2 || err != nil {
				t.Fatal(n, err)
			}
			if out, _ := s.run("cat < /dev/tcp/127.0.0.1/" + port + "; cat < /dev/tcp/example.com/2222"); out != "later\nlater\n" {
				t.Errorf("after the reload: %q", out)
			}
			// A port of an earlier rule is refused by its rule, not by its absence.
			s.run("exec 3<>/dev/tcp/example.com/80; echo x >&3; cat <&3")
			if notes := append(s.Notices(), s.told...); !slices.ContainsFunc(notes, func(n string) bool {
				return strings.Contains(n, "example.com:80 is not allowed: the rule for it does not cover this port")
			}) {
				t.Errorf("%q", notes)
			}
			s.gate.Shut()
			if out, _ := s.run("getent hosts example.com || echo none; cat < /dev/tcp/127.0.0.1/" + port); !strings.HasPrefix(out, "none\n") || strings.Contains(out, "later") {
				t.Errorf("with the network closed: %q", out)
			}
		})
	}
}

// TestGateRefusals: what a command is told, and that rules which cannot work are
// refused at the start.
func TestGateRefusals(t *testing.T) {
	needsOwnNetwork(t)
	c := startServer(t, "--network", "allow", "--allow-host", "example.com")
	c.initialize("2025-11-25")
	o := c.exec(map[string]any{"cmd": `curl --noproxy '*' -sS https://evil.example.org/`})
	if notes := sandboxNotes(o); len(notes) != 1 || notes[0] != "network: evil.example.org is not allowed: the allow list has no rule for it; start the server with --allow-host evil.example.org to allow its ports 80 and 443, or with evil.example.org:PORT for another" {
		t.Errorf("%q, %q", notes, o.Output)
	}
	o = c.exec(map[string]any{"cmd": `curl --noproxy '*' -sS http://1.2.3.4/; curl --noproxy '*' -sS http://word/; getent hosts also`})
	if notes := sandboxNotes(o); len(notes) != 1 || !strings.Contains(notes[0], "1.2.3.4:80 is not allowed") {
		t.Errorf("%q, %q", notes, o.Output)
	}
	for _, rule := range []string{"127.0.0.0/8", "[::1]:80", "localhost:80", "127.0.0.1:3128"} {
		out, err := exec.Command(binary, "exec", "--network", "allow", "--allow-host", rule, "--", "true").CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("inside a session")) {
			t.Errorf("%s: %v, %s", rule, err, out)
		}
	}
}

// TestNamesWithoutNetwork: where there is no network a name does not exist, which
// programs are told at once.
func TestNamesWithoutNetwork(t *testing.T) {
	needsOwnNetwork(t)
	for _, network := range []string{"loopback", "none"} {
		c := startServer(t, "--network", network)
		c.initialize("2025-11-25")
		o := c.exec(map[string]any{"cmd": `python3 -c 'import socket
try: socket.getaddrinfo("example.com", 443)
except socket.gaierror as e: print(e.errno == socket.EAI_NONAME); raise'`})
		if notes := sandboxNotes(o); !strings.Contains(o.Output, "True") || len(notes) != 1 || !strings.Contains(notes[0], "this session has no network") {
			t.Errorf("%s: %q, %q", network, o.Output, notes)
		}
	}
}
