package egress

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
)

// yard is a world where one host is allowed, and everything else is watched.
type yard struct {
	*world
	mu       sync.Mutex
	requests []string // "host path" as the allowed site's port 80 saw them
	bytes    strings.Builder
}

// onlyAllowed checks what reached the allowed site, and what was looked up.
func (y *yard) onlyAllowed(t *testing.T) {
	t.Helper()
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, r := range y.requests {
		if strings.Contains(r, "evil") || !strings.HasPrefix(r, "example.com ") {
			t.Errorf("the allowed site got %q", r)
		}
	}
	if strings.Contains(y.bytes.String(), "evil") {
		t.Errorf("the allowed site got %q", y.bytes.String())
	}
	for name := range y.lookups {
		if name != "example.com" && !strings.HasSuffix(name, ".ok.example") || name == "denied.ok.example" {
			t.Errorf("it looked %q up", name)
		}
	}
}

func newYard(t *testing.T) (*yard, *Proxy, string) {
	y := &yard{world: newWorld()}
	y.name("example.com", public.String())
	for name, addr := range map[string]string{
		"evil.test": "93.184.215.99", "evil.example.com": "93.184.215.99", "rebind.ok.example": "127.0.0.1", "metadata.ok.example": "169.254.169.254", "lan.ok.example": "192.168.1.1", "cgnat.ok.example": "100.100.100.200",
		"mapped.ok.example": "::ffff:10.0.0.1", "ula.ok.example": "fd00:ec2::254", "nat64.ok.example": "64:ff9b::7f00:1", "sixtofour.ok.example": "2002:7f00:1::", "teredo.ok.example": "2001::1", "linklocal.ok.example": "fe80::1",
		"unspecified.ok.example": "0.0.0.0", "v6loop.ok.example": "::1", "multicast.ok.example": "224.0.0.1", "denied.ok.example": public.String(), "v6any.ok.example": "::", "compat.ok.example": "::7f00:1", "localhost": "127.0.0.1", "zone.ok.example": "fe80::1%lo",
		"local.nat64.ok.example": "64:ff9b:1::7f00:1", "azure.ok.example": "168.63.129.16",
	} {
		y.name(name, addr)
	}
	y.serve(t, public.String()+":80", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		y.mu.Lock()
		defer y.mu.Unlock()
		y.requests = append(y.requests, r.Host+" "+r.URL.Path)
	}))
	for _, port := range []string{":443", ":8443"} {
		y.listen(t, public.String()+port, func(c net.Conn) {
			b, _ := io.ReadAll(c)
			y.mu.Lock()
			defer y.mu.Unlock()
			y.bytes.Write(b)
		})
	}
	pol, err := NewPolicy([]string{"example.com", "example.com:8443", "*.ok.example"}, []string{"denied.ok.example"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, addr := start(t, y.world, Options{Policy: pol})
	return y, p, addr
}

func connectLine(target string) string {
	return "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n\r\n"
}

func get(url, host string) string {
	return "GET " + url + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"
}

func socks(kind byte, addr string, port int) string {
	return string(socksBytes(1, kind, []byte(addr), port))
}

// bypassAttempts each try to reach something other than http or https of
// example.com, or 8443 there.
func bypassAttempts() map[string]string {
	tls := func(name string) string { return string(records(helloMsg(sni(name)), 16384)) }
	ok := connectLine("example.com:443")
	post := func(headers, body string) string {
		return "POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\n" + headers + "\r\n" + body
	}
	smuggled := "GET /evil HTTP/1.1\r\nHost: evil.test\r\n\r\n"
	return map[string]string{
		// Another host, by each protocol.
		"connect other":        connectLine("evil.test:443"),
		"connect subdomain":    connectLine("evil.example.com:443"),
		"connect suffix":       connectLine("evilexample.com:443"),
		"connect prefix":       connectLine("example.com.evil.test:443"),
		"get other":            get("http://evil.test/", "evil.test"),
		"socks other":          socks(3, "evil.test", 443),
		"socks subdomain":      socks(3, "evil.example.com", 80),
		"connect denied first": connectLine("denied.ok.example:443"),
		"get denied first":     get("http://denied.ok.example/", "denied.ok.example"),
		"wildcard parent":      connectLine("ok.example:443"),
		// Another port.
		"connect ssh":          connectLine("example.com:22"),
		"connect smtp":         connectLine("example.com:25"),
		"connect high":         connectLine("example.com:65535"),
		"get other port":       get("http://example.com:8080/", "example.com:8080"),
		"socks other port":     socks(3, "example.com", 8080),
		"connect port 0":       connectLine("example.com:0"),
		"connect port wraps":   connectLine("example.com:65979"),
		"connect no port":      connectLine("example.com"),
		"connect service name": connectLine("example.com:https"),
		"connect two ports":    connectLine("example.com:443:22"),
		"socks port 0":         socks(3, "example.com", 0),
		// Addresses, in every spelling.
		"connect loopback":       connectLine("127.0.0.1:443"),
		"connect localhost":      connectLine("localhost:443"),
		"connect loopback v6":    connectLine("[::1]:443"),
		"connect bare v6":        connectLine("::1:443"),
		"connect short v4":       connectLine("127.1:80"),
		"connect decimal v4":     connectLine("2130706433:80"),
		"connect hex v4":         connectLine("0x7f000001:80"),
		"connect hex parts":      connectLine("0x7f.0.0.1:80"),
		"connect octal v4":       connectLine("0177.0.0.1:80"),
		"connect padded v4":      connectLine("127.000.000.001:80"),
		"connect dotted v4":      connectLine("127.0.0.1.:80"),
		"connect zero":           connectLine("0:80"),
		"connect unspecified":    connectLine("0.0.0.0:80"),
		"connect mapped":         connectLine("[::ffff:127.0.0.1]:80"),
		"connect mapped hex":     connectLine("[::ffff:7f00:1]:80"),
		"connect compatible":     connectLine("[::127.0.0.1]:80"),
		"connect nat64":          connectLine("[64:ff9b::7f00:1]:80"),
		"connect 6to4":           connectLine("[2002:7f00:1::]:80"),
		"connect zone":           connectLine("[fe80::1%25lo]:80"),
		"connect metadata":       connectLine("169.254.169.254:80"),
		"connect public address": connectLine(public.String() + ":443"),
		"connect full-width":     connectLine("１２７.0.0.1:80"),
		"get metadata":           get("http://169.254.169.254/latest/meta-data/", "169.254.169.254"),
		"get loopback":           get("http://127.0.0.1/", "127.0.0.1"),
		"socks v4 loopback":      socks(1, "\x7f\x00\x00\x01", 80),
		"socks v4 public":        socks(1, "\x5d\xb8\xd7\x0e", 443),
		"socks v6 loopback":      socks(4, strings.Repeat("\x00", 15)+"\x01", 80),
		"socks v6 mapped":        socks(4, strings.Repeat("\x00", 10)+"\xff\xff\x7f\x00\x00\x01", 80),
		"socks name is address":  socks(3, "127.0.0.1", 80),
		"socks name is hex":      socks(3, "0x7f.1", 80),
		"socks name is v6":       socks(3, "::1", 80),
		"socks metadata":         socks(1, "\xa9\xfe\xa9\xfe", 80),
		// Names that read two ways.
		"socks NUL after":         socks(3, "example.com\x00.evil.test", 443),
		"socks NUL before":        socks(3, "evil.test\x00example.com", 443),
		"socks NUL wildcard":      socks(3, "evil.test\x00.ok.example", 443),
		"socks newline":           socks(3, "evil.test\n.ok.example", 443),
		"socks space":             socks(3, "evil.test .ok.example", 443),
		"socks empty":             socks(3, "", 443),
		"socks slash":             socks(3, "evil.test/.ok.example", 443),
		"socks hash":              socks(3, "evil.test#.ok.example", 443),
		"socks colon":             socks(3, "evil.test:443.ok.example", 443),
		"socks at":                socks(3, "example.com@evil.test", 443),
		"socks 255 bytes":         socks(3, strings.Repeat("a", 244)+".ok.example", 443),
		"socks invalid UTF-8":     socks(3, "\xff.ok.example", 443),
		"connect user":            connectLine("example.com@evil.test:443"),
		"connect percent NUL":     connectLine("evil.test%00.ok.example:443"),
		"connect hash":            connectLine("evil.test#.ok.example:443"),
		"connect backslash":       connectLine(`evil.test\.ok.example:443`),
		"connect two dots":        connectLine("example.com..:443"),
		"connect ideographic dot": connectLine("evil。example.com:443"),
		"connect homograph":       connectLine("ex\u0430mple.com:443"),
		"connect kelvin":          connectLine("\u212a.ok.example:443"),
		"connect joiner":          connectLine("evil\u200d.ok.example:443"),
		"connect empty":           connectLine(":443"),
		"connect brackets":        connectLine("[example.com]:443"),
		"get user":                get("http://example.com@evil.test/", "example.com"),
		"get user and host":       get("http://example.com:80@evil.test/", "evil.test"),
		"get backslash":           get(`http://evil.test\@example.com/`, "example.com"),
		"get hash":                get("http://evil.test#@example.com/", "example.com"),
		"get question":            get("http://evil.test?@example.com/", "example.com"),
		"get percent":             get("http://evil.test%2f@example.com/", "example.com"),
		// Allowed names at the wrong addresses.
		"resolves to loopback":       get("http://rebind.ok.example/", "rebind.ok.example"),
		"resolves to metadata":       get("http://metadata.ok.example/", "metadata.ok.example"),
		"resolves to lan":            connectLine("lan.ok.example:443"),
		"resolves to cgnat":          connectLine("cgnat.ok.example:443"),
		"resolves to mapped":         connectLine("mapped.ok.example:443"),
		"resolves to ula":            connectLine("ula.ok.example:443"),
		"resolves to nat64":          connectLine("nat64.ok.example:443"),
		"resolves to local nat64":    connectLine("local.nat64.ok.example:443"),
		"resolves to 6to4":           connectLine("sixtofour.ok.example:443"),
		"resolves to teredo":         connectLine("teredo.ok.example:443"),
		"resolves to link-local":     connectLine("linklocal.ok.example:443"),
		"resolves to a zone":         connectLine("zone.ok.example:443"),
		"resolves to unspecified":    connectLine("unspecified.ok.example:443"),
		"resolves to unspecified v6": connectLine("v6any.ok.example:443"),
		"resolves to v6 loopback":    socks(3, "v6loop.ok.example", 443),
		"resolves to compatible":     socks(3, "compat.ok.example", 443),
		"resolves to multicast":      socks(3, "multicast.ok.example", 443),
		"resolves to azure":          socks(3, "azure.ok.example", 443),
		// The Host says another thing than the target.
		"host differs":         get("http://example.com/evil", "evil.test"),
		"host port differs":    get("http://example.com/evil", "example.com:8443"),
		"two hosts":            "GET http://example.com/evil HTTP/1.1\r\nHost: example.com\r\nHost: evil.test\r\n\r\n",
		"no host":              "GET http://example.com/evil HTTP/1.1\r\n\r\n",
		"space before colon":   "GET http://example.com/evil HTTP/1.1\r\nHost : evil.test\r\nHost: example.com\r\n\r\n",
		"folded host":          "GET http://example.com/evil HTTP/1.1\r\nHost: example.com\r\n .evil.test\r\n\r\n",
		"connect host differs": "CONNECT example.com:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n" + tls("evil.test"),
		"origin form":          "GET /evil HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"asterisk":             "OPTIONS * HTTP/1.1\r\nHost: evil.test\r\n\r\n",
		"https URL":            get("https://example.com/evil", "example.com"),
		"ftp URL":              get("ftp://evil.test/", "evil.test"),
		"file URL":             get("file:///etc/passwd", "example.com"),
		"plain on 443":         get("http://example.com:443/evil", "example.com:443"),
		// Inside a tunnel to port 80.
		"tunnel host differs":       connectLine("example.com:80") + get("/evil", "evil.test"),
		"tunnel absolute":           connectLine("example.com:80") + get("http://evil.test/", "evil.test"),
		"tunnel in tunnel":          connectLine("example.com:80") + connectLine("evil.test:443"),
		"tunnel second request":     connectLine("example.com:80") + "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n" + get("/evil", "evil.test"),
		"tunnel not HTTP":           connectLine("example.com:80") + "evil evil evil\r\n\r\n",
		"tunnel HTTP/2":             connectLine("example.com:80") + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nevil",
		"socks tunnel host differs": socks(3, "example.com", 80) + get("/evil", "evil.test"),
		// Inside a tunnel to TLS.
		"sni differs":          ok + tls("evil.test"),
		"sni differs on 8443":  connectLine("example.com:8443") + tls("evil.test"),
		"sni absent":           ok + string(records(helloMsg(ext{99, []byte("evil")}), 16384)),
		"sni twice":            ok + string(records(helloMsg(sni("example.com"), sni("evil.test")), 16384)),
		"sni right one second": ok + string(records(helloMsg(sni("evil.test"), sni("example.com")), 16384)),
		"sni in pieces":        ok + string(records(helloMsg(sni("evil.test")), 1)),
		"sni with ECH":         ok + string(records(helloMsg(sni("example.com"), ext{extECH, []byte("evil")}), 16384)),
		"not TLS on 443":       ok + get("/evil", "example.com"),
		"ssh on 443":           ok + "SSH-2.0-evil\r\n",
		"socks sni differs":    socks(3, "example.com", 443) + tls("evil.test"),
		"socks not TLS on 443": socks(3, "example.com", 443) + "evil",
		"SSLv2 on 443":         ok + "\x80\x2e\x01\x03\x03evil",
		// Request smuggling.
		"length and chunked":        post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+smuggled),
		"two lengths":               post("Content-Length: 0\r\nContent-Length: 40\r\n", smuggled),
		"list of lengths":           post("Content-Length: 0, 40\r\n", smuggled),
		"signed length":             post("Content-Length: +40\r\n", smuggled),
		"hex length":                post("Content-Length: 0x28\r\n", smuggled),
		"chunked twice":             post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"+smuggled),
		"chunked and identity":      post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"+smuggled),
		"obscured chunked":          post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"+smuggled),
		"vertical tab chunked":      post("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"+smuggled),
		"chunked in 1.0":            "POST http://example.com/ HTTP/1.0\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"bare LF":                   "GET http://example.com/evil HTTP/1.1\nHost: example.com\n\n",
		"bare LF in head":           "GET http://example.com/evil HTTP/1.1\r\nHost: example.com\r\nX: y\nHost: evil.test\r\n\r\n",
		"bare CR in head":           "GET http://example.com/evil HTTP/1.1\r\nHost: example.com\r\nX: y\rHost: evil.test\r\n\r\n",
		"NUL in head":               "GET http://example.com/evil HTTP/1.1\r\nHost: example.com\r\nX: \x00\r\n\r\n",
		"space in target":           "GET http://example.com/evil HTTP/1.1 HTTP/1.1\r\nHost: example.com\r\n\r\n",
		"tab in request line":       "GET\thttp://example.com/evil\tHTTP/1.1\r\nHost: example.com\r\n\r\n",
		"HTTP/0.9":                  "GET http://example.com/evil\r\n",
		"HTTP/1.2":                  "GET http://example.com/evil HTTP/1.2\r\nHost: example.com\r\n\r\n",
		"connect with body":         "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nContent-Length: 4\r\n\r\nevil",
		"pipelined after a refusal": get("http://evil.test/", "evil.test") + get("http://example.com/evil", "example.com"),
		"header injection by name":  "GET http://example.com/evil HTTP/1.1\r\nHost: example.com\r\nX Y: z\r\n\r\n",
		// Other protocols and commands.
		"socks bind":                 string(socksBytes(2, 3, []byte("example.com"), 443)),
		"socks udp":                  string(socksBytes(3, 3, []byte("example.com"), 443)),
		"socks unknown command":      string(socksBytes(9, 3, []byte("example.com"), 443)),
		"socks unknown address":      "\x05\x01\x00\x05\x01\x00\x09example.com\x01\xbb",
		"socks reserved byte":        "\x05\x01\x00\x05\x01\x01\x03\x0bexample.com\x01\xbb" + "evil",
		"socks wrong version inside": "\x05\x01\x00\x04\x01\x00\x03\x0bexample.com\x01\xbb",
		"socks no method":            "\x05\x00\x05\x01\x00\x03\x0bexample.com\x01\xbb",
		"socks gssapi":               "\x05\x01\x01\x05\x01\x00\x03\x0bexample.com\x01\xbb",
		"socks4":                     "\x04\x01\x01\xbb\x5d\xb8\xd7\x0e\x00",
		"socks4a":                    "\x04\x01\x01\xbb\x00\x00\x00\x01\x00example.com\x00",
		"tls to the proxy":           tls("example.com"),
		"empty line first":           "\r\n" + get("http://example.com/evil", "example.com"),
		"lower-case method":          "connect example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
	}
}

// AC-38, AC-39, AC-40, AC-42, AC-43: none may cause a connection elsewhere, a lookup of another name, or a byte of it
// at the allowed site.
func TestEgressBypassAttempts(t *testing.T) {
	attempts := bypassAttempts()
	if len(attempts) < 60 {
		t.Fatalf("%d attempts", len(attempts))
	}
	allowed := []netip.AddrPort{netip.AddrPortFrom(public, 80), netip.AddrPortFrom(public, 443), netip.AddrPortFrom(public, 8443)}
	y, p, addr := newYard(t)
	for name, bytes := range attempts {
		t.Run(name, func(t *testing.T) {
			answer := raw(t, addr, bytes)
			// Nothing below the proxy's own words: a relayed answer has this server's.
			if strings.Contains(answer, "Date: ") && name != "tunnel second request" {
				t.Errorf("an answer came through: %q", answer)
			}
			for _, to := range y.dials() {
				if !slices.Contains(allowed, to) {
					t.Fatalf("it connected to %s", to)
				}
			}
		})
	}
	p.Close() // so that what was relayed has arrived
	y.onlyAllowed(t)
	t.Logf("%d attempts", len(attempts))
}

// The same yard lets through what is allowed, by each road the attempts take:
// else the test above could pass on a proxy that does nothing.
func TestEgressYardControl(t *testing.T) {
	y, p, addr := newYard(t)
	for name, bytes := range map[string]string{
		"get": get("http://example.com/get", "example.com"), "get with port": get("http://EXAMPLE.com.:80/port", "example.com"), "get 1.0": "GET http://example.com/one HTTP/1.0\r\n\r\n",
		"tunnel 80": connectLine("example.com:80") + get("/tunnel", "example.com"), "socks 80": socks(3, "example.com", 80) + get("/socks", "example.com:80"),
		"post":      "POST http://example.com/post HTTP/1.1\r\nHost: example.com\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody",
		"chunked":   "POST http://example.com/chunked HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
		"pipelined": "GET http://example.com/first HTTP/1.1\r\nHost: example.com\r\n\r\n" + get("http://example.com/second", "example.com"),
	} {
		if answer := raw(t, addr, bytes); !strings.Contains(answer, "200 OK") {
			t.Errorf("%s: %q", name, answer)
		}
	}
	for i, bytes := range []string{
		connectLine("example.com:443"), connectLine("example.com:8443"), socks(3, "example.com", 443), connectLine("EXAMPLE.COM.:443"),
	} {
		raw(t, addr, bytes+string(records(helloMsg(sni("example.com"), ext{99, fmt.Appendf(nil, "mark%d", i)}), 16384)))
	}
	raw(t, addr, connectLine("example.com:8443")+"plain text mark4")
	p.Close()
	want := []string{"get", "port", "one", "tunnel", "socks", "post", "chunked", "first", "second"}
	until(t, "all requests arrive", func() bool { y.mu.Lock(); defer y.mu.Unlock(); return len(y.requests) >= len(want) })
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, path := range want {
		if !slices.Contains(y.requests, "example.com /"+path) && !slices.Contains(y.requests, "example.com:80 /"+path) {
			t.Errorf("%s did not arrive: %q", path, y.requests)
		}
	}
	for i := range 5 {
		if mark := fmt.Sprintf("mark%d", i); !strings.Contains(y.bytes.String(), mark) {
			t.Errorf("%s did not arrive", mark)
		}
	}
}
