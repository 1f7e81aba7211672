package snapshot

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// ID names a chunk: the SHA-256 of its plain bytes.
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
// are no part of what is restored. ctime 0 means: read it again.
type entry struct {
	path  string // "" is the root itself
	kind  byte
	mode  uint32 // permission bits and sticky; setgid for folders
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

// addHole appends n zeros that take no space.
func (e *entry) addHole(n int64) {
	if k := len(e.pieces); k > 0 && e.pieces[k-1].hole() {
		e.pieces[k-1].n += n
		return
	}
	e.pieces = append(e.pieces, piece{n: n})
}

// The mode bits that are stored. setuid and setgid of files give rights, and
// a restore run as root would hand out root's (AC-14).
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

// A manifest is the sorted stream of all entries of a snapshot:
//
//	magic, entry*, 0xFF
//	entry = kind, flags, prefix, suffix, mode, mtime, [dev,] ino, ctime, body
//
// Integers are varints, texts are length and bytes. A path is the length it
// shares with the one before and the rest. The stream is cut into chunks by
// content like any file, so an unchanged stretch of the tree is stored once.
const manifestMagic = "mcp-sandbox manifest 1\n"

const (
	flagXattrs = 1 << iota
	flagHard
	flagDev    // dev differs from the entry before
	flagLinked // the inode has further paths
)

const endMark = 0xFF

// manifestWriter encodes entries; it checks their order, since a manifest that
// is out of order could not be read back.
type manifestWriter struct {
	w    io.Writer
	buf  []byte
	last string
	dev  uint64
	n    int
}

func newManifestWriter(w io.Writer) *manifestWriter {
	return &manifestWriter{w: w, buf: append(make([]byte, 0, 4096), manifestMagic...)}
}

func (m *manifestWriter) add(e *entry) error {
	if m.n > 0 && comparePaths(m.last, e.path) >= 0 {
		return &Error{code: CodeInternal, msg: "the walk met " + quote(e.path) + " out of order, report this as a bug"}
	}
	b := m.buf
	var flags byte
	if len(e.xattrs) > 0 {
		flags |= flagXattrs
	}
	if e.hard != "" {
		flags |= flagHard
	}
	if e.dev != m.dev {
		flags |= flagDev
	}
	if e.linked {
		flags |= flagLinked
	}
	p := 0
	for p < len(m.last) && p < len(e.path) && m.last[p] == e.path[p] {
		p++
	}
	b = append(b, e.kind, flags)
	b = binary.AppendUvarint(b, uint64(p))
	b = appendText(b, e.path[p:])
	b = binary.AppendUvarint(b, uint64(e.mode))
	b = binary.AppendVarint(b, e.mtime)
	if flags&flagDev != 0 {
		b = binary.AppendUvarint(b, e.dev)
	}
	b = binary.AppendUvarint(b, e.ino)
	b = binary.AppendVarint(b, e.ctime)
	switch e.kind {
	case kindFile:
		b = binary.AppendUvarint(b, uint64(e.size))
		b = binary.AppendUvarint(b, uint64(len(e.pieces)))
		for i := range e.pieces {
			b = binary.AppendUvarint(b, uint64(e.pieces[i].n))
			b = append(b, e.pieces[i].id[:]...)
		}
	case kindLink:
		b = appendText(b, e.target)
	}
	if flags&flagHard != 0 {
		b = appendText(b, e.hard)
	}
	if flags&flagXattrs != 0 {
		b = binary.AppendUvarint(b, uint64(len(e.xattrs)))
		for _, x := range e.xattrs {
			b = appendText(appendText(b, x.name), x.value)
		}
	}
	m.buf, m.last, m.dev = b, e.path, e.dev
	m.n++
	if len(b) >= 16<<10 {
		return m.flush()
	}
	return nil
}

func (m *manifestWriter) flush() error {
	_, err := m.w.Write(m.buf)
	m.buf = m.buf[:0]
	return err
}

func (m *manifestWriter) close() error {
	m.buf = append(m.buf, endMark)
	return m.flush()
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// manifestReader decodes a manifest and believes nothing: whoever could write
// the store could have written it by hand (AC-14). Every entry must be a
// plain name directly below a folder met before, in order, of a kind and mode
// that restore would itself have stored.
type manifestReader struct {
	r      *bufio.Reader
	c      io.Closer
	last   string
	dev    uint64
	n      int
	dirs   []string // the open folders, outermost first
	inodes map[string]bool
	err    error
}

func newManifestReader(r io.ReadCloser) (*manifestReader, error) {
	m := &manifestReader{r: bufio.NewReaderSize(r, 64<<10), c: r, inodes: map[string]bool{}}
	magic := make([]byte, len(manifestMagic))
	if _, err := io.ReadFull(m.r, magic); err != nil {
		r.Close()
		return nil, err
	}
	if string(magic) != manifestMagic {
		r.Close()
		return nil, damaged("the list of files is of an unknown version")
	}
	return m, nil
}

func (m *manifestReader) close() {
	if m.c != nil {
		m.c.Close()
		m.c = nil
	}
}

// next returns the next entry, or nil at the end. Errors stick.
func (m *manifestReader) next() (*entry, error) {
	if m.err != nil {
		return nil, m.err
	}
	e, err := m.decode()
	if err == nil && e != nil {
		err = m.check(e)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		m.err = err
		return nil, err
	}
	return e, nil
}

func (m *manifestReader) decode() (*entry, error) {
	kind, err := m.r.ReadByte()
	if err != nil {
		return nil, err
	}
	if kind == endMark {
		return nil, nil
	}
	flags, err := m.r.ReadByte()
	if err != nil {
		return nil, err
	}
	d := decoder{r: m.r}
	e := &entry{kind: kind, linked: flags&flagLinked != 0}
	shared := d.uvarint()
	rest := d.text(maxPath)
	if shared > uint64(len(m.last)) {
		return nil, damaged("a path builds on more than the one before it")
	}
	e.path = m.last[:shared] + rest
	e.mode = uint32(d.uvarint())
	e.mtime = d.varint()
	e.dev = m.dev
	if flags&flagDev != 0 {
		e.dev = d.uvarint()
	}
	e.ino = d.uvarint()
	e.ctime = d.varint()
	switch kind {
	case kindFile:
		e.size = int64(d.uvarint())
		n := d.uvarint()
		for i := uint64(0); i < n && d.err == nil; i++ {
			var p piece
			p.n = int64(d.uvarint())
			d.full(p.id[:])
			if i == 0 && n < 1024 {
				e.pieces = make([]piece, 0, n)
			}
			e.pieces = append(e.pieces, p)
		}
	case kindLink:
		e.target = d.text(maxPath)
	}
	if flags&flagHard != 0 {
		e.hard = d.text(maxPath)
		if e.hard == "" {
			return nil, damaged("a hard link names nothing")
		}
	}
	if flags&flagXattrs != 0 {
		n := d.uvarint()
		if n > maxXattrs {
			return nil, damaged("a file has too many attributes")
		}
		for i := uint64(0); i < n && d.err == nil; i++ {
			x := xattr{name: d.text(maxXattrName), value: d.text(maxXattrValue)}
			e.xattrs = append(e.xattrs, x)
		}
	}
	if d.err != nil {
		return nil, d.err
	}
	return e, nil
}

func (m *manifestReader) check(e *entry) error {
	bad := func(why string) error {
		return unsafeArchive(e.path, why)
	}
	if m.n == 0 {
		if e.path != "" || e.kind != kindDir {
			return bad("the list does not start at the root folder")
		}
		m.dirs = []string{""}
	} else {
		if comparePaths(m.last, e.path) >= 0 {
			return bad("it is listed twice or out of order")
		}
		dir, name := splitPath(e.path)
		if why := badName(name); why != "" {
			return bad(why)
		}
		if len(e.path) > maxPath {
			return bad("its path is too long")
		}
		for len(m.dirs) > 0 && m.dirs[len(m.dirs)-1] != dir {
			m.dirs = m.dirs[:len(m.dirs)-1]
		}
		if len(m.dirs) == 0 {
			return bad("the folder it lies in is not a folder of the same snapshot")
		}
	}
	switch e.kind {
	case kindDir:
		if e.mode&^uint32(dirModeMask) != 0 {
			return bad("its mode is not one of a folder")
		}
		if m.n > 0 {
			m.dirs = append(m.dirs, e.path)
		}
	case kindFile:
		if e.mode&^uint32(fileModeMask) != 0 {
			return bad("it is setuid or setgid")
		}
		var sum int64
		for _, p := range e.pieces {
			if p.n <= 0 || sum+p.n < sum || !p.hole() && p.n > maxChunk {
				return bad("its pieces have an impossible size")
			}
			sum += p.n
		}
		if sum != e.size {
			return bad("its pieces do not add up to its size")
		}
		if e.hard != "" && !m.inodes[e.hard] {
			return bad("it is a hard link to something that is not a file listed before it")
		}
		if e.linked && e.hard == "" {
			m.inodes[e.path] = true
		}
	case kindLink:
		if e.target == "" || strings.IndexByte(e.target, 0) >= 0 {
			return bad("its link target is empty or holds a NUL")
		}
	default:
		return bad(fmt.Sprintf("it is of kind %q, neither file, folder nor link", e.kind))
	}
	if e.hard != "" && e.kind != kindFile {
		return bad("it is a hard link, but not a file")
	}
	for _, x := range e.xattrs {
		if !storedXattr(x.name) || strings.IndexByte(x.name, 0) >= 0 {
			return bad("it carries the attribute " + quote(x.name))
		}
	}
	m.last, m.dev = e.path, e.dev
	m.n++
	return nil
}

// badName tells why a single name cannot be restored, or "".
func badName(name string) string {
	switch {
	case name == "", name == ".", name == "..":
		return "a part of its path is empty, \".\" or \"..\""
	case len(name) > 255:
		return "a part of its path is longer than 255 bytes"
	case strings.IndexByte(name, 0) >= 0:
		return "its path holds a NUL"
	}
	return ""
}

// decoder reads varints and texts, keeping the first error.
type decoder struct {
	r   *bufio.Reader
	err error
}

func (d *decoder) uvarint() uint64 {
	if d.err != nil {
		return 0
	}
	v, err := binary.ReadUvarint(d.r)
	d.err = err
	return v
}

func (d *decoder) varint() int64 {
	if d.err != nil {
		return 0
	}
	v, err := binary.ReadVarint(d.r)
	d.err = err
	return v
}

func (d *decoder) full(b []byte) {
	if d.err == nil {
		_, d.err = io.ReadFull(d.r, b)
	}
}

func (d *decoder) text(limit uint64) string {
	n := d.uvarint()
	if d.err != nil {
		return ""
	}
	if n > limit {
		d.err = damaged("a text in the list of files is too long")
		return ""
	}
	b := make([]byte, n)
	d.full(b)
	return string(b)
}
