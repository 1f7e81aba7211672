package confine

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// rtRequests gathers requests to the kernel's routing, each of which is
// acknowledged, see rtnetlink(7) and netlink(7).
type rtRequests struct {
	b        []byte
	count    int
	optional []uint32 // sequence numbers of those that may be refused
}

type rtAttr struct {
	kind uint16
	data []byte
}

func (a rtAttr) append(b []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(a.data)))
	b = binary.NativeEndian.AppendUint16(b, a.kind)
	return rtAlign(append(b, a.data...))
}

// rtAlign pads to RTA_ALIGNTO, which is also NLMSG_ALIGNTO.
func rtAlign(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// nested is an attribute made of a header, which may be nil, and attributes.
func nested(kind uint16, header []byte, attrs ...rtAttr) rtAttr {
	data := rtAlign(append([]byte(nil), header...))
	for _, a := range attrs {
		data = a.append(data)
	}
	return rtAttr{kind, data}
}

func rtNumber(kind uint16, v uint32) rtAttr {
	return rtAttr{kind, binary.NativeEndian.AppendUint32(nil, v)}
}

func rtText(kind uint16, s string) rtAttr { return rtAttr{kind, append([]byte(s), 0)} }

// add appends one request. header is the struct of its kind.
func (r *rtRequests) add(kind, flags uint16, header []byte, attrs ...rtAttr) {
	start := len(r.b)
	r.count++
	r.b = binary.NativeEndian.AppendUint32(r.b, 0)
	r.b = binary.NativeEndian.AppendUint16(r.b, kind)
	r.b = binary.NativeEndian.AppendUint16(r.b, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	r.b = binary.NativeEndian.AppendUint32(r.b, uint32(r.count))
	r.b = binary.NativeEndian.AppendUint32(r.b, 0)
	r.b = append(r.b, header...)
	for _, a := range attrs {
		r.b = a.append(r.b)
	}
	binary.NativeEndian.PutUint32(r.b[start:], uint32(len(r.b)-start))
}

// linkHeader is struct ifinfomsg.
func linkHeader(index int, flags, change uint32) []byte {
	b := make([]byte, 4, unix.SizeofIfInfomsg)
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return binary.NativeEndian.AppendUint32(b, change)
}

// up brings an interface up.
func (r *rtRequests) up(index int) {
	r.add(unix.RTM_NEWLINK, 0, linkHeader(index, unix.IFF_UP, unix.IFF_UP))
}

// withoutLinkLocal has IPv6 make no address for an interface by itself: it has
// nobody to speak to. A kernel without IPv6 may refuse.
func (r *rtRequests) withoutLinkLocal(index int) {
	const none = 1 // IN6_ADDR_GEN_MODE_NONE of linux/if_link.h
	r.add(unix.RTM_NEWLINK, 0, linkHeader(index, 0, 0),
		nested(unix.IFLA_AF_SPEC, nil, nested(unix.AF_INET6, nil, rtAttr{unix.IFLA_INET6_ADDR_GEN_MODE, []byte{none}})))
	r.optional = append(r.optional, uint32(r.count))
}

// address gives an interface an IPv4 address.
func (r *rtRequests) address(index int, addr [4]byte, bits uint8) {
	header := binary.NativeEndian.AppendUint32([]byte{unix.AF_INET, bits, 0, unix.RT_SCOPE_UNIVERSE}, uint32(index))
	r.add(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, header,
		rtAttr{unix.IFA_LOCAL, addr[:]}, rtAttr{unix.IFA_ADDRESS, addr[:]})
}

// address6 gives an interface an IPv6 address at once: nobody else can have it.
func (r *rtRequests) address6(index int, addr [16]byte, bits uint8) {
	header := binary.NativeEndian.AppendUint32([]byte{unix.AF_INET6, bits, unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE}, uint32(index))
	r.add(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, header, rtAttr{unix.IFA_LOCAL, addr[:]}, rtAttr{unix.IFA_ADDRESS, addr[:]})
}

// linkLocal gives an interface an IPv6 address that leads nowhere. A kernel
// without IPv6 may refuse.
func (r *rtRequests) linkLocal(index int) {
	header := binary.NativeEndian.AppendUint32([]byte{unix.AF_INET6, 128, 0, unix.RT_SCOPE_LINK}, uint32(index))
	addr := rtAttr{unix.IFA_ADDRESS, []byte{0: 0xfe, 1: 0x80, 15: 1}}
	r.add(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, header, addr)
	r.optional = append(r.optional, uint32(r.count))
}

// defaultRoute adds one of a kind (RTN_UNICAST, RTN_LOCAL) to a family's main table.
func (r *rtRequests) defaultRoute(family, kind, scope uint8, attrs ...rtAttr) {
	header := []byte{family, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, scope, kind, 0, 0, 0, 0}
	r.add(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, header, attrs...)
}

// run sends all to the kernel over a netlink socket and gives the first refusal.
func (r *rtRequests) run(fd int) error {
	if err := unix.Sendto(fd, r.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 16<<10)
	var first error
	for acked := 0; acked < r.count; {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.SizeofNlMsghdr || size > len(b) {
				return errWire
			}
			if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR && size >= unix.SizeofNlMsghdr+4 {
				acked++
				if code := -int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])); code != 0 && first == nil && !slices.Contains(r.optional, binary.NativeEndian.Uint32(b[8:])) {
					first = unix.Errno(code)
				}
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
	return first
}
