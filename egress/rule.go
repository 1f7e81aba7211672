package egress

import (
	"net/netip"
	"strconv"
	"strings"
)

// Rule is one line of a list: a host, all hosts below one, or a range of
// addresses, with a port or without. The zero Rule matches nothing.
type Rule struct {
	deny   bool
	name   string       // exact, or the parent of a wildcard
	below  bool         // "*.name": any depth below name, not name itself
	prefix netip.Prefix // valid for addresses
	port   uint16       // 0: allow means 80 and 443, deny means every port
}

// ParseRule reads host, *.host, host:port, *.host:port, an IP address, a CIDR
// range, or one of these with a port: 192.0.2.7:8080, 192.0.2.0/24:8080,
// [2001:db8::1]:8080, [2001:db8::/32]:8080. A leading "!" makes it a denial.
//
// *.host covers every name below host at any depth and not host itself. A range
// may not have bits set after its prefix, and mapped IPv4 ranges are to be
// written as IPv4. Errors have code invalid_argument.
func ParseRule(s string) (Rule, error) {
	var r Rule
	text := strings.TrimSpace(s)
	text, r.deny = strings.CutPrefix(text, "!")
	bad := func(why string) (Rule, error) {
		return Rule{}, invalid("the rule %s %s", quoteHost(s), why)
	}
	if text == "" {
		return bad("is empty; write a host such as example.com")
	}
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		host, _, _ := strings.Cut(rest, "/")
		return bad("begins with " + quoteHost(scheme+"://") + ", and rules name hosts, not addresses of pages; write " + quoteHost(host))
	}
	host, port, err := splitRule(text)
	if err != nil {
		return bad(err.Error())
	}
	if port != "" {
		if r.port, err = parsePort(port); err != nil {
			return bad("has a port that is not a number from 1 to 65535; correct it")
		}
	}
	if strings.ContainsRune(host, '/') {
		p, err := netip.ParsePrefix(host)
		switch {
		case err != nil:
			return bad("is not a CIDR range; write it as 192.0.2.0/24 or [2001:db8::/32]:443")
		case p.Addr().Is4In6():
			return bad("is an IPv4 range in IPv6 clothes; write it as IPv4")
		case p != p.Masked():
			return bad("has bits set after its prefix; write " + p.Masked().String())
		}
		r.prefix = p
		return r, nil
	}
	host, r.below = strings.CutPrefix(host, "*.")
	e, err := parseHost(host)
	if err != nil {
		return bad("is not readable: " + err.Error())
	}
	if e.name == "" {
		if r.below {
			return bad("has a wildcard before an address; write a CIDR range")
		}
		r.prefix = netip.PrefixFrom(e.addr, e.addr.BitLen())
		return r, nil
	}
	r.name = e.name
	return r, nil
}

// splitRule parts the host from the port and takes off brackets.
func splitRule(s string) (host, port string, err error) {
	if s[0] == '[' {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", "", labelFault("has an opening bracket without its closing one; write [address]:port")
		}
		host, rest := s[1:end], s[end+1:]
		if !strings.ContainsRune(host, ':') {
			return "", "", labelFault("has brackets around something that is not IPv6; remove them")
		}
		if rest == "" {
			return host, "", nil
		}
		if rest[0] != ':' || len(rest) == 1 {
			return "", "", labelFault("has text after its bracket; write [address]:port")
		}
		return host, rest[1:], nil
	}
	switch strings.Count(s, ":") {
	case 0:
		return s, "", nil
	case 1:
		host, port, _ = strings.Cut(s, ":")
		if port == "" {
			return "", "", labelFault("ends in a colon; add the port or remove it")
		}
		return host, port, nil
	}
	return s, "", nil // IPv6 without brackets, so without a port
}

// String is the rule in the form ParseRule reads.
func (r Rule) String() string {
	var b strings.Builder
	if r.deny {
		b.WriteByte('!')
	}
	v6 := r.prefix.IsValid() && r.prefix.Addr().Is6() && r.port != 0
	if v6 {
		b.WriteByte('[')
	}
	switch {
	case r.prefix.IsValid() && r.prefix.IsSingleIP():
		b.WriteString(r.prefix.Addr().String())
	case r.prefix.IsValid():
		b.WriteString(r.prefix.String())
	case r.below:
		b.WriteString("*." + r.name)
	default:
		b.WriteString(r.name)
	}
	if v6 {
		b.WriteByte(']')
	}
	if r.port != 0 {
		b.WriteString(":" + strconv.Itoa(int(r.port)))
	}
	return b.String()
}

func (r Rule) matchesPort(port uint16) bool {
	if r.port != 0 {
		return r.port == port
	}
	return r.deny || port == 80 || port == 443
}

func (r Rule) matchesName(name string) bool {
	switch {
	case r.name == "" || name == "":
		return false
	case r.below:
		return len(name) > len(r.name)+1 && strings.HasSuffix(name, r.name) && name[len(name)-len(r.name)-1] == '.'
	}
	return name == r.name
}

func (r Rule) matchesAddr(a netip.Addr) bool {
	return r.prefix.IsValid() && r.prefix.Contains(a)
}

// within tells whether all the rule names lies inside block: such a rule was
// written for that block, where 0.0.0.0/0 was not.
func (r Rule) within(block netip.Prefix) bool {
	return r.prefix.IsValid() && r.prefix.Bits() >= block.Bits() && block.Contains(r.prefix.Addr())
}
