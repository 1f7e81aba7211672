package stage

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// attributesAt are the user attributes and access lists of a file or directory, none
// of one that is gone or may not be read.
func attributesAt(dir int, name string) map[string][]byte {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	attrs, _ := treecopy.Xattrs(fd)
	return attrs
}

func sameAttributes(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }

// attributesSum identifies attributes, "" for none.
func attributesSum(attrs map[string][]byte) string {
	if len(attrs) == 0 {
		return ""
	}
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		fmt.Fprintf(h, "%q %x\n", name, attrs[name])
	}
	return shortSum(h.Sum(nil))
}

// attributeLines are words for each attribute and each entry of an access list that
// differs.
func attributeLines(was, now map[string][]byte) (out []string) {
	names := maps.Clone(was)
	if names == nil {
		names = map[string][]byte{}
	}
	maps.Copy(names, now)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a, had := was[name]
		b, has := now[name]
		if had && has && bytes.Equal(a, b) {
			continue
		}
		switch name {
		case treecopy.AccessList:
			out = append(out, aclLines("access list", a, b)...)
			continue
		case treecopy.DefaultList:
			out = append(out, aclLines("access list of what is made in it", a, b)...)
			continue
		}
		switch name = "attribute " + show(name); {
		case !had:
			out = append(out, name+": "+attributeValue(b))
		case !has:
			out = append(out, name+" removed, it was "+attributeValue(a))
		default:
			out = append(out, name+": "+attributeValue(a)+" -> "+attributeValue(b))
		}
	}
	return out
}

// maxValue is how much of the value of an attribute is shown, in bytes.
const maxValue = 100

func attributeValue(b []byte) string {
	if len(b) > maxValue {
		return fmt.Sprintf("%q and %d bytes more", b[:maxValue], len(b)-maxValue)
	}
	return fmt.Sprintf("%q", b)
}

// who is whom an entry of an access list is about; id is that of a named user or
// group.
type who struct {
	tag uint16
	id  uint32
}

// The tags of posix_acl_xattr.h.
const (
	aclOwner  = 0x01
	aclUser   = 0x02
	aclGroup  = 0x04
	aclGroups = 0x08
	aclMask   = 0x10
	aclOther  = 0x20
)

func (w who) String() string {
	switch w.tag {
	case aclOwner:
		return "its owner"
	case aclUser:
		return "user " + strconv.FormatUint(uint64(w.id), 10)
	case aclGroup:
		return "its group"
	case aclGroups:
		return "group " + strconv.FormatUint(uint64(w.id), 10)
	case aclMask:
		return "mask"
	}
	return "others"
}

// accessList is who may do what, bits as in a mode.
type accessList map[who]uint16

// parseACL reads the value of an attribute; ok is false for what the kernel would not
// write.
func parseACL(b []byte) (_ accessList, ok bool) {
	if len(b) < 4 || (len(b)-4)%8 != 0 || binary.LittleEndian.Uint32(b) != 2 {
		return nil, false
	}
	l := accessList{}
	for b = b[4:]; len(b) > 0; b = b[8:] {
		w := who{binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint32(b[4:])}
		if w.tag != aclUser && w.tag != aclGroups {
			w.id = 0
		}
		l[w] = binary.LittleEndian.Uint16(b[2:]) & 7
	}
	return l, true
}

// modeACL is what a mode alone says.
func modeACL(mode uint32) accessList {
	return accessList{who{tag: aclOwner}: uint16(mode >> 6 & 7), who{tag: aclGroup}: uint16(mode >> 3 & 7), who{tag: aclOther}: uint16(mode & 7)}
}

// effective takes the mask off those that it bounds, and itself out.
func (l accessList) effective() accessList {
	mask, masked := l[who{tag: aclMask}]
	out := accessList{}
	for w, bits := range l {
		switch w.tag {
		case aclMask:
			continue
		case aclUser, aclGroup, aclGroups:
			if masked {
				bits &= mask
			}
		}
		out[w] = bits
	}
	return out
}

func (l accessList) sorted() []who {
	return slices.SortedFunc(maps.Keys(l), func(a, b who) int {
		return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.id, b.id))
	})
}

func bitsOf(bits uint16) string {
	b := []byte("---")
	for i, c := range []byte("rwx") {
		if bits&(4>>i) != 0 {
			b[i] = c
		}
	}
	return string(b)
}

func aclLines(what string, was, now []byte) (out []string) {
	a, okA := parseACL(was)
	b, okB := parseACL(now)
	if !okA && was != nil || !okB && now != nil {
		return []string{what + " differs, and cannot be read"}
	}
	all := maps.Clone(b)
	if all == nil {
		all = accessList{}
	}
	maps.Copy(all, a)
	for _, w := range all.sorted() {
		x, had := a[w]
		y, has := b[w]
		switch {
		case had && !has:
			out = append(out, fmt.Sprintf("%s: %s removed, it was %s", what, w, bitsOf(x)))
		case has && !had:
			out = append(out, fmt.Sprintf("%s: %s %s", what, w, bitsOf(y)))
		case x != y:
			out = append(out, fmt.Sprintf("%s: %s %s -> %s", what, w, bitsOf(x), bitsOf(y)))
		}
	}
	return out
}

// gains says who may do with the one what they may not do with the other. What a
// group or a named user had otherwise is not known, so others are the measure.
func gains(was, now accessList, bits uint16) (out []string) {
	was, now = was.effective(), now.effective()
	others := who{tag: aclOther}
	more := accessList{}
	for w, b := range now {
		before, ok := was[w]
		if !ok {
			before = was[others]
		}
		if w.tag != aclOwner {
			more[w] |= b &^ before
		}
	}
	// An entry that is gone may have kept somebody out.
	for w, before := range was {
		if _, ok := now[w]; !ok && w.tag != aclOwner {
			more[w] |= (now[others] | now[who{tag: aclGroup}]) &^ before
		}
	}
	for _, w := range more.sorted() {
		var may []string
		for i, what := range []string{"read", "write", "enter"} {
			if more[w]&bits&(4>>i) != 0 {
				may = append(may, what)
			}
		}
		if len(may) > 0 {
			out = append(out, w.String()+" may "+strings.Join(may, ", "))
		}
	}
	return out
}

// thing is what decides who may do what with a file or directory.
type thing struct {
	mode  uint32
	attrs map[string][]byte
}

func (x thing) access() accessList {
	if l, ok := parseACL(x.attrs[treecopy.AccessList]); ok {
		return l
	}
	return modeACL(x.mode)
}

// opened says who may do more with what the session has than with what the project
// has; was is nil for what is new, which is measured by what its directory in the
// project gives to new ones. Programs are told of as such.
func (s *Stage) opened(p string, was *thing, now thing) string {
	dir, bits := now.mode&unix.S_IFMT == unix.S_IFDIR, uint16(6)
	if dir {
		bits = 7
	}
	var inherited accessList
	if was == nil && len(now.attrs) > 0 {
		inherited = s.inherited(p)
	}
	before := accessList{}
	if was != nil {
		before = was.access()
	} else {
		maps.Copy(before, inherited)
		delete(before, who{tag: aclMask})
		before[who{tag: aclGroup}], before[who{tag: aclOther}] = 7, 5
		for w := range now.access() {
			if _, ok := before[w]; !ok && (w.tag == aclUser || w.tag == aclGroups) {
				before[w] = 0
			}
		}
	}
	out := gains(before, now.access(), bits)
	if l, ok := parseACL(now.attrs[treecopy.DefaultList]); ok {
		old := inherited
		if was != nil {
			old, _ = parseACL(was.attrs[treecopy.DefaultList])
		}
		for _, g := range gains(old, l, 7) {
			out = append(out, "what is made in it: "+g)
		}
	}
	if dir && was != nil && was.mode&unix.S_ISVTX != 0 && now.mode&unix.S_ISVTX == 0 && now.mode&0o022 != 0 {
		out = append(out, "who may write may remove what others have in it")
	}
	return strings.Join(out, "; ")
}

// inherited is the access list that the nearest directory of the project gives to what
// is made in it.
func (s *Stage) inherited(p string) accessList {
	for dir := path.Dir(p); ; dir = path.Dir(dir) {
		if fd, err := treecopy.Open(int(s.root.Fd()), dir); err == nil {
			attrs, _ := treecopy.Xattrs(fd)
			unix.Close(fd)
			l, _ := parseACL(attrs[treecopy.DefaultList])
			return l
		}
		if dir == "." {
			return nil
		}
	}
}
