package snapshot

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"mcp-sandbox/sandbox"
)

// ImportRequest says how an archive is taken.
type ImportRequest struct {
	Label string
	// Trusted is for archives that Persist wrote and nobody else could change.
	// It also takes what a workspace may hold and a foreign archive may not:
	// links to absolute paths or out of the tree, backslashes and drive letters
	// in names, modes without owner rights; and more than the Limits. Everything
	// else is still refused.
	Trusted bool
}

const (
	defaultInputBytes = 1 << 30
	defaultBytes      = 4 << 30
	defaultMembers    = 100_000
)

// Hydrate unpacks an archive over the workspace: it adds and changes, and
// removes nothing. The whole archive is read and judged, into a snapshot,
// before the workspace is touched; then that snapshot is restored, with all
// that [Repo.Restore] promises. To make the workspace exactly the archive, use
// Import and Restore.
func (r *Repo) Hydrate(ctx context.Context, archive io.Reader, q ImportRequest) (RestoreResult, error) {
	done, err := r.begin(ctx)
	if err != nil {
		return RestoreResult{}, err
	}
	defer done()
	rec, err := r.importArchive(ctx, archive, q)
	if err != nil {
		return RestoreResult{}, fail(err, "the archive could not be read")
	}
	return r.restore(ctx, rec, "", true)
}

// Import makes a snapshot of an archive: tar, plain or compressed with gzip,
// bzip2, xz or zstd. The workspace is not touched. unsafe_archive names the
// member that is refused and why: absolute, "..", backslash and drive-letter
// names; links out of the tree; hard links to anything but an earlier file;
// devices, FIFOs and the like; members listed twice or below what is not a
// directory; a root that is not a directory; more than the Limits. setuid and setgid
// are dropped.
func (r *Repo) Import(ctx context.Context, archive io.Reader, q ImportRequest) (Info, error) {
	done, err := r.begin(ctx)
	if err != nil {
		return Info{}, err
	}
	defer done()
	rec, err := r.importArchive(ctx, archive, q)
	if err != nil {
		return Info{}, fail(err, "the archive could not be read")
	}
	if err := r.retain(ctx, rec.Info.ID); err != nil {
		r.log.Warn("applying the retention failed", "cause", err)
	}
	return rec.Info, nil
}

func limit(v, def int64) int64 {
	if v == 0 {
		return def
	}
	if v < 0 {
		return 1<<63 - 1
	}
	return v
}

func (r *Repo) importArchive(ctx context.Context, archive io.Reader, q ImportRequest) (*record, error) {
	if len(q.Label) > maxLabel {
		return nil, invalid("the label has %d bytes; use at most %d", len(q.Label), maxLabel)
	}
	_, last, err := r.newest(ctx)
	if err != nil {
		return nil, err
	}
	w, err := r.newWriter(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer w.abandon()
	files, err := newFileReader(ctx, r, w.save)
	if err != nil {
		return nil, err
	}
	defer files.end()
	files.zeros = true
	most := r.opt.limits
	if q.Trusted {
		most = limits{-1, -1, -1}
	}
	in := &importer{r: r, q: q, files: files, entries: map[string]*entry{}, group: map[string]string{},
		bytes: limit(most.bytes, defaultBytes), members: limit(int64(most.members), defaultMembers)}
	if err := in.run(ctx, &limitedReader{r: archive, left: limit(most.input, defaultInputBytes)}); err != nil {
		return nil, err
	}
	for _, e := range in.sorted() {
		if err := w.add(e); err != nil {
			return nil, err
		}
	}
	w.info.Label = q.Label
	return w.commit(ctx, last)
}

// limitedReader fails, instead of ending, past its limit.
type limitedReader struct {
	r    io.Reader
	left int64
}

func (l *limitedReader) Read(b []byte) (int, error) {
	if int64(len(b)) > l.left {
		b = b[:l.left]
		if len(b) == 0 {
			// Full, and yet fine if nothing more comes.
			var one [1]byte
			n, err := l.r.Read(one[:])
			if n > 0 {
				return 0, tooLarge("has more compressed bytes than allowed")
			}
			return 0, err
		}
	}
	n, err := l.r.Read(b)
	l.left -= int64(n)
	return n, err
}

func tooLarge(what string) error {
	return sandbox.Errorf(codeUnsafe, nil, "the archive %s: nothing was changed; use a smaller one or raise the limit", what)
}

// decompress detects the compression by its magic bytes.
func decompress(r io.Reader) (io.Reader, func(), error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, _ := br.Peek(6)
	none := func() {}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		return z, none, err
	case bytes.HasPrefix(head, []byte("BZh")):
		return bzip2.NewReader(br), none, nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		z, err := xz.ReaderConfig{DictCap: 32 << 20}.NewReader(br)
		return z, none, err
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(32<<20))
		if err != nil {
			return nil, none, err
		}
		return z, z.Close, nil
	}
	return br, none, nil
}

// importer turns members into entries. They are held in memory, as many as
// the limit allows, since an archive need not be in order.
type importer struct {
	r       *Repo
	q       ImportRequest
	files   *fileReader
	entries map[string]*entry
	group   map[string]string // hard link -> the member whose content it has
	bytes   int64             // still allowed
	members int64
}

func (in *importer) run(ctx context.Context, r io.Reader) error {
	plain, closer, err := decompress(r)
	if err != nil {
		return in.broken(ctx, err)
	}
	defer closer()
	below := sandbox.NewTarReader(plain)
	tr := tar.NewReader(below)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			if !below.Whole() {
				return in.broken(ctx, io.ErrUnexpectedEOF)
			}
			break
		}
		if err != nil {
			return in.broken(ctx, err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if in.members--; in.members < 0 {
			return tooLarge("has more members than allowed")
		}
		if err := in.member(ctx, h, tr); err != nil {
			return err
		}
		below.Content()
	}
	return in.parents()
}

// broken tells a bad archive from a bad disk.
func (in *importer) broken(ctx context.Context, err error) error {
	var e *sandbox.Error
	if errors.As(err, &e) {
		return e
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return sandbox.Errorf(codeUnsafe, err, "the archive is not a whole tar, plain or compressed with gzip, bzip2, xz or zstd: nothing was changed; make it again")
}

func (in *importer) member(ctx context.Context, h *tar.Header, content io.Reader) error {
	refuse := func(why string) error { return unsafeArchive(h.Name, why) }
	path, why := in.name(h.Name)
	if why != "" {
		return refuse(why)
	}
	e := &entry{path: path, mtime: h.ModTime.UnixNano(), mode: uint32(h.Mode)}
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, paxXattr)
		if ok && storedXattr(name) && len(name) <= maxXattrName && len(v) <= maxXattrValue && len(e.xattrs) < maxXattrs {
			e.xattrs = append(e.xattrs, xattr{name, v})
		}
	}
	slices.SortFunc(e.xattrs, func(a, b xattr) int { return strings.Compare(a.name, b.name) })
	switch h.Typeflag {
	case tar.TypeDir:
		e.kind = kindDir
	case tar.TypeReg, tar.TypeGNUSparse:
		e.kind = kindFile
	case tar.TypeSymlink:
		e.kind = kindLink
	case tar.TypeLink:
		e.kind = kindFile
	default:
		return refuse("it is a device, a FIFO or of an unknown type")
	}
	if path == "" && e.kind != kindDir {
		return refuse("the root is not a directory")
	}
	if old := in.entries[path]; old != nil && (old.kind != kindDir || e.kind != kindDir) {
		return refuse("it is listed twice")
	}
	switch {
	case h.Typeflag == tar.TypeLink:
		to, why := in.name(h.Linkname)
		first := in.entries[to]
		if why != "" || first == nil || first.kind != kindFile {
			return refuse("it is a hard link to something that is not a file listed before it")
		}
		if head, ok := in.group[to]; ok {
			to = head
		}
		first = in.entries[to]
		*e = *first
		e.path = path
		in.group[path] = to
		in.group[to] = to
	case e.kind == kindFile:
		e.mode &= fileModeMask
		if !in.q.Trusted {
			e.mode = e.mode&0o777 | 0o600
		}
		if h.Size < 0 || h.Size > in.bytes {
			return tooLarge("unpacks to more bytes than allowed")
		}
		in.bytes -= h.Size
		e.size = h.Size
		var read error
		src := func(b []byte, _ int64) (int, error) {
			n, err := io.ReadFull(content, b[:min(len(b), 256<<10)])
			if n > 0 || err == io.EOF {
				return n, nil
			}
			read = err
			return n, err
		}
		if err := in.files.extent(src, e, 0, h.Size); err != nil {
			if read != nil || errors.Is(err, errShort) {
				return in.broken(ctx, err)
			}
			return err
		}
	case e.kind == kindDir:
		e.mode &= dirModeMask
		if !in.q.Trusted {
			e.mode = e.mode&0o777 | 0o700
		}
	case e.kind == kindLink:
		e.target, e.mode, e.xattrs = h.Linkname, 0o777, nil
		if why := in.linkTarget(path, h.Linkname); why != "" {
			return refuse(why)
		}
	}
	in.entries[path] = e
	return nil
}

// name cleans a member's name, or says why it is refused.
func (in *importer) name(name string) (string, string) {
	if strings.HasPrefix(name, "/") {
		return "", "its path is absolute"
	}
	var parts []string
	for _, s := range strings.Split(name, "/") {
		if s == "" || s == "." {
			continue
		}
		if why := badName(s); why != "" {
			return "", why
		}
		if !in.q.Trusted {
			if strings.Contains(s, `\`) {
				return "", "its path holds a backslash"
			}
			if len(s) >= 2 && s[1] == ':' && len(parts) == 0 && (s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z') {
				return "", "its path starts with a drive letter"
			}
		}
		parts = append(parts, s)
	}
	path := strings.Join(parts, "/")
	if len(path) > maxPath {
		return "", "its path is longer than 4095 bytes"
	}
	return path, ""
}

func (in *importer) linkTarget(path, target string) string {
	switch {
	case target == "" || strings.IndexByte(target, 0) >= 0:
		return "its link target is empty or holds a NUL"
	case len(target) > maxPath:
		return "its link target is longer than 4095 bytes"
	case in.q.Trusted:
		return ""
	case strings.HasPrefix(target, "/") || strings.Contains(target, `\`):
		return "it is a link to an absolute path"
	}
	depth := strings.Count(path, "/")
	for _, s := range strings.Split(target, "/") {
		switch s {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return "it is a link out of the archive"
			}
		default:
			depth++
		}
	}
	return ""
}

// parents adds the directories that an archive left out, and refuses members below
// what is not a directory, wherever in the archive the two stand.
func (in *importer) parents() error {
	now := in.r.opt.Now().UnixNano()
	implied := map[string]*entry{}
	for path := range in.entries {
		for dir := path; dir != ""; {
			dir, _ = splitPath(dir)
			if d := in.entries[dir]; d != nil {
				if d.kind != kindDir {
					return unsafeArchive(path, fmt.Sprintf("it lies below %s, which is not a directory", quote(dir)))
				}
				continue
			}
			if implied[dir] != nil {
				break // and all above it
			}
			implied[dir] = &entry{path: dir, kind: kindDir, mode: 0o755, mtime: now}
		}
	}
	for path, e := range implied {
		in.entries[path] = e
	}
	// An archive without a root says nothing about the workspace directory's mode.
	if implied[""] != nil || in.entries[""] == nil {
		st, err := fstat(in.r.tree.fd)
		if err != nil {
			return err
		}
		in.entries[""] = &entry{kind: kindDir, mode: st.mode & dirModeMask, mtime: st.mtime}
	}
	return nil
}

// sorted returns the entries in manifest order. The first name of a hard link
// group there need not be the one the archive listed first.
func (in *importer) sorted() []*entry {
	list := make([]*entry, 0, len(in.entries))
	for _, e := range in.entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *entry) int { return comparePaths(a.path, b.path) })
	heads := map[string]string{}
	for _, e := range list {
		g, ok := in.group[e.path]
		if !ok {
			continue
		}
		if h, ok := heads[g]; ok {
			e.hard, e.linked = h, false
		} else {
			heads[g] = e.path
			e.hard, e.linked = "", true
		}
	}
	return list
}
