package gitstage

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
)

// indexEntry is what of an entry of the index is the same after a re-stat.
type indexEntry struct {
	path  string
	mode  uint32
	oid   string
	stage int
	flags uint16 // extended ones: skip-worktree, intent to add
}

var errIndex = errors.New("not an index that is published")

// indexExtensions are those that hold data alone; "link" names another file.
var indexExtensions = []string{"TREE", "REUC", "EOIE", "IEOT", "UNTR", "FSMN", "sdir"}

// maxIndex bounds an index, in bytes.
const maxIndex = 256 << 20

// parseIndex reads an index of version 2 to 4 (gitformat-index(5)). Git does not
// look at the paths of an index it reads, so those that lead into a git directory
// or out of the working tree are refused here.
func parseIndex(b []byte, hexLen int) ([]indexEntry, error) {
	size := hexLen / 2
	if len(b) < 12+size || len(b) > maxIndex || string(b[:4]) != "DIRC" {
		return nil, errIndex
	}
	end := b[len(b)-size:]
	if sum := newHash(hexLen); !bytes.Equal(end, make([]byte, size)) {
		sum.Write(b[:len(b)-size])
		if !bytes.Equal(sum.Sum(nil), end) {
			return nil, errIndex
		}
	}
	version, count := binary.BigEndian.Uint32(b[4:]), int(binary.BigEndian.Uint32(b[8:]))
	if version < 2 || version > 4 || count > len(b)/(40+size) {
		return nil, errIndex
	}
	body := b[:len(b)-size]
	out := make([]indexEntry, 0, count)
	at, previous := 12, ""
	for range count {
		start := at
		if len(body) < at+40+size+2 {
			return nil, errIndex
		}
		e := indexEntry{mode: binary.BigEndian.Uint32(body[at+24:]), oid: hex.EncodeToString(body[at+40 : at+40+size])}
		flags := binary.BigEndian.Uint16(body[at+40+size:])
		e.stage = int(flags>>12) & 3
		at += 42 + size
		if flags&0x4000 != 0 {
			if version < 3 || len(body) < at+2 {
				return nil, errIndex
			}
			e.flags = binary.BigEndian.Uint16(body[at:])
			at += 2
		}
		if version == 4 {
			strip, n := offsetVarint(body[at:])
			if n == 0 || strip > len(previous) {
				return nil, errIndex
			}
			at += n
			i := bytes.IndexByte(body[at:], 0)
			if i < 0 {
				return nil, errIndex
			}
			e.path = previous[:len(previous)-strip] + string(body[at:at+i])
			at += i + 1
		} else {
			i := bytes.IndexByte(body[at:], 0)
			if i < 0 {
				return nil, errIndex
			}
			e.path = string(body[at : at+i])
			at = start + (at+i-start+8)/8*8
		}
		previous = e.path
		if at > len(body) || !validIndexPath(strings.TrimSuffix(e.path, "/")) {
			return nil, errIndex
		}
		out = append(out, e)
	}
	for at < len(body) {
		if len(body) < at+8 || !slices.Contains(indexExtensions, string(body[at:at+4])) {
			return nil, errIndex
		}
		at += 8 + int(binary.BigEndian.Uint32(body[at+4:]))
	}
	if at != len(body) {
		return nil, errIndex
	}
	return out, nil
}

// offsetVarint is the number format of version 4.
func offsetVarint(b []byte) (v, n int) {
	for i, c := range b {
		if i > 4 {
			return 0, 0
		}
		v |= int(c & 0x7f)
		if c < 0x80 {
			return v, i + 1
		}
		v = (v + 1) << 7
	}
	return 0, 0
}

// validIndexPath is git's verify_path, for every file system at once
// (CVE-2014-9390, CVE-2019-1353).
func validIndexPath(p string) bool {
	if p == "" || strings.ContainsAny(p, "\x00") || len(p) > 4096 {
		return false
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
		f := foldPart(part)
		if f == ".git" || f == "git~1" || strings.HasPrefix(f, ".git:") || strings.HasPrefix(f, ".git\\") {
			return false
		}
	}
	return true
}

// foldPart maps what some file system takes for the same name to one.
func foldPart(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
			return -1
		}
		return r
	}, strings.ToLower(s))
	return strings.TrimRight(s, ". ")
}

// sumOf identifies the entries of an index, "" for none.
func sumOf(entries []indexEntry) string {
	if len(entries) == 0 {
		return ""
	}
	sum := sha256.New()
	for i := range entries {
		e := &entries[i]
		fmt.Fprintf(sum, "%s\x00%o %s %d %d\n", e.path, e.mode, e.oid, e.stage, e.flags)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func sameEntries(a, b []indexEntry) bool { return slices.Equal(a, b) }

func newHash(hexLen int) hash.Hash {
	if hexLen == 64 {
		return sha256.New()
	}
	return sha1.New()
}
