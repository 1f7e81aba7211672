package egress

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"mcp-sandbox/sandbox"
)

func TestParseRule(t *testing.T) {
	for in, want := range map[string]string{
		"example.com": "example.com", "Example.COM.": "example.com", " example.com ": "example.com", "*.Example.com": "*.example.com",
		"example.com:8080": "example.com:8080", "*.example.com:22": "*.example.com:22", "!bad.example": "!bad.example", "!*.bad.example:1": "!*.bad.example:1",
		"10.0.0.0/8": "10.0.0.0/8", "10.0.0.0/8:8080": "10.0.0.0/8:8080", "192.0.2.7": "192.0.2.7", "192.0.2.7/32": "192.0.2.7", "192.0.2.7:53": "192.0.2.7:53",
		"::1": "::1", "[::1]": "::1", "[::1]:80": "[::1]:80", "fd00::/8": "fd00::/8", "[fd00::/8]:443": "[fd00::/8]:443", "bücher.example": "xn--bcher-kva.example",
	} {
		r, err := ParseRule(in)
		if err != nil || r.String() != want {
			t.Errorf("ParseRule(%q) = %q, %v; want %q", in, r, err, want)
		}
	}
	for _, in := range []string{"", " ", "!", "!!a.com", "*", "*.", "**.a.com", "a.*.com", "*a.com", "a.com:", "a.com:0", "a.com:99999", "a.com:80:80", "a.com:*", "http://a.com", "a.com/x",
		"10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/08", "10/8", "0x7f.1", "::ffff:10.0.0.0/104", "fe80::1%eth0", "*.10.0.0.1", "[a.com]:80", "[10.0.0.0/8]:80", "[::1]80", "[::1", "[fd00::]/8:80", "a b", "a\x00b", "a,b.com", "null", "[]", "{}"} {
		r, err := ParseRule(in)
		var own *sandbox.Error
		if in == "null" { // a plain name, so a rule for a host of that name and nothing else
			if err != nil || r.matchesName("example.com") {
				t.Errorf("ParseRule(null) = %v, %v", r, err)
			}
			continue
		}
		if err == nil || !errors.As(err, &own) || own.Code() != "invalid_argument" {
			t.Errorf("ParseRule(%q) = %q, %v; want a refusal", in, r, err)
		}
		if (r != Rule{}) {
			t.Errorf("ParseRule(%q) gave a rule beside its error", in)
		}
	}
}

func TestDecide(t *testing.T) {
	p, err := NewPolicy([]string{"example.com", "*.wild.example", "ssh.example:22", "*.ports.example:8443", "198.41.0.4", "!secret.wild.example", "1.1.1.0/24:853"},
		[]string{"*.deep.wild.example", "198.41.0.4:80", "9.9.9.9"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		host  string
		port  int
		allow bool
		rule  string
	}{
		{"example.com", 443, true, "example.com"}, {"example.com", 80, true, "example.com"}, {"EXAMPLE.com.", 443, true, "example.com"},
		{"example.com", 22, false, "example.com"}, {"www.example.com", 443, false, ""}, {"example.com.evil.test", 443, false, ""}, {"evilexample.com", 443, false, ""},
		{"a.wild.example", 443, true, "*.wild.example"}, {"a.b.wild.example", 80, true, "*.wild.example"}, {"wild.example", 443, false, ""}, {"xwild.example", 443, false, ""}, {"evilwild.example", 443, false, ""}, {"a.evilwild.example", 443, false, ""},
		{"secret.wild.example", 443, false, "!secret.wild.example"}, {"secret.wild.example", 22, false, "!secret.wild.example"}, {"x.deep.wild.example", 443, false, "!*.deep.wild.example"},
		{"ssh.example", 22, true, "ssh.example:22"}, {"ssh.example", 443, false, "ssh.example:22"}, {"a.ports.example", 8443, true, "*.ports.example:8443"},
		{"198.41.0.4", 443, true, "198.41.0.4"}, {"198.41.0.4", 80, false, "!198.41.0.4:80"}, {"1.1.1.1", 853, true, "1.1.1.0/24:853"}, {"1.1.1.1", 443, false, "1.1.1.0/24:853"}, {"9.9.9.9", 9, false, "!9.9.9.9"},
		{"8.8.8.8", 443, false, ""}, {"example.com", 0, false, ""}, {"example.com", -1, false, ""}, {"example.com", 65536 + 443, false, ""}, {"exa mple.com", 443, false, ""}, {"", 443, false, ""},
	} {
		d := p.Decide(c.host, c.port)
		if d.Allowed != c.allow || d.Rule != c.rule || d.Reason == "" {
			t.Errorf("Decide(%q, %d) = %+v, want %v by %q", c.host, c.port, d, c.allow, c.rule)
		}
	}
}

// AC-37: an empty, missing or malformed list is closed.
func TestAC37EmptyListIsClosed(t *testing.T) {
	closed := func(t *testing.T, p *Policy) {
		t.Helper()
		for _, h := range []string{"example.com", "github.com", "127.0.0.1", "8.8.8.8", "::1", "localhost"} {
			for _, port := range []int{22, 80, 443} {
				if d := p.Decide(h, port); d.Allowed || d.Reason == "" {
					t.Errorf("%s:%d is allowed: %+v", h, port, d)
				}
			}
		}
		if a := p.decideAddr(public, 443, true); a.Allowed {
			t.Errorf("%s is allowed", public)
		}
	}
	for name, p := range map[string]*Policy{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) { closed(t, p) })
	}
	for name, lists := range map[string][3][]string{
		"missing": {}, "empty": {{}, {}, {}}, "only denials": {{"!example.com"}, {"a.example"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := NewPolicy(lists[0], lists[1], lists[2])
			if err != nil {
				t.Fatal(err)
			}
			closed(t, p)
		})
	}
	for name, lists := range map[string][3][]string{
		"empty string": {{""}, nil, nil}, "star": {{"*"}, nil, nil}, "one bad of many": {{"example.com", "exa mple"}, nil, nil}, "bad denial": {{"example.com"}, {"10.0.0.1/8"}, nil},
		"doubled denial": {{"example.com"}, {"!a.example"}, nil}, "unknown preset": {nil, nil, []string{"golang"}}, "empty preset": {nil, nil, []string{""}}, "comma list": {{"a.example,b.example"}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := NewPolicy(lists[0], lists[1], lists[2])
			var own *sandbox.Error
			if !errors.As(err, &own) || own.Code() != "invalid_argument" {
				t.Errorf("error %v", err)
			}
			closed(t, p)
		})
	}
}

// AC-39: what an allowed name may not resolve to.
func TestAC39SpecialAddresses(t *testing.T) {
	everything := policy(t, "0.0.0.0/0", "::/0", "example.com")
	special := []string{
		"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1", "100.100.100.200", "100.127.255.255",
		"169.254.169.254", "169.254.0.1", "169.254.170.2", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::7f00:1", "::ffff:0:7f00:1", "fe80::1", "febf::1", "fec0::1", "fc00::1", "fdff::1", "fd00:ec2::254", "fd20:ce::254", "ff02::1", "100::1", "2001:db8::1", "3fff::1", "4000::1", "5f00::1",
		"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1", "64:ff9b::6464:64c8", "64:ff9b:1::1", "64:ff9b:1:a00:0:1::",
		"2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:c0a8:1::1", "2002:a00:1::", "2001::1", "2001:0:7f00:1::", "2001:0:808:808:0:0:80ff:fffe", "2001:2::1", "2001:10::1", "2001:1ff::1",
	}
	for _, s := range special {
		a := netip.MustParseAddr(s)
		for _, literal := range []bool{true, false} {
			if d := everything.decideAddr(a, 443, literal); d.Allowed {
				t.Errorf("%s (literal %v) is allowed by a rule that does not name it", s, literal)
			} else if d.flag == "" {
				t.Errorf("%s: no flag in %+v", s, d)
			}
		}
		if d := policy(t, "example.com", s).decideAddr(a, 443, false); !d.Allowed {
			t.Errorf("%s is refused though a rule names it: %s", s, d.Reason)
		}
	}
	for _, s := range []string{"8.8.8.8", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "11.0.0.1", "168.63.129.17", "223.255.255.255", "2606:4700::1", "2a00:1450::1", "2001:4860:4860::8888", "64:ff9b::808:808", "2002:808:808::1"} {
		a := netip.MustParseAddr(s)
		if d := everything.decideAddr(a, 443, false); !d.Allowed {
			t.Errorf("%s is refused: %s", s, d.Reason)
		}
	}
	for _, c := range []struct {
		rule, addr string
		allow      bool
	}{
		{"10.0.0.0/8", "10.1.2.3", true}, {"10.1.0.0/16", "10.1.2.3", true}, {"10.1.0.0/16", "10.2.2.3", false}, {"8.0.0.0/5", "10.1.2.3", false},
		{"127.0.0.0/8", "127.0.0.1", true}, {"127.0.0.0/8:8080", "127.0.0.1", false}, {"127.0.0.0/8:443", "127.0.0.1", true},
		{"169.254.0.0/16", "169.254.169.254", false}, {"169.254.169.254", "169.254.169.254", true}, {"169.254.0.0/16", "169.254.1.1", true},
		{"fd00::/8", "fd12::1", true}, {"fd00::/8", "fd00:ec2::254", false}, {"100.64.0.0/10", "100.100.100.200", false},
		{"127.0.0.0/8", "64:ff9b::7f00:1", false}, {"64:ff9b::/96", "64:ff9b::7f00:1", false}, {"64:ff9b::7f00:0/104", "64:ff9b::7f00:1", true}, {"2002::/16", "2002:7f00:1::", false}, {"2002:7f00::/24", "2002:7f00:1::", true},
		{"::/0", "::1", false}, {"::1", "::1", true}, {"!64.0.0.0/8", "64:ff9b::808:808", true}, {"!8.8.8.0/24", "64:ff9b::808:808", false}, {"!8.8.8.0/24", "2002:808:808::", false}, {"!8.8.8.0/24", "8.8.8.8", false},
	} {
		p := policy(t, "example.com", c.rule)
		if d := p.decideAddr(netip.MustParseAddr(c.addr), 443, false); d.Allowed != c.allow {
			t.Errorf("rule %s, address %s: %+v, want %v", c.rule, c.addr, d, c.allow)
		}
	}
}

// AC-43: no policy opens the metadata address by the way.
func TestAC43MetadataNeedsItsOwnRule(t *testing.T) {
	all := []string{"0.0.0.0/0", "::/0", "*.internal", "169.254.0.0/16", "fd00::/8", "100.64.0.0/10"}
	var names []string
	for name := range presets() {
		names = append(names, name)
	}
	p, err := NewPolicy(all, nil, names)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "[::ffff:169.254.169.254]", "169.254.169.254.", "[64:ff9b::a9fe:a9fe]"} {
		if d := p.Decide(host, 80); d.Allowed {
			t.Errorf("%s is allowed by %s", host, d.Rule)
		}
	}
}

func TestPresets(t *testing.T) {
	got := presets()
	for _, name := range []string{"go", "npm", "pypi", "debian", "github", "crates"} {
		if len(got[name]) == 0 {
			t.Errorf("no preset %s", name)
		}
		if _, err := NewPolicy(nil, nil, []string{name}); err != nil {
			t.Error(err)
		}
	}
	if len(got) != 6 {
		t.Errorf("%d presets", len(got))
	}
	for name, rules := range got {
		for _, text := range rules {
			r, err := ParseRule(text)
			if err != nil || r.String() != text || r.deny || r.prefix.IsValid() {
				t.Errorf("preset %s: %q, %v", name, text, err)
			}
		}
	}
	p, err := NewPolicy(nil, []string{"sum.golang.org"}, []string{"go"})
	if err != nil || !p.Decide("proxy.golang.org", 443).Allowed || p.Decide("sum.golang.org", 443).Allowed || p.Decide("pypi.org", 443).Allowed {
		t.Errorf("preset go with a denial: %v, %v", p.Rules(), err)
	}
}

// FuzzRule holds that a rule prints as what it is, and that no rule lets a
// special address through that it does not lie beside.
func FuzzRule(f *testing.F) {
	for _, s := range []string{"example.com:80", "*.a.b", "!10.0.0.0/8:1", "[fd00::/8]:443", "::/0", "0.0.0.0/0", "::1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRule(s)
		if err != nil {
			return
		}
		again, err := ParseRule(r.String())
		if err != nil || again != r {
			t.Fatalf("%q gives %q, which gives %v, %v", s, r, again, err)
		}
		p, err := NewPolicy([]string{s}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		lo := p.decideAddr(netip.MustParseAddr("127.0.0.1"), 80, true)
		if lo.Allowed && !strings.Contains(s, "127.") && !strings.Contains(strings.ToLower(s), ":7f") {
			t.Fatalf("%q opens loopback", s)
		}
	})
}

// Decide judges a host as a client writes it, and a port.
func (p *Policy) Decide(host string, port int) Decision {
	e, err := parseHost(host)
	if err != nil {
		return Decision{Reason: err.Error()}
	}
	if port < 1 || port > 65535 {
		return Decision{Reason: "the port is not a number from 1 to 65535"}
	}
	e.port = uint16(port)
	return p.decide(e)
}

// TestRulesThatOpenTooMuch: they are warned of, and addresses of pages are explained.
func TestRulesThatOpenTooMuch(t *testing.T) {
	for rule, warned := range map[string]bool{"*.com": true, "*.co.uk": true, "*.github.io": true, "*.s3.amazonaws.com": true, "*.example.com": false, "*.example.co.uk": false, "*.internal": false, "*.corp": false, "com": false, "*.github.com": false} {
		p, err := NewPolicy([]string{rule}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Warnings(); (len(got) == 1) != warned || len(got) > 1 {
			t.Errorf("%s: %q", rule, got)
		}
	}
	if p, _ := NewPolicy([]string{"x.example"}, []string{"*.com"}, nil); len(p.Warnings()) > 0 {
		t.Error("a denial is warned of")
	}
	for rule, want := range map[string]string{"http://example.com": `write "example.com"`, "https://example.com:8443/x?y": `write "example.com:8443"`, "ftp://*.example.com": `write "*.example.com"`} {
		if _, err := ParseRule(rule); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", rule, err)
		}
	}
	for name := range presets() {
		if p, err := NewPolicy(nil, nil, []string{name}); err != nil || len(p.Warnings()) > 0 {
			t.Errorf("%s: %v %v", name, p.Warnings(), err)
		}
	}
}
