package workspace

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOneByteText: text that is neither UTF-8 nor UTF-16 is read, searched, edited and
// appended to as the same text, and stays what it is.
func TestOneByteText(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	ctx := context.Background()
	all := make([]byte, 0, 256)
	for c := 0x20; c < 0x100; c++ {
		all = append(all, byte(c))
	}
	for name, content := range map[string]string{
		"quotes": "caf\xe9 \x93quoted\x94 \x96 5 \x80\nplain line\n",
		"all":    string(all) + "\n",
		"u16":    "n\x00a\x00m\x00e\x00 \x00h\x00e\x00r\x00e\x00\n\x00",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := f.ReadFile(ctx, ReadRequest{Path: "quotes"})
	if err != nil || r.Encoding != Windows1252 || !strings.HasPrefix(r.Text, "café “quoted” – 5 €\n") {
		t.Errorf("read: %q %q %v", r.Text, r.Encoding, err)
	}
	for _, pattern := range []string{"café", "“quoted”", "plain|5 .$", `\x{20ac}$`, `caf\pL`} {
		res, err := f.Search(ctx, SearchRequest{Pattern: pattern, Glob: "quotes"})
		if err != nil || len(res.Files) != 1 || pattern[0] != 'p' && res.Files[0].Lines[0].Text != "café “quoted” – 5 €" {
			t.Errorf("%s: %+v %v", pattern, res.Files, err)
		}
	}
	if res, err := f.Search(ctx, SearchRequest{Pattern: "name here"}); err != nil || len(res.Files) != 1 || res.Files[0].Path != "u16" {
		t.Errorf("UTF-16 without a mark is searched as %+v, %v", res.Files, err)
	}
	if _, err := f.EditFile(ctx, EditRequest{Path: "quotes", OldText: "“quoted”", NewText: "‘quoted’ …"}); err != nil {
		t.Error(err)
	}
	if _, err := f.WriteFile(ctx, WriteRequest{Path: "quotes", Content: []byte("10 €\n"), Mode: WriteAppend}); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "quotes")); string(got) != "caf\xe9 \x91quoted\x92 \x85 \x96 5 \x80\nplain line\n10 \x80\n" {
		t.Errorf("written: %q", got)
	}
	if _, err := f.EditFile(ctx, EditRequest{Path: "all", OldText: " !", NewText: "! "}); err != nil {
		t.Error(err)
	}
	all[0], all[1] = all[1], all[0]
	if got, _ := os.ReadFile(filepath.Join(dir, "all")); string(got) != string(all)+"\n" {
		t.Errorf("written: %q", got)
	}
	_, err = f.EditFile(ctx, EditRequest{Path: "quotes", OldText: "plain", NewText: "pl\u0092in"})
	wantCode(t, err, codeInvalid)
}

// TestUTF32: the mark of UTF-32 begins with one of UTF-16, as which the file would be
// read with a NUL after each character and appended to in the wrong form.
func TestUTF32(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	ctx := context.Background()
	for name, content := range map[string]string{"le": "\xff\xfe\x00\x00h\x00\x00\x00\n\x00\x00\x00", "be": "\x00\x00\xfe\xff\x00\x00\x00h\x00\x00\x00\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := f.ReadFile(ctx, ReadRequest{Path: name})
		if err != nil || r.Kind != ContentBinary || !strings.Contains(r.Note, "UTF-32 text") || r.Text != "" {
			t.Errorf("%s is read as %+v, %v", name, r, err)
		}
		_, err = f.WriteFile(ctx, WriteRequest{Path: name, Content: []byte("x\n"), Mode: WriteAppend})
		wantCode(t, err, codeUnsupported)
		_, err = f.EditFile(ctx, EditRequest{Path: name, OldText: "h", NewText: "x"})
		wantCode(t, err, codeUnsupported)
		if got, _ := os.ReadFile(filepath.Join(dir, name)); string(got) != content {
			t.Errorf("%s holds %q", name, got)
		}
		if res, err := f.WriteFile(ctx, WriteRequest{Path: name, Content: []byte("x\n")}); err != nil || !strings.Contains(res.Note, "was utf-32 with a byte order mark and is now utf-8") {
			t.Errorf("%s is replaced: %+v, %v", name, res, err)
		}
	}
}
