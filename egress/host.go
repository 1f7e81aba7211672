package egress

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// maxName is the longest host name in bytes (RFC 1035 section 2.3.4, without
// the root's dot); maxLabel the longest label.
const (
	maxName  = 253
	maxLabel = 63
)

// endpoint is a host and port in the one form that rules are compared with,
// that is resolved, and that is dialled. The Claude Code SOCKS bypass (a NUL in
// the name) lived on the checker and the resolver reading a name differently;
// nothing after parseHost sees what the client wrote.
type endpoint struct {
	name string     // lower-case ASCII without a trailing dot; "" for an address
	addr netip.Addr // valid for an address: unmapped, without a zone
	port uint16
}

// host is the name or address, without brackets.
func (e endpoint) host() string {
	if e.name != "" {
		return e.name
	}
	return e.addr.String()
}

// String is host:port, with brackets around IPv6.
func (e endpoint) String() string {
	return e.bracketed() + ":" + strconv.Itoa(int(e.port))
}

func (e endpoint) bracketed() string {
	if e.name == "" && e.addr.Is6() {
		return "[" + e.addr.String() + "]"
	}
	return e.host()
}

// parseHost reads a host as a client or a rule writes it. IPv6 may stand in
// brackets or, where no port can follow, without.
func parseHost(s string) (endpoint, error) {
	if s == "" {
		return endpoint{}, invalid("the host is empty; name one")
	}
	// Bounded before anything walks it; a Unicode name may take more bytes than
	// its ASCII form, never fewer than a quarter.
	if len(s) > 4*maxName {
		return endpoint{}, invalid("the host is longer than %d bytes; shorten it", maxName)
	}
	if !utf8.ValidString(s) {
		return endpoint{}, invalid("the host %s is not valid UTF-8; write it in plain letters", quoteHost(s))
	}
	for _, r := range s {
		// Separators of URLs, and what libc, browsers and DNS libraries disagree on.
		if r <= ' ' || r == 0x7f || strings.ContainsRune(`@#%/\?"'<>&;,|^{}()$!*+=~`+"`", r) {
			return endpoint{}, invalid("the host %s contains the character %q; remove it", quoteHost(s), r)
		}
	}
	if s[0] == '[' {
		if s[len(s)-1] != ']' {
			return endpoint{}, invalid("the host %s has an opening bracket without its closing one; write [address]", quoteHost(s))
		}
		a, err := netip.ParseAddr(s[1 : len(s)-1])
		if err != nil || !a.Is6() {
			return endpoint{}, invalid("the host %s is not an IPv6 address in brackets; write the address in full", quoteHost(s))
		}
		return endpoint{addr: a.Unmap()}, nil
	}
	if strings.ContainsRune(s, ':') {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return endpoint{}, invalid("the host %s is not an IPv6 address; write [address] or a name", quoteHost(s))
		}
		return endpoint{addr: a.Unmap()}, nil
	}
	name, err := normaliseName(s)
	if err != nil {
		return endpoint{}, err
	}
	if endsInNumber(name) {
		// inet_aton and WHATWG read 127.1, 0x7f000001, 2130706433 and 0177.0.0.1
		// as 127.0.0.1, DNS libraries as a name: only the one plain form is left.
		a, err := netip.ParseAddr(name)
		if err != nil {
			return endpoint{}, invalid("the host %s looks like an IPv4 address in a short, octal or hexadecimal form; write it as four decimal numbers", quoteHost(s))
		}
		return endpoint{addr: a}, nil
	}
	return endpoint{name: name}, nil
}

// normaliseName gives the lower-case ASCII form of a DNS name.
func normaliseName(s string) (string, error) {
	s = strings.TrimSuffix(s, ".")
	labels := strings.Split(s, ".")
	for i, label := range labels {
		ascii, err := normaliseLabel(label)
		if err != nil {
			return "", invalid("the host %s has a label %s that %s; correct the name", quoteHost(s), quoteHost(label), err.Error())
		}
		labels[i] = ascii
	}
	name := strings.Join(labels, ".")
	if len(name) > maxName {
		return "", invalid("the host is longer than %d bytes; shorten it", maxName)
	}
	return name, nil
}

type labelFault string

func (f labelFault) Error() string { return string(f) }

func normaliseLabel(label string) (string, error) {
	if label == "" {
		return "", labelFault("is empty")
	}
	ascii := true
	for i := range len(label) {
		ascii = ascii && label[i] < utf8.RuneSelf
	}
	if ascii {
		label = lowerASCII(label)
		if !strings.HasPrefix(label, "xn--") {
			return label, checkLDH(label)
		}
	} else {
		// Lower-casing may not turn a foreign letter into an ASCII one: the Kelvin
		// sign lower-cases to k.
		var b strings.Builder
		for _, r := range label {
			l := unicode.ToLower(r)
			if r >= utf8.RuneSelf && l < utf8.RuneSelf {
				return "", labelFault("has a character that stands for a plain letter")
			}
			b.WriteRune(l)
		}
		label = b.String()
	}
	// The registration profile maps nothing: full-width letters, ideographic full
	// stops, soft hyphens, joiners out of place and unnormalised text are errors
	// here, where the lookup profile would silently turn them into other names.
	// Both directions must agree, so that no two spellings share a meaning.
	u, err := idna.Registration.ToUnicode(label)
	if err != nil {
		return "", labelFault("is not a valid international name")
	}
	a, err := idna.Registration.ToASCII(u)
	if err != nil || !strings.HasPrefix(a, "xn--") || strings.HasPrefix(label, "xn--") && a != label {
		return "", labelFault("is not a valid international name")
	}
	return a, checkLDH(a)
}

// checkLDH holds a label to letters, digits and hyphens (RFC 1123 section 2.1),
// and the underscore that service names and some buckets have.
func checkLDH(label string) error {
	if len(label) > maxLabel {
		return labelFault("is longer than 63 bytes")
	}
	for i := range len(label) {
		c := label[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return labelFault("has a character outside letters, digits and hyphens")
		}
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return labelFault("begins or ends with a hyphen")
	}
	return nil
}

// endsInNumber is the WHATWG URL Standard's "ends in a number" check: such a
// host is an IPv4 address or nothing.
func endsInNumber(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if strings.HasPrefix(last, "0x") {
		return strings.Trim(last[2:], "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// parseHostPort reads "host:port". Without a port it is def; def 0 demands one.
// IPv6 must stand in brackets.
func parseHostPort(s string, def uint16) (endpoint, error) {
	if strings.ContainsRune(s, '@') {
		return endpoint{}, invalid("the host %s has a user name or password before it; leave it out of the address", quoteHost(s))
	}
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host, port = s[:i], s[i+1:]
		if strings.ContainsRune(host, ':') && !strings.HasPrefix(host, "[") {
			return endpoint{}, invalid("the host %s has several colons; write an IPv6 address in brackets", quoteHost(s))
		}
		p, err := parsePort(port)
		if err != nil {
			return endpoint{}, err
		}
		def = p
	}
	if def == 0 {
		return endpoint{}, invalid("the host %s has no port; write host:port", quoteHost(s))
	}
	e, err := parseHost(host)
	e.port = def
	return e, err
}

// parsePort reads 1..65535 in plain decimal: no sign, no leading zero.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != s {
		return 0, invalid("the port %s is not a number from 1 to 65535; correct it", quoteHost(s))
	}
	return uint16(n), nil
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// quoteHost makes hostile text safe for logs and terminals (CVE-2003-0063) and bounds it.
func quoteHost(s string) string {
	const most = 80
	// What stands before an "@" can be a password.
	if i := strings.LastIndexByte(s, '@'); i > 0 {
		s = "..." + s[i:]
	}
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "..."
	}
	return strconv.QuoteToASCII(s)
}
