package egress

import (
	"net/netip"
	"slices"
)

// Ports are the ports of the rules that allow something, in order.
func (p *Policy) Ports() []uint16 {
	if p == nil {
		return nil
	}
	var out []uint16
	for _, r := range p.allow {
		out = append(out, r.ports()...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ports are those an allowing rule covers.
func (r Rule) ports() []uint16 {
	if r.port != 0 {
		return []uint16{r.port}
	}
	return []uint16{80, 443}
}

// portsOf are those on which rules let a name be reached.
func (p *Policy) portsOf(name string) []uint16 {
	if p == nil {
		return nil
	}
	var out []uint16
	for _, r := range p.allow {
		if !r.matchesName(name) {
			continue
		}
		for _, port := range r.ports() {
			if !slices.Contains(out, port) && p.decide(endpoint{name: name, port: port}).Allowed {
				out = append(out, port)
			}
		}
	}
	return out
}

// Loopback are the addresses of this host's loopback that rules allow. Inside a
// session the same addresses are the session's own, so a listener has to stand
// there for each.
//
// A rule is an error, with code invalid_argument, where no such listener can:
// for IPv6, for more than one address, and for names that are the session's own.
func (p *Policy) Loopback() ([]netip.AddrPort, error) {
	if p == nil {
		return nil, nil
	}
	loopback4, loopback6 := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")
	const remedy = "inside a session it is the session's own; name one address and port, such as 127.0.0.1:5432"
	var out []netip.AddrPort
	for _, r := range p.allow {
		switch {
		case r.within(loopback4) && r.prefix.IsSingleIP():
			for _, port := range r.ports() {
				if to := netip.AddrPortFrom(r.prefix.Addr(), port); !slices.Contains(out, to) {
					out = append(out, to)
				}
			}
		case r.within(loopback4), r.within(loopback6):
			return nil, invalid("the rule %s can be reached by no program: %s", r, remedy)
		case r.name == "localhost":
			return nil, invalid("the rule %s can be reached by no program: %s", r, remedy)
		}
	}
	return out, nil
}
