package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEditFile(t *testing.T) {
	utf16 := "\xff\xfea\x00\n\x00b\x00\n\x00"
	for _, tc := range []struct {
		name, content, old, new string
		all                     bool
		want, code, says        string
	}{
		{name: "once", content: "a\nb\nc\n", old: "b", new: "B", want: "a\nB\nc\n"},
		{name: "delete", content: "a\nb\nc\n", old: "b\n", new: "", want: "a\nc\n"},
		{name: "no final newline", content: "a\nb", old: "a", new: "A", want: "A\nb"},
		{name: "crlf", content: "a\r\nb\r\nc\r\n", old: "a\nb", new: "a\nx\nb", want: "a\r\nx\r\nb\r\nc\r\n"},
		{name: "crlf one line", content: "a\r\nb\r\n", old: "a", new: "a\nx", want: "a\r\nx\r\nb\r\n"},
		{name: "crlf given", content: "a\r\nb\r\n", old: "a\r\nb", new: "c", want: "c\r\n"},
		{name: "mixed ends", content: "a\r\nb\r\nc\nd\n", old: "c\nd", new: "e", want: "a\r\nb\r\ne\n"},
		{name: "bom kept", content: "\xef\xbb\xbfx\n", old: "x", new: "y", want: "\xef\xbb\xbfy\n"},
		{name: "utf-16", content: utf16, old: "b", new: "ü", want: "\xff\xfea\x00\n\x00\xfc\x00\n\x00"},
		{name: "latin-1", content: "caf\xe9\n", old: "café", new: "thé", want: "th\xe9\n"},
		{name: "one byte cannot", content: "caf\xe9\n", old: "café", new: "日", code: codeInvalid},
		{name: "stray byte kept", content: "grün schön \xff x\n", old: "x", new: "y", want: "grün schön \xff y\n"},
		{name: "all", content: "a a a", old: "a", new: "b", all: true, want: "b b b"},
		{name: "not unique", content: "a\na\n", old: "a", new: "b", code: codeNotUnique, says: "lines 1, 2"},
		{name: "missing", content: "func main() {\n\treturn 1\n}\n", old: "func main() {\n    return 1\n}", new: "x", code: codeEditNotFound, says: "only the blanks"},
		{name: "nearest", content: "one\nfunc parseHeader(r io.Reader) error {\nthree\n", old: "func parseHeaders(r io.Reader) {", new: "x", code: codeEditNotFound, says: "2\tfunc parseHeader"},
		{name: "nothing near", content: "abc\n", old: "zzzzzzzzzzz", new: "x", code: codeEditNotFound},
		{name: "empty old", content: "a", old: "", new: "b", code: codeInvalid},
		{name: "same", content: "a", old: "a", new: "a", code: codeInvalid},
		{name: "binary", content: "a\x00b", old: "a", new: "b", code: codeUnsupported},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, dir, _ := newFS(t, Options{})
			path := filepath.Join(dir, "f")
			if err := os.WriteFile(path, []byte(tc.content), 0o751); err != nil {
				t.Fatal(err)
			}
			os.Chmod(path, 0o751)
			res, err := f.EditFile(ctx, EditRequest{Path: "f", OldText: tc.old, NewText: tc.new, ReplaceAll: tc.all})
			wantCode(t, err, tc.code)
			if err != nil {
				if !strings.Contains(err.Error(), tc.says) {
					t.Errorf("error %q does not say %q", err, tc.says)
				}
				tc.want = tc.content
			} else if !strings.Contains(res.Diff, "@@") || !strings.Contains(res.Diff, "--- a/f") {
				t.Errorf("diff is %q", res.Diff)
			}
			if got := get(t, path); got != tc.want {
				t.Errorf("file holds %q, want %q", got, tc.want)
			}
			if st, _ := os.Stat(path); st.Mode().Perm() != 0o751 {
				t.Errorf("mode is %v", st.Mode())
			}
		})
	}
}

func TestEditRefuses(t *testing.T) {
	f, dir, outside := newFS(t, Options{Protect: []string{".mcp.json"}})
	put(t, dir, map[string]string{"d/": "", ".mcp.json": "a", "out": "-> " + outside + "/canary"})
	big, err := os.Create(dir + "/big")
	if err != nil {
		t.Fatal(err)
	}
	big.Truncate(maxEditBytes + 1)
	big.Close()
	for path, code := range map[string]string{
		"d": codeIsDirectory, "none": codeNotFound, ".mcp.json": codeProtected, "out": codeOutside,
		"big": codeTooLarge, "../outside/canary": codeOutside,
	} {
		_, err := f.EditFile(ctx, EditRequest{Path: path, OldText: "a", NewText: "b"})
		wantCode(t, err, code)
	}
}
