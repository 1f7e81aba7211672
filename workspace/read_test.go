package workspace

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
)

func numbered(n int) string {
	var b strings.Builder
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

func TestReadRanges(t *testing.T) {
	ten := numbered(10)
	for _, tc := range []struct {
		name, content      string
		req                ReadRequest
		want               string
		start, end, total  int
		truncated, hasNote bool
	}{
		{name: "all", content: ten, want: ten, start: 1, end: 10, total: 10},
		{name: "from", content: ten, req: ReadRequest{Offset: 9}, want: "line 9\nline 10\n", start: 9, end: 10, total: 10},
		{name: "limit", content: ten, req: ReadRequest{Limit: 2}, want: "line 1\nline 2\n", start: 1, end: 2, total: 10, truncated: true},
		{name: "middle", content: ten, req: ReadRequest{Offset: 4, Limit: 2}, want: "line 4\nline 5\n", start: 4, end: 5, total: 10, truncated: true},
		{name: "limit to the end", content: ten, req: ReadRequest{Offset: 9, Limit: 2}, want: "line 9\nline 10\n", start: 9, end: 10, total: 10},
		{name: "limit past the end", content: ten, req: ReadRequest{Offset: 9, Limit: 5}, want: "line 9\nline 10\n", start: 9, end: 10, total: 10},
		{name: "past the end", content: ten, req: ReadRequest{Offset: 11}, total: 10, hasNote: true},
		{name: "last", content: ten, req: ReadRequest{Offset: -1}, want: "line 10\n", start: 10, end: 10, total: 10},
		{name: "last three", content: ten, req: ReadRequest{Offset: -3}, want: "line 8\nline 9\nline 10\n", start: 8, end: 10, total: 10},
		{name: "from the end, limited", content: ten, req: ReadRequest{Offset: -3, Limit: 1}, want: "line 8\n", start: 8, end: 8, total: 10, truncated: true},
		{name: "more than there are", content: ten, req: ReadRequest{Offset: -50}, want: ten, start: 1, end: 10, total: 10},
		{name: "no final newline", content: "a\nb", want: "a\nb", start: 1, end: 2, total: 2},
		{name: "last without newline", content: "a\nb", req: ReadRequest{Offset: -1}, want: "b", start: 2, end: 2, total: 2},
		{name: "empty", content: "", total: 0},
		{name: "empty, from the end", content: "", req: ReadRequest{Offset: -2}, total: 0},
		{name: "only newlines", content: "\n\n\n", want: "\n\n\n", start: 1, end: 3, total: 3},
		{name: "bytes", content: ten, req: ReadRequest{MaxBytes: 15}, want: "line 1\nline 2\n", start: 1, end: 2, total: 10, truncated: true},
		{name: "bytes exactly", content: ten, req: ReadRequest{MaxBytes: 14}, want: "line 1\nline 2\n", start: 1, end: 2, total: 10, truncated: true},
		{name: "one long line", content: strings.Repeat("ü", 50) + "\nx\n", req: ReadRequest{MaxBytes: 11}, want: "üüüüü", start: 1, end: 1, total: 2, truncated: true},
		{name: "crlf", content: "a\r\nb\r\n", want: "a\nb\n", start: 1, end: 2, total: 2, hasNote: true},
		{name: "mixed", content: "a\r\nb\n", want: "a\r\nb\n", start: 1, end: 2, total: 2},
		{name: "utf-8 bom", content: "\xef\xbb\xbfa\nb\n", req: ReadRequest{Offset: 1, Limit: 1}, want: "a\n", start: 1, end: 1, total: 2, truncated: true},
		{name: "utf-16le", content: "\xff\xfea\x00\n\x00\xfc\x00\n\x00", want: "a\nü\n", start: 1, end: 2, total: 2, hasNote: true},
		{name: "utf-16be, last", content: "\xfe\xff\x00a\x00\n\x00\xfc\x00\n", req: ReadRequest{Offset: -1}, want: "ü\n", start: 2, end: 2, total: 2, hasNote: true},
		{name: "utf-16 without bom", content: "a\x00b\x00c\x00\n\x00d\x00", req: ReadRequest{Offset: 2}, want: "d", start: 2, end: 2, total: 2, hasNote: true},
		{name: "latin-1", content: "caf\xe9\nna\xefve\n", want: "café\nnaïve\n", start: 1, end: 2, total: 2, hasNote: true},
		{name: "stray byte", content: "grün\xff schön\n", want: "grün\uFFFD schön\n", start: 1, end: 1, total: 1, hasNote: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, dir, _ := newFS(t, Options{})
			put(t, dir, map[string]string{"f": tc.content})
			tc.req.Path = "f"
			r, err := f.ReadFile(ctx, tc.req)
			wantCode(t, err, "")
			if r.Text != tc.want || r.StartLine != tc.start || r.EndLine != tc.end || r.TotalLines != tc.total || r.Truncated != tc.truncated {
				t.Errorf("got %+v", r)
			}
			if (r.Note != "") != tc.hasNote || r.Kind != ContentText {
				t.Errorf("note %q kind %s", r.Note, r.Kind)
			}
		})
	}
}

// Ranges agree with cutting the whole text, whatever the block boundaries.
func TestReadRandomRanges(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	rng := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for b.Len() < 1<<20 {
		b.WriteString(strings.Repeat("x", rng.IntN(300)))
		b.WriteString("\n")
	}
	b.WriteString("end")
	put(t, dir, map[string]string{"f": b.String()})
	lines := strings.SplitAfter(b.String(), "\n")
	for range 200 {
		off, limit := rng.IntN(len(lines))+1, rng.IntN(20)+1
		if rng.IntN(2) == 0 {
			off = -off
		}
		r, err := f.ReadFile(ctx, ReadRequest{Path: "f", Offset: off, Limit: limit})
		wantCode(t, err, "")
		from := off - 1
		if off < 0 {
			from = len(lines) + off
		}
		to := min(len(lines), from+limit)
		if want := strings.Join(lines[from:to], ""); r.Text != want || r.StartLine != from+1 || r.EndLine != to || r.TotalLines != len(lines) {
			t.Fatalf("offset %d limit %d: lines %d-%d of %d, %d bytes, want %d-%d of %d, %d bytes", off, limit, r.StartLine, r.EndLine, r.TotalLines, len(r.Text), from+1, to, len(lines), len(want))
		}
	}
}

// A sparse file of 3 GB is read by range in constant memory.
func TestReadHuge(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	file, err := os.Create(dir + "/huge")
	if err != nil {
		t.Fatal(err)
	}
	const size = 3 << 30
	file.WriteString(numbered(20000))
	if _, err := file.WriteAt([]byte("\nlast but one\nlast\n"), size); err != nil {
		t.Skip("no sparse files: ", err)
	}
	file.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r, err := f.ReadFile(ctx, ReadRequest{Path: "huge", Offset: 3, Limit: 2})
	wantCode(t, err, "")
	if r.Text != "line 3\nline 4\n" || r.TotalLines != -1 || !r.Truncated {
		t.Errorf("got %+v", r)
	}
	r, err = f.ReadFile(ctx, ReadRequest{Path: "huge", Offset: -2})
	wantCode(t, err, "")
	if r.Text != "last but one\nlast\n" || r.StartLine != -2 || r.EndLine != -1 || r.TotalLines != -1 {
		t.Errorf("got %+v", r)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("%d bytes were allocated", used)
	}

	// What must read through the hole does so in constant memory too.
	if err := os.Truncate(dir+"/huge", 300<<20); err != nil {
		t.Fatal(err)
	}
	if file, err = os.OpenFile(dir+"/huge", os.O_APPEND|os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	file.WriteString("\nlast but one\nlast\n")
	file.Close()
	runtime.ReadMemStats(&before)
	r, err = f.ReadFile(ctx, ReadRequest{Path: "huge", Offset: 20002})
	wantCode(t, err, "")
	if r.Text != "last but one\nlast\n" || r.StartLine != 20002 || r.TotalLines != 20003 {
		t.Errorf("got %+v", r)
	}
	s, err := f.Search(ctx, SearchRequest{Pattern: "line 19999|last$", Path: "huge"})
	wantCode(t, err, "")
	if s.Matches != 2 {
		t.Errorf("search found %d", s.Matches)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("%d bytes were allocated", used)
	}
}

func TestReadKinds(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{
		"elf": "\x7fELF\x02\x01\x01\x00\x00\x00", "pdf": "%PDF-1.7\n\x00", "nul": "a\x00b", "gz": "\x1f\x8b\x08\x00\x00", "sqlite": "SQLite format 3\x00xx",
		"svg": "<?xml version=\"1.0\"?><svg xmlns='http://www.w3.org/2000/svg'/>", "html": "<!DOCTYPE html><p>", "control": "\x01\x02\x03\x04\x05\x06\x0e\x0f", "ansi": "\x1b[31mred\x1b[0m\n", "bm": "BMW is a car\n", "pk": "PK\x03\x04\x00\x00",
	})
	for name, want := range map[string]struct {
		kind ContentKind
		mime string
	}{
		"elf": {ContentBinary, "application/x-executable"}, "pdf": {ContentPDF, "application/pdf"}, "nul": {ContentBinary, "application/octet-stream"},
		"gz": {ContentBinary, "application/x-gzip"}, "sqlite": {ContentBinary, "application/vnd.sqlite3"}, "svg": {ContentText, "text/xml"}, "html": {ContentText, "text/html"},
		"control": {ContentBinary, "application/octet-stream"}, "ansi": {ContentText, "text/plain"}, "bm": {ContentText, "text/plain"}, "pk": {ContentBinary, "application/zip"},
	} {
		r, err := f.ReadFile(ctx, ReadRequest{Path: name})
		wantCode(t, err, "")
		if r.Kind != want.kind || r.MIME != want.mime {
			t.Errorf("%s is %s %s", name, r.Kind, r.MIME)
		}
		if r.Kind != ContentText && (r.Text != "" || r.Note == "") {
			t.Errorf("%s: text %q note %q", name, r.Text, r.Note)
		}
	}
	for path, code := range map[string]string{".": codeIsDirectory, "none": codeNotFound, "elf/x": codeNotDirectory, "../x": codeOutside} {
		_, err := f.ReadFile(ctx, ReadRequest{Path: path})
		wantCode(t, err, code)
	}
	_, err := f.ReadFile(ctx, ReadRequest{Path: "svg", Limit: -1})
	wantCode(t, err, codeInvalid)
	if os.Geteuid() != 0 {
		os.Chmod(dir+"/svg", 0)
		_, err := f.ReadFile(ctx, ReadRequest{Path: "svg"})
		wantCode(t, err, codePermission)
	}
}

func picture(w, h int, noise bool) image.Image {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	rng := rand.New(rand.NewPCG(3, 4))
	for y := range h {
		for x := range w {
			c := color.RGBA{uint8(x), uint8(y), 128, 255}
			if noise {
				v := rng.Uint32()
				c = color.RGBA{uint8(v), uint8(v >> 8), uint8(v >> 16), 255}
			}
			m.SetRGBA(x, y, c)
		}
	}
	return m
}

func TestReadImages(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	encode := func(name string, enc func(*bytes.Buffer) error) {
		var b bytes.Buffer
		if err := enc(&b); err != nil {
			t.Fatal(err)
		}
		put(t, dir, map[string]string{name: b.String()})
	}
	encode("small.png", func(b *bytes.Buffer) error { return png.Encode(b, picture(40, 30, false)) })
	encode("small.jpg", func(b *bytes.Buffer) error { return jpeg.Encode(b, picture(40, 30, false), nil) })
	encode("small.gif", func(b *bytes.Buffer) error { return gif.Encode(b, picture(40, 30, false), nil) })
	encode("small.bmp", func(b *bytes.Buffer) error { return bmp.Encode(b, picture(40, 30, false)) })
	encode("small.tiff", func(b *bytes.Buffer) error { return tiff.Encode(b, picture(40, 30, false), nil) })
	encode("wide.png", func(b *bytes.Buffer) error { return png.Encode(b, picture(4000, 10, false)) })
	encode("noise.png", func(b *bytes.Buffer) error { return png.Encode(b, picture(700, 700, true)) })
	encode("noname", func(b *bytes.Buffer) error { return png.Encode(b, picture(5, 5, false)) })
	for name, want := range map[string]struct {
		mime string
		same bool
		w    int
	}{
		"small.png": {"image/png", true, 40}, "small.jpg": {"image/jpeg", true, 40}, "small.gif": {"image/gif", true, 40}, "noname": {"image/png", true, 5},
		"small.bmp": {"image/png", false, 40}, "small.tiff": {"image/png", false, 40}, "wide.png": {"image/png", false, 4000}, "noise.png": {"image/jpeg", false, 700},
	} {
		r, err := f.ReadFile(ctx, ReadRequest{Path: name})
		wantCode(t, err, "")
		if r.Kind != ContentImage || r.MIME != want.mime || r.Width != want.w || len(r.Image) == 0 || len(r.Image) > maxImageBytes {
			t.Errorf("%s: %s %s %dx%d, %d bytes, %q", name, r.Kind, r.MIME, r.Width, r.Height, len(r.Image), r.Note)
			continue
		}
		cfg, kind, err := image.DecodeConfig(bytes.NewReader(r.Image))
		if err != nil || "image/"+kind != r.MIME || max(cfg.Width, cfg.Height) > maxImageEdge {
			t.Errorf("%s: %s %dx%d %v", name, kind, cfg.Width, cfg.Height, err)
		}
		if same := string(r.Image) == get(t, filepath.Join(dir, name)); same != want.same || (r.Note == "") != want.same {
			t.Errorf("%s: unchanged is %v, note %q", name, same, r.Note)
		}
	}
	// A header may promise anything; pixels are not decoded then.
	var b bytes.Buffer
	png.Encode(&b, picture(10, 10, false))
	bomb := b.Bytes()
	copy(bomb[16:24], []byte{0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff}) // 65535x65535, checksum not asked by DecodeConfig
	crc := crcOf(bomb[12:29])
	copy(bomb[29:33], crc)
	put(t, dir, map[string]string{"bomb.png": string(bomb), "cut.png": b.String()[:40], "damaged.bmp": "BM" + strings.Repeat("\x00", 30)})
	for _, name := range []string{"bomb.png", "cut.png", "damaged.bmp"} {
		r, err := f.ReadFile(ctx, ReadRequest{Path: name})
		wantCode(t, err, "")
		if name == "bomb.png" && (r.Width != 65535 || r.Image != nil) {
			t.Errorf("%s: %+v", name, r)
		}
		if r.Kind != ContentImage || r.Note == "" && name != "cut.png" {
			t.Errorf("%s: %s %q", name, r.Kind, r.Note)
		}
	}
}

func TestList(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"b": "12345", "a/x": "", "a/y/z": "", "a/.h": "", ".hidden": "", "l": "-> b", "broken": "-> none", "A": ""})
	os.Chmod(dir+"/b", 0o640)
	for _, tc := range []struct {
		req       ListRequest
		want      string
		hidden    int
		truncated bool
		code      string
	}{
		{req: ListRequest{}, want: "A a b broken l", hidden: 1},
		{req: ListRequest{Path: ".", All: true}, want: ".hidden A a b broken l"},
		{req: ListRequest{Depth: 2}, want: "A a a/x a/y b broken l", hidden: 2},
		{req: ListRequest{Depth: 9, All: true}, want: ".hidden A a a/.h a/x a/y a/y/z b broken l"},
		{req: ListRequest{Path: "a", Depth: 2}, want: "a/x a/y a/y/z", hidden: 1},
		{req: ListRequest{Max: 2}, want: "A a", hidden: 1, truncated: true},
		{req: ListRequest{Depth: 9, Max: 6}, want: "A a a/x b broken l", hidden: 2, truncated: true},
		{req: ListRequest{Path: "b"}, want: "b"},
		{req: ListRequest{Path: "l"}, want: "b"},
		{req: ListRequest{Path: "none"}, code: codeNotFound},
		{req: ListRequest{Path: "b/x"}, code: codeNotDirectory},
		{req: ListRequest{Depth: -1}, code: codeInvalid},
	} {
		r, err := f.List(ctx, tc.req)
		wantCode(t, err, tc.code)
		var got []string
		for _, e := range r.Entries {
			got = append(got, e.Path)
		}
		if s := strings.Join(got, " "); s != tc.want || r.Hidden != tc.hidden || r.Truncated != tc.truncated {
			t.Errorf("%+v: got %q hidden %d truncated %v", tc.req, s, r.Hidden, r.Truncated)
		}
	}
	r, _ := f.List(ctx, ListRequest{})
	var kinds []Kind
	for _, e := range r.Entries {
		kinds = append(kinds, e.Kind)
		if e.Name == "b" && (e.Size != 5 || e.Mode.Perm() != 0o640 || e.Links != 1 || e.ModTime.IsZero()) {
			t.Errorf("entry %+v", e)
		}
		if e.Name == "l" && e.LinkTarget != "b" {
			t.Errorf("entry %+v", e)
		}
	}
	if want := []Kind{KindFile, KindDirectory, KindFile, KindSymlink, KindSymlink}; !reflect.DeepEqual(kinds, want) {
		t.Errorf("kinds %v", kinds)
	}
}

func crcOf(b []byte) []byte {
	s := crc32.ChecksumIEEE(b)
	return []byte{byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)}
}
