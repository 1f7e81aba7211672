package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"mcp-sandbox/sandbox"
)

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

const manifestFlush = 16 << 10

func newManifestWriter(w io.Writer) *manifestWriter {
	return &manifestWriter{w: w, buf: append(make([]byte, 0, manifestFlush+4096), manifestMagic...)}
}

func (m *manifestWriter) add(e *entry) error {
	if m.n > 0 && comparePaths(m.last, e.path) >= 0 {
		return sandbox.Errorf(codeInternal, nil, "the walk met %s out of order; report this as a bug", quote(e.path))
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
	if len(b) >= manifestFlush {
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
// the store could have written it by hand. Every entry must be a
// plain name directly below a directory met before, in order, of a kind and mode
// that restore would itself have stored.
type manifestReader struct {
	r      io.Reader
	c      io.Closer
	buf    []byte // read and not yet decoded, somewhere in space
	space  []byte
	last   string
	dev    uint64
	n      int
	dirs   []string // the open directories, outermost first
	inodes map[string]bool
	err    error
}

const manifestRead = 64 << 10

func newManifestReader(r io.ReadCloser) (*manifestReader, error) {
	m := &manifestReader{r: r, c: r, space: make([]byte, manifestRead), inodes: map[string]bool{}}
	for len(m.buf) < len(manifestMagic) {
		if err := m.fill(); err != nil {
			r.Close()
			return nil, err
		}
	}
	if string(m.buf[:len(manifestMagic)]) != manifestMagic {
		r.Close()
		return nil, damaged("the list of files is of an unknown version")
	}
	m.buf = m.buf[len(manifestMagic):]
	return m, nil
}

// fill reads more into buf; io.ErrUnexpectedEOF if there is none.
func (m *manifestReader) fill() error {
	if len(m.buf) == len(m.space) {
		// One entry does not fit: a file of very many pieces.
		m.space = make([]byte, 2*len(m.space))
	}
	have := copy(m.space, m.buf)
	// Not less than half of the room: each time the entry is begun again, and by
	// small steps that would take square time.
	n, err := io.ReadAtLeast(m.r, m.space[have:], (len(m.space)-have+1)/2)
	m.buf = m.space[:have+n]
	switch {
	case err == nil, n > 0 && err == io.ErrUnexpectedEOF:
		return nil
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	}
	return err
}

func (m *manifestReader) close() {
	if m.c != nil {
		m.c.Close()
		m.c = nil
	}
}

// next returns the next entry, or nil at the end. Errors stick.
func (m *manifestReader) next() (*entry, error) {
	e := new(entry)
	if ok, err := m.into(e); !ok {
		return nil, err
	}
	return e, nil
}

// into decodes the next entry into e, reusing its pieces' space; false at the
// end. Errors stick.
func (m *manifestReader) into(e *entry) (bool, error) {
	for m.err == nil {
		d := decoder{b: m.buf}
		ok, err := m.decode(&d, e)
		if errors.Is(err, errCut) {
			m.err = m.fill()
			continue
		}
		if err == nil && ok {
			err = m.check(e)
		}
		if m.err = err; err != nil {
			break
		}
		if ok {
			m.buf = m.buf[d.at:]
		}
		return ok, nil
	}
	return false, m.err
}

func (m *manifestReader) decode(d *decoder, e *entry) (bool, error) {
	kind := d.byte()
	if d.err == nil && kind == endMark {
		return false, nil
	}
	flags := d.byte()
	*e = entry{kind: kind, linked: flags&flagLinked != 0, pieces: e.pieces[:0]}
	shared := d.uvarint()
	rest := d.bytes(maxPath)
	if d.err != nil {
		return false, d.err
	}
	if shared > uint64(len(m.last)) {
		return false, damaged("a path builds on more than the one before it")
	}
	e.path = m.last[:shared] + string(rest)
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
		if e.pieces == nil && n < 1024 {
			e.pieces = make([]piece, 0, n)
		}
		for i := uint64(0); i < n && d.err == nil; i++ {
			p := piece{n: int64(d.uvarint())}
			copy(p.id[:], d.next(len(p.id)))
			e.pieces = append(e.pieces, p)
		}
	case kindLink:
		e.target = string(d.bytes(maxPath))
	}
	if flags&flagHard != 0 {
		e.hard = string(d.bytes(maxPath))
		if d.err == nil && e.hard == "" {
			return false, damaged("a hard link names nothing")
		}
	}
	if flags&flagXattrs != 0 {
		n := d.uvarint()
		if n > maxXattrs {
			return false, damaged("a file has too many attributes")
		}
		for i := uint64(0); i < n && d.err == nil; i++ {
			name := d.bytes(maxXattrName)
			e.xattrs = append(e.xattrs, xattr{string(name), string(d.bytes(maxXattrValue))})
		}
	}
	return d.err == nil, d.err
}

func (m *manifestReader) check(e *entry) error {
	bad := func(why string) error {
		return unsafeArchive(e.path, why)
	}
	if m.n == 0 {
		if e.path != "" || e.kind != kindDir {
			return bad("the list does not start at the root directory")
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
			return bad("the directory it lies in is not a directory of the same snapshot")
		}
	}
	switch e.kind {
	case kindDir:
		if e.mode&^uint32(dirModeMask) != 0 {
			return bad("its mode is not one of a directory")
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
		return bad(fmt.Sprintf("it is of kind %q, neither file, directory nor link", e.kind))
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

// decoder takes varints and texts from b, keeping the first error: errCut when
// b ends too early.
type decoder struct {
	b   []byte
	at  int
	err error
}

var errCut = errors.New("the list of files is cut short")

// next takes n bytes; they are b's.
func (d *decoder) next(n int) []byte {
	if d.err == nil && len(d.b)-d.at < n {
		d.err = errCut
	}
	if d.err != nil {
		return nil
	}
	d.at += n
	return d.b[d.at-n : d.at]
}

func (d *decoder) byte() byte {
	if b := d.next(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b[d.at:])
	d.took(n)
	return v
}

func (d *decoder) varint() int64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Varint(d.b[d.at:])
	d.took(n)
	return v
}

func (d *decoder) took(n int) {
	switch {
	case n == 0:
		d.err = errCut
	case n < 0:
		d.err = damaged("a number in the list of files is too large")
	default:
		d.at += n
	}
}

func (d *decoder) bytes(limit uint64) []byte {
	n := d.uvarint()
	if d.err == nil && n > limit {
		d.err = damaged("a text in the list of files is too long")
	}
	if d.err != nil {
		return nil
	}
	return d.next(int(n))
}
