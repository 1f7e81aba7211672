package workspace

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// member is one entry of an archive, of any format.
type member struct {
	name    string
	kind    Kind // file, directory or symlink; FIFO and others are refused
	target  string
	hard    bool // a hard link to target
	mode    fs.FileMode
	modTime time.Time
	body    io.Reader
}

// memberSink takes members one by one and refuses what is not harmless.
type memberSink interface{ add(member) error }

// archive reads one archive file.
type archive struct {
	ctx    context.Context
	file   *os.File
	size   int64
	name   string
	limits ExtractLimits
	sink   memberSink
	seen   int
}

// maxWindow bounds the memory a decompressor may ask for: xz -9 and zstd
// --long=27 stay below it.
const maxWindow = 128 << 20

func (a *archive) damaged(err error) error {
	if err == nil || sandbox.CodeOf(err) != "" || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return failCause(err, codeUnsafeArchive, "the archive is damaged or cut short; get a fresh copy of it")
}

// unpack hands every member to the sink and returns the format it found.
func (a *archive) unpack(want string) (string, error) {
	head := make([]byte, 512)
	n, err := a.file.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return "", unwrapPath(err)
	}
	head = head[:n]
	if bytes.HasPrefix(head, []byte("PK\x03\x04")) || bytes.HasPrefix(head, []byte("PK\x05\x06")) || want == "zip" {
		if want != "" && want != "zip" {
			return "", fail(codeInvalid, "the archive is zip, not %s; omit format", want)
		}
		return "zip", a.zip()
	}
	raw := io.NewSectionReader(a.file, 0, a.size)
	plain, kind, err := a.decompress(raw, head)
	if err != nil {
		return "", a.damaged(err)
	}
	if c, ok := plain.(io.Closer); ok {
		defer c.Close()
	}
	// Also what is skipped inside an archive costs time: headers, padding.
	br := bufio.NewReaderSize(&boundedReader{ctx: a.ctx, r: plain, left: a.limits.MaxOutput + int64(a.limits.MaxMembers)*2048 + 1<<20}, 64<<10)
	block, err := br.Peek(512)
	if err != nil && err != io.EOF {
		return "", a.damaged(err)
	}
	isTar := looksLikeTar(block)
	if !isTar && len(block) == 512 && len(bytes.Trim(block, "\x00")) == 0 {
		// An archive without members is a short run of zeros.
		all, err := br.Peek(32 << 10)
		isTar = err == io.EOF && len(bytes.Trim(all, "\x00")) == 0
	}
	switch {
	case want == "tar" && !isTar, want == "" && kind == "" && !isTar:
		return "", fail(codeUnsupported, "%s is not a tar or zip archive or a compressed file; check it with the file command", quote(a.name))
	case want != "" && want != "tar" && want != kind:
		return "", fail(codeInvalid, "the archive is not %s; leave the format out", want)
	case isTar && (want == "" || want == "tar"):
		format := "tar"
		if kind != "" {
			format += "." + kind
		}
		return format, a.tar(br)
	}
	return kind, a.damaged(a.add(member{name: singleName(a.name, kind), kind: KindFile, mode: 0o666, body: br}))
}

// decompress peels off one layer of compression; kind is "" when there is none.
func (a *archive) decompress(raw *io.SectionReader, head []byte) (io.Reader, string, error) {
	buffered := func() *bufio.Reader { return bufio.NewReaderSize(raw, 64<<10) }
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(buffered())
		return r, "gz", err
	case bytes.HasPrefix(head, []byte("BZh")):
		return bzip2.NewReader(buffered()), "bz2", nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		// The library takes whatever dictionary size a block asks for.
		if err := checkXZ(a.ctx, raw, a.size, maxWindow); err != nil {
			return nil, "", err
		}
		r, err := xz.NewReader(buffered())
		return r, "xz", err
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}):
		r, err := zstd.NewReader(buffered(), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, "", err
		}
		return r.IOReadCloser(), "zst", nil
	}
	return raw, "", nil
}

// looksLikeTar checks the sum in a header block, as old archives have no magic.
func looksLikeTar(b []byte) bool {
	if len(b) < 512 {
		return false
	}
	var sum int64
	for i, c := range b {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int64(c)
	}
	var want int64
	for _, c := range bytes.Trim(b[148:156], " \x00") {
		if c < '0' || c > '7' {
			return false
		}
		want = want*8 + int64(c-'0')
	}
	return sum == want
}

// singleName is the name of the one file in a compressed file.
func singleName(name, kind string) string {
	base := strings.TrimSuffix(name, path.Ext(name))
	if ext := strings.ToLower(strings.TrimPrefix(path.Ext(name), ".")); base == "" || ext == "" || ext != kind && ext != "lz" && ext != "zstd" {
		return name + ".out"
	}
	return base
}

// add counts members before anything is done for one.
func (a *archive) add(m member) error {
	if a.seen++; a.seen > a.limits.MaxMembers {
		return fail(codeTooLarge, "the archive has more than %d members; unpack it with a command", a.limits.MaxMembers)
	}
	if err := a.ctx.Err(); err != nil {
		return err
	}
	err := a.sink.add(m)
	var errno unix.Errno
	if errors.As(err, &errno) {
		return fromErrno(err, m.name) // ours, not the archive's
	}
	return err
}

func (a *archive) tar(r io.Reader) error {
	below := sandbox.NewTarReader(r)
	tr := tar.NewReader(below)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			if !below.Whole() {
				return a.damaged(io.ErrUnexpectedEOF)
			}
			return nil
		}
		if err != nil && err != tar.ErrInsecurePath {
			return a.damaged(err)
		}
		m := member{name: h.Name, mode: fs.FileMode(h.Mode & 0o777), modTime: h.ModTime, body: tr, target: h.Linkname}
		switch h.Typeflag {
		case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
			m.kind = KindFile
		case tar.TypeDir:
			m.kind = KindDirectory
		case tar.TypeSymlink:
			m.kind = KindSymlink
		case tar.TypeLink:
			m.kind, m.hard = KindFile, true
		case tar.TypeXGlobalHeader:
			continue
		case tar.TypeFifo:
			m.kind = KindFIFO
		default:
			m.kind = KindDevice
		}
		if err := a.add(m); err != nil {
			return a.damaged(err)
		}
		below.Content()
	}
}

// zip reads the central directory, which package zip holds in memory as a
// whole: its size is bounded first.
func (a *archive) zip() error {
	const maxDirectory = 64 << 20
	in := &meteredReaderAt{r: a.file, left: min(a.size, maxDirectory) + 1<<20}
	zr, err := zip.NewReader(in, a.size)
	if err != nil && err != zip.ErrInsecurePath {
		if in.left < 0 {
			return fail(codeTooLarge, "the directory of the zip file is larger than %d bytes; unpack it with a command", maxDirectory)
		}
		return a.damaged(err)
	}
	if len(zr.File) > a.limits.MaxMembers {
		return fail(codeTooLarge, "the archive has %d members and at most %d are taken; unpack it with a command", len(zr.File), a.limits.MaxMembers)
	}
	in.free = true
	for _, z := range zr.File {
		if err := a.zipMember(z); err != nil {
			return a.damaged(err)
		}
	}
	return nil
}

func (a *archive) zipMember(z *zip.File) error {
	m := member{name: z.Name, mode: z.Mode().Perm(), modTime: z.Modified, kind: KindFile}
	if z.Flags&1 != 0 {
		return fail(codeUnsafeArchive, "the member %s is encrypted; unpack the archive with a command and its password", quote(z.Name))
	}
	if z.CreatorVersion>>8 != 3 && z.CreatorVersion>>8 != 19 { // neither Unix nor macOS: no mode was stored
		m.mode = 0o666
	}
	switch t := z.Mode().Type(); {
	case t.IsDir() || strings.HasSuffix(z.Name, "/"):
		m.kind = KindDirectory
		if m.mode == 0o666 {
			m.mode = 0o777
		}
		return a.add(m)
	case t&fs.ModeSymlink != 0:
		m.kind = KindSymlink
	case t&fs.ModeNamedPipe != 0:
		m.kind = KindFIFO
	case t != 0:
		m.kind = KindDevice
	}
	if z.Method != zip.Store && z.Method != zip.Deflate {
		return fail(codeUnsupported, "the member %s is compressed by method %d; unpack the archive with a command", quote(z.Name), z.Method)
	}
	r, err := z.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	if m.kind == KindSymlink {
		b, err := io.ReadAll(io.LimitReader(r, maxPath+1))
		if err != nil {
			return err
		}
		m.target = string(b)
	}
	m.body = r
	return a.add(m)
}

// boundedReader stops a decompressor that yields more than it may, and a call
// that was cancelled.
type boundedReader struct {
	ctx  context.Context
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if b.left <= 0 {
		return 0, fail(codeTooLarge, "the archive unpacks to more than is allowed; unpack it with a command")
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// meteredReaderAt bounds how much is read until free is set.
type meteredReaderAt struct {
	r    io.ReaderAt
	left int64
	free bool
}

func (m *meteredReaderAt) ReadAt(p []byte, off int64) (int, error) {
	if !m.free {
		if m.left -= int64(len(p)); m.left < 0 {
			return 0, errors.New("directory too large")
		}
	}
	return m.r.ReadAt(p, off)
}
