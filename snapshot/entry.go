package snapshot

import (
	"encoding/hex"
	"slices"
)

// chunkID names a chunk: the SHA-256 of its plain bytes.
type chunkID [32]byte

func (id chunkID) String() string { return hex.EncodeToString(id[:]) }

// piece is a stretch of a file: n bytes of the chunk id, or, with the zero id,
// a hole of n bytes that reads as zeros and takes no space.
type piece struct {
	id chunkID
	n  int64
}

func (p piece) hole() bool { return p.id == chunkID{} }

// The kinds of entry. FIFOs, sockets and devices are never stored.
const (
	kindDir  = 'd'
	kindFile = 'f'
	kindLink = 'l'
)

// entry is one object of the tree. dev, ino and ctime say which inode it was
// read from, so that the next snapshot can take it as unchanged unread; they
// are not part of what is restored. ctime 0 means: read it again.
type entry struct {
	path  string // "" is the root itself
	kind  byte
	mode  uint32 // permission bits and sticky; setgid for directories
	mtime int64  // ns
	dev   uint64
	ino   uint64
	ctime int64 // ns

	size   int64   // of a file
	pieces []piece // of a file, in order, adding up to size
	hard   string  // the first path of the same inode, if this is a further one
	linked bool    // the first path of an inode that has more
	target string  // of a symbolic link
	xattrs []xattr
}

// clone copies what a scan or reader will use again; nil stays nil.
func (e *entry) clone() *entry {
	if e == nil {
		return nil
	}
	c := *e
	c.pieces = slices.Clone(e.pieces)
	return &c
}

// addHole appends n zeros that take no space.
func (e *entry) addHole(n int64) {
	if k := len(e.pieces); k > 0 && e.pieces[k-1].hole() {
		e.pieces[k-1].n += n
		return
	}
	e.pieces = append(e.pieces, piece{n: n})
}

// The mode bits that are stored. setuid and setgid of files give rights, and
// a restore run as root would hand out root's (execve(2)).
const (
	fileModeMask = 0o1777
	dirModeMask  = 0o3777
)

// sameContent compares what a reader of the object would read.
func (e *entry) sameContent(o *entry) bool {
	if e.kind != o.kind {
		return false
	}
	switch e.kind {
	case kindLink:
		return e.target == o.target
	case kindFile:
		if e.size != o.size || len(e.pieces) != len(o.pieces) {
			return false
		}
		for i := range e.pieces {
			if e.pieces[i] != o.pieces[i] {
				return false
			}
		}
	}
	return true
}

// sameMode compares permissions and attributes.
func (e *entry) sameMode(o *entry) bool {
	return (e.kind == kindLink || e.mode == o.mode) && equalXattrs(e.xattrs, o.xattrs)
}
