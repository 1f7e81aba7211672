package workspace

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"unicode/utf16"

	"mcp-sandbox/sandbox"
)

func utf16LE(s string) string {
	b := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return string(b)
}

// TestReadUTF16: ranges, bounds and searches of a UTF-16 file count the same
// lines as those of the same text in UTF-8.
func TestReadUTF16(t *testing.T) {
	var text strings.Builder
	for i := range 30000 {
		fmt.Fprintf(&text, "line %d äß汉\n", i+1)
	}
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"u8": text.String(), "u16": utf16LE(text.String()), "odd": utf16LE("one\ntwo\n") + "x"})
	for _, req := range []ReadRequest{{}, {Limit: 3}, {Offset: 12000, Limit: 2}, {Offset: -2}, {Offset: -20000, Limit: 1}, {Offset: 29999}, {Offset: 40000}, {MaxBytes: 1000}, {Offset: 500, MaxBytes: 700}} {
		req.Path = "u8"
		want, err := f.ReadFile(ctx, req)
		wantCode(t, err, "")
		req.Path = "u16"
		got, err := f.ReadFile(ctx, req)
		wantCode(t, err, "")
		if got.Encoding == UTF8 || got.Encoding == want.Encoding {
			t.Fatalf("encoding %q", got.Encoding)
		}
		switch {
		case req.MaxBytes > 0:
			// A bound in bytes holds another number of characters.
			if !strings.HasPrefix(want.Text, got.Text) && !strings.HasPrefix(got.Text, want.Text) || got.Text == "" || !strings.HasSuffix(got.Text, "\n") {
				t.Errorf("%+v: %q, in UTF-8 %q", req, got.Text, want.Text)
			}
		case req.Offset == 0 && req.Limit == 0: // too long for a read without a bound
			if !strings.HasPrefix(want.Text, got.Text[:1000]) {
				t.Errorf("%q", got.Text[:100])
			}
		case got.Text != want.Text || got.StartLine != want.StartLine || got.EndLine != want.EndLine:
			t.Errorf("%+v: lines %d-%d %.60q, in UTF-8 %d-%d %.60q", req, got.StartLine, got.EndLine, got.Text, want.StartLine, want.EndLine, want.Text)
		}
	}
	// Half a character at the end is not text, and no error.
	odd, err := f.ReadFile(ctx, ReadRequest{Path: "odd"})
	wantCode(t, err, "")
	if !strings.HasPrefix(odd.Text, "one\ntwo\n") {
		t.Errorf("%q", odd.Text)
	}
	found, err := f.Search(ctx, SearchRequest{Pattern: "line 29999 äß", Path: "u16"})
	wantCode(t, err, "")
	if found.Matches != 1 || !strings.Contains(fmt.Sprint(flat(found)), "29999") {
		t.Errorf("%v", flat(found))
	}
}

// TestReadWebP: one WebP picture of 17 by 8 pixels, which the standard library
// cannot write.
func TestReadWebP(t *testing.T) {
	// Lossless; every pixel is the only symbol of its code and takes no bits, so
	// the size is free: 14 bits each of width and height less one.
	b, err := base64.StdEncoding.DecodeString("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(b[21:], 16|7<<14|1<<28)
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"p.webp": string(b), "cut.webp": string(b[:24])})
	r, err := f.ReadFile(ctx, ReadRequest{Path: "p.webp"})
	wantCode(t, err, "")
	if r.Kind != ContentImage || r.Width != 17 || r.Height != 8 {
		t.Errorf("%+v", r)
	}
	r, err = f.ReadFile(ctx, ReadRequest{Path: "cut.webp"})
	wantCode(t, err, "")
	if r.Kind == ContentImage && len(r.Image) > 0 || r.Note == "" {
		t.Errorf("a picture that is cut short: %+v", r)
	}
}

// TestExtractOdd: members that carry no file are passed over or refused, with
// nothing left.
func TestExtractOdd(t *testing.T) {
	global := tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "of git archive"}}
	archive := func(headers ...tar.Header) string { return string(tarOf(t, headers...)) }
	raw := func(method uint16) string {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		out, err := w.CreateRaw(&zip.FileHeader{Name: "x", Method: method, CompressedSize64: 3, UncompressedSize64: 3})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte("abc")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	// A header that says more than there is.
	short := archive(reg("a", strings.Repeat("x", 4096)))[:2048]
	for _, tc := range []struct {
		name, data string
		req        ExtractRequest
		code       string
	}{
		{"git's global header", archive(global, reg("f", "x")), ExtractRequest{}, ""},
		{"tgz by its short name", string(compressed(t, "gz", []byte(archive(reg("f", "x"))))), ExtractRequest{Format: "tgz"}, ""},
		{"a zip said to be a tar", string(zipOf(t, zipFile{name: "f", body: "x"})), ExtractRequest{Format: "tar"}, codeInvalid},
		{"a FIFO in a zip", string(zipOf(t, zipFile{name: "p", mode: fs.ModeNamedPipe | 0o644})), ExtractRequest{}, codeUnsafeArchive},
		{"an unknown compression", raw(97), ExtractRequest{}, codeUnsupported},
		{"too many members of a zip", string(zipOf(t, zipFile{name: "a"}, zipFile{name: "b"})), ExtractRequest{Limits: ExtractLimits{MaxMembers: 1}}, codeTooLarge},
		{"a tar cut short", short, ExtractRequest{}, codeUnsafeArchive},
		{"a damaged xz", string(compressed(t, "xz", []byte("text"))[:20]), ExtractRequest{}, codeUnsafeArchive},
		{"a link to nothing", archive(tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: ""}), ExtractRequest{}, codeUnsafeArchive},
		{"a name that is too long", archive(reg(strings.Repeat("d/", maxPath/2+1)+"f", "x")), ExtractRequest{}, codeUnsafeArchive},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, dir, _ := newFS(t, Options{})
			put(t, dir, map[string]string{"a.bin": tc.data})
			tc.req.Path, tc.req.Destination = "a.bin", "out"
			_, err := f.Extract(ctx, tc.req)
			wantCode(t, err, tc.code)
			if tc.code == "" {
				if get(t, dir+"/out/f") != "x" {
					t.Error("the file is not there")
				}
			} else if exists(dir + "/out") {
				t.Error("something was left of a refused archive")
			}
		})
	}
}

// TestExtractOntoSpecial: what is not a file at the destination stops a merge.
func TestExtractOntoSpecial(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"a.tar": string(tarOf(t, reg("p", "x"))), "out/": ""})
	if err := syscall.Mkfifo(dir+"/out/p", 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := f.Extract(ctx, ExtractRequest{Path: "a.tar", Destination: "out"})
	wantCode(t, err, codeExists)
	if fi, err := os.Lstat(dir + "/out/p"); err != nil || fi.Mode()&fs.ModeNamedPipe == 0 {
		t.Errorf("%v %v", fi, err)
	}
}

// TestCancelledEverywhere: a call that was cancelled before it began does
// nothing, whatever it is.
func TestCancelledEverywhere(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"a": "x\n", "d/b": "x\n", "u16": utf16LE("x\n")})
	before := fmt.Sprint(snapshotTree(t, dir))
	c, cancel := context.WithCancel(ctx)
	cancel()
	for name, call := range map[string]func() error{
		"read":   func() error { _, err := f.ReadFile(c, ReadRequest{Path: "a"}); return err },
		"tail":   func() error { _, err := f.ReadFile(c, ReadRequest{Path: "a", Offset: -1}); return err },
		"search": func() error { _, err := f.Search(c, SearchRequest{Pattern: "x"}); return err },
		"write":  func() error { _, err := f.WriteFile(c, WriteRequest{Path: "n", Content: []byte("x")}); return err },
		"edit":   func() error { _, err := f.EditFile(c, EditRequest{Path: "a", OldText: "x", NewText: "y"}); return err },
		"patch":  func() error { _, err := f.ApplyPatch(c, envelope("*** Delete File: a\n")); return err },
	} {
		if err := call(); sandbox.CodeOf(err) != codeCancelled {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := fmt.Sprint(snapshotTree(t, dir)); after != before {
		t.Errorf("a cancelled call did something:\n%s\n%s", before, after)
	}
}
