package egress

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"mcp-sandbox/sandbox"
)

// AC-38: names as checkers and resolvers have read them differently.
func TestAC38HostNames(t *testing.T) {
	long := strings.Repeat("a.", 126) + "a"
	for _, c := range []struct{ in, want string }{
		{"example.com", "example.com"},
		{"EXAMPLE.Com", "example.com"},
		{"example.com.", "example.com"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"XN--BCHER-KVA.example", "xn--bcher-kva.example"},
		{"bücher.example", "xn--bcher-kva.example"},
		{"BÜCHER.example", "xn--bcher-kva.example"},
		{"_dmarc.example.com", "_dmarc.example.com"},
		{"r3---sn-a.example.com", "r3---sn-a.example.com"},
		{"4ever.example", "4ever.example"},
		{"example.4ever", "example.4ever"},
		{"192.0.2.7", "192.0.2.7"},
		{"192.0.2.7.", "192.0.2.7"},
		{"[2001:DB8::1]", "2001:db8::1"},
		{"2001:db8:0:0::1", "2001:db8::1"},
		{"[::ffff:10.1.2.3]", "10.1.2.3"},
		{"::ffff:7f00:1", "127.0.0.1"},
		{long, long},
	} {
		e, err := parseHost(c.in)
		if err != nil || e.host() != c.want {
			t.Errorf("parseHost(%q) = %q, %v; want %q", c.in, e.host(), err, c.want)
		}
	}
	for _, in := range []string{
		"", ".", "..", "example.com..", ".example.com", "a..b",
		"example.com\x00.evil.test", "\x00", "example.com%00.evil.test", "ex\nample.com", "ex\tample.com", "example.com ", " example.com", "example.com\r\n", "\x7f.com",
		"user@example.com", "example.com#x", "example.com/x", "example.com\\x", "example.com?x", "a,b.com", "a;b", "a*b", "*.example.com", "a'b", "a`b", "$(x)",
		"127.1", "127.0.1", "2130706433", "0x7f000001", "0X7F.1", "0177.0.0.1", "127.0.0.01", "1.2.3", "1.2.3.4.5", "256.1.1.1", "example.0x7f", "example.1", "0x", "1.2.3.0x",
		"fe80::1%eth0", "[fe80::1%25eth0]", "[::1", "::1]", "[127.0.0.1]", "[example.com]", "[]", "1::2::3", ":::", "[::1]x",
		"-a.com", "a-.com", strings.Repeat("a", 64) + ".com", long + "a", strings.Repeat("a.", 600), strings.Repeat("a", 70000),
		"exa\u00admple.com",      // soft hyphen
		"exa\u200bmple.com",      // zero width space
		"exa\u200dmple.com",      // joiner
		"\uff45xample.com",       // full-width e
		"example\u3002com",       // ideographic full stop
		"example\uff0ecom",       // full-width full stop
		"\uff11\uff12\uff17.0.1", // full-width digits
		"①②⑦.0.0.1",
		"\u212aelvin.example", // Kelvin sign, lower-cases to k
		"\u212a\u00fccher.example",
		"İstanbul.example",
		"e\u0301.example", // not composed
		"\u202eexample.com",
		"\ufeffexample.com",
		"xn--a", "xn--", "xn--abc-.com", "xn--example-.com", "xn--80ak6aa92e\u0430.com", "xn--99999999999.com", "xn--0.com", "xn--ls8h=.la",
		"\xff\xfe.com", "ex\xc0\xafample.com",
	} {
		e, err := parseHost(in)
		var own *sandbox.Error
		if err == nil {
			t.Errorf("parseHost(%.40q) = %q, want a refusal", in, e.host())
		} else if !errors.As(err, &own) || own.Code() != "invalid_argument" {
			t.Errorf("parseHost(%.40q): error %v has no code", in, err)
		} else if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("parseHost(%.40q): unprintable text in %q (AC-56)", in, err)
		}
	}
}

func TestHostPort(t *testing.T) {
	for _, c := range []struct {
		in   string
		def  uint16
		want string
	}{
		{"example.com:8080", 0, "example.com:8080"}, {"example.com", 80, "example.com:80"},
		{"[::1]:80", 0, "[::1]:80"}, {"[::1]", 443, "[::1]:443"}, {"127.0.0.1:1", 0, "127.0.0.1:1"},
	} {
		if e, err := parseHostPort(c.in, c.def); err != nil || e.String() != c.want {
			t.Errorf("parseHostPort(%q) = %v, %v", c.in, e, err)
		}
	}
	for _, in := range []string{"example.com", "example.com:", ":80", "example.com:0", "example.com:65536", "example.com:080", "example.com:+80", "example.com:-1",
		"example.com:80:80", "::1:80", "[::1]80", "[::1]:", "example.com:http", "example.com: 80", "example.com:８０", "a@b:80"} {
		if e, err := parseHostPort(in, 0); err == nil {
			t.Errorf("parseHostPort(%q) = %v, want a refusal", in, e)
		}
	}
	// Nor does a refusal, which is recorded, say a password.
	for _, in := range []string{"u:secret@example.com:81", "u:secret@example.com", "u:secret@[::1]:80", "u:secret@x:80:80"} {
		if _, err := parseHostPort(in, 80); err == nil || strings.Contains(err.Error()+quoteHost(in), "secret") {
			t.Errorf("parseHostPort(%q): %v, %s", in, err, quoteHost(in))
		}
	}
}

// FuzzHost holds what the rest relies on: an accepted name is plain ASCII, reads
// the same a second time, and no resolver can take it for an address.
func FuzzHost(f *testing.F) {
	for _, s := range []string{"example.com", "bücher.example", "[::1]", "0x7f.1", "a\x00b", "xn--bcher-kva.de", "1.2.3.4.", "é.com"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := parseHost(s)
		if err != nil {
			return
		}
		host := e.host()
		again, err := parseHost(host)
		if err != nil || again != e {
			t.Fatalf("%q gives %q, which gives %v, %v", s, host, again, err)
		}
		if e.name == "" {
			if e.addr.Zone() != "" || e.addr.Is4In6() {
				t.Fatalf("%q gives the address %v", s, e.addr)
			}
			return
		}
		if len(host) > maxName || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.Contains(host, "..") {
			t.Fatalf("%q gives the name %q", s, host)
		}
		if _, err := netip.ParseAddr(host); err == nil || endsInNumber(host) {
			t.Fatalf("%q gives a name that is an address: %q", s, host)
		}
	})
}
