package egress

import "net/netip"

// special is a block of addresses that a public name has no business resolving
// to.
type special struct {
	block netip.Prefix
	what  string
}

// specialBlocks is the IANA special-purpose registries (RFC 6890 and what
// followed), and the addresses clouds answer instance credentials on. A narrower
// block stands before the one around it: the first match names the refusal.
func specialBlocks() []special {
	mk := netip.MustParsePrefix
	return []special{
		{mk("169.254.169.254/32"), "a cloud metadata address"},
		{mk("169.254.170.2/32"), "a cloud metadata address"},   // ECS task credentials
		{mk("100.100.100.200/32"), "a cloud metadata address"}, // Alibaba
		{mk("168.63.129.16/32"), "a cloud metadata address"},   // Azure's wire server, in public space
		{mk("192.0.0.192/32"), "a cloud metadata address"},     // Oracle, classic
		{mk("fd00:ec2::254/128"), "a cloud metadata address"},  // EC2
		{mk("fd00:ec2::23/128"), "a cloud metadata address"},   // EKS pod identity
		{mk("fd20:ce::254/128"), "a cloud metadata address"},   // Google
		{mk("fd00:42::42/128"), "a cloud metadata address"},    // Scaleway
		{mk("0.0.0.0/8"), "an unspecified address"},            // dialling it reaches loopback
		{mk("10.0.0.0/8"), "a private address"},                // RFC 1918
		{mk("100.64.0.0/10"), "a carrier-grade NAT address"},   // RFC 6598
		{mk("127.0.0.0/8"), "a loopback address"},              // RFC 1122
		{mk("169.254.0.0/16"), "a link-local address"},         // RFC 3927
		{mk("172.16.0.0/12"), "a private address"},             // RFC 1918
		{mk("192.0.0.0/24"), "a reserved address"},             // RFC 6890
		{mk("192.0.2.0/24"), "a documentation address"},        // RFC 5737
		{mk("192.88.99.0/24"), "a 6to4 relay address"},         // RFC 7526
		{mk("192.168.0.0/16"), "a private address"},            // RFC 1918
		{mk("198.18.0.0/15"), "a benchmarking address"},        // RFC 2544
		{mk("198.51.100.0/24"), "a documentation address"},     // RFC 5737
		{mk("203.0.113.0/24"), "a documentation address"},      // RFC 5737
		{mk("224.0.0.0/4"), "a multicast address"},             // RFC 5771
		{mk("255.255.255.255/32"), "a broadcast address"},      // RFC 919
		{mk("240.0.0.0/4"), "a reserved address"},              // RFC 1112
		{mk("::/128"), "an unspecified address"},               //
		{mk("::1/128"), "a loopback address"},                  //
		{mk("64:ff9b:1::/48"), "a local NAT64 address"},        // RFC 8215
		{mk("fc00::/7"), "a private address"},                  // RFC 4193, ULA
		{mk("fe80::/10"), "a link-local address"},              // RFC 4291
		{mk("fec0::/10"), "a site-local address"},              // RFC 3879
		{mk("ff00::/8"), "a multicast address"},                // RFC 4291
		{mk("2001::/32"), "a Teredo address"},                  // RFC 4380: holds two IPv4 addresses
		{mk("2001::/23"), "a reserved address"},                // RFC 2928
		{mk("2001:db8::/32"), "a documentation address"},       // RFC 3849
		{mk("3fff::/20"), "a documentation address"},           // RFC 9637
		{mk("2620:4f:8000::/48"), "a reserved address"},        // RFC 7534, AS112
	}
}

// The two translation prefixes whose IPv4 address decides what is reached.
var (
	nat64     = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x00, 0x64, 0xff, 0x9b}), 96) // RFC 6052
	sixToFour = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x02}), 16)             // RFC 3056
	global6   = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20}), 3)                    // RFC 4291 section 2.4
)

// embedded is the IPv4 address inside a NAT64 or 6to4 address, and the number of
// prefix bits before it.
func embedded(a netip.Addr) (v4 netip.Addr, before int, ok bool) {
	b := a.As16()
	switch {
	case !a.Is6():
		return netip.Addr{}, 0, false
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16])), 96, true
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), 16, true
	}
	return netip.Addr{}, 0, false
}

// classify finds the special block an unmapped address lies in. For NAT64 and
// 6to4 it is the block of the IPv4 address inside, written in that form, so that
// a rule opens exactly what it spells out.
func classify(blocks []special, a netip.Addr) (special, bool) {
	for _, s := range blocks {
		if s.block.Contains(a) {
			return s, true
		}
	}
	if v4, before, ok := embedded(a); ok {
		s, bad := classify(blocks, v4)
		if !bad {
			return special{}, false
		}
		block, err := a.Prefix(before + s.block.Bits())
		if err != nil {
			block = netip.PrefixFrom(a, 128)
		}
		return special{block, s.what + " in a translated form"}, true
	}
	if a.Is6() && !global6.Contains(a) {
		// Nothing outside 2000::/3 is assigned to anyone: IPv4-compatible, SIIT and
		// all unallocated space end here.
		return special{netip.PrefixFrom(a, 3).Masked(), "a reserved address"}, true
	}
	return special{}, false
}
