package workspace

import (
	"strings"
	"testing"
)

// TestLookAlikes: where an edit or a hunk misses for characters that cannot be
// told apart by looking, they are named with their place.
func TestLookAlikes(t *testing.T) {
	for _, tc := range []struct{ name, content, old, says string }{
		{"no-break space in the file", "a\nconsole.log(1,\u00a0x)\n", "console.log(1, x)", "line 2, column 15: the file has U+00A0 (a no-break space) where yours has U+0020 (a space)"},
		{"no-break space in the text", "x = 1\n", "x\u00a0= 1", "line 1, column 2: the file has U+0020 (a space) where yours has U+00A0 (a no-break space)"},
		{"narrow space", "10\u202f000 km\n", "10 000 km", "column 3: the file has U+202F"},
		{"zero width in the file", "foo\u200bbar()\n", "foobar()", "column 4: the file has U+200B (a zero width space), which yours leaves out"},
		{"zero width in the text", "foobar()\n", "foo\u200bbar()", "column 4: yours has U+200B (a zero width space), which the file leaves out"},
		{"byte order mark inside", "a\nb\ufeffc = 1\n", "bc = 1", "line 2, column 2: the file has U+FEFF"},
		{"curly quotes", "say \u201chello\u201d now\n", `"hello"`, "column 5: the file has U+201C (a curly quote) where yours has U+0022"},
		{"apostrophe", "it's fine\n", "it\u2019s fine", "column 3: the file has U+0027 (a straight quote) where yours has U+2019"},
		{"dash", "1\u20132 of 3\n", "1-2 of 3", "column 2: the file has U+2013 (an en dash)"},
		{"ellipsis", "wait\u2026\n", "wait...", "column 5: the file has U+2026 (an ellipsis)"},
		{"letters apart", "cafe\u0301 = 1\n", "caf\u00e9 = 1", "column 4: the file has U+0065 U+0301 (a letter and its mark apart, NFD) where yours has U+00E9 (one character, NFC)"},
		{"letters in one", "na\u00efve\n", "nai\u0308ve", "column 3: the file has U+00EF (one character, NFC)"},
		{"within lines", "begin\nif (a\u00a0== b) {\n  ok;\n}\n", "a == b) {\n  ok", "line 2, column 6"},
		{"in the last line", "one\ntwo\nthr\u200bee four\n", "one\ntwo\nthree", "line 3, column 4"},
		{"several lines", "a\u00a0b\nc\u00a0d\n", "a b\nc d", "line 1, column 2: the file has U+00A0 (a no-break space) where yours has U+0020 (a space); line 2, column 2"},
		{"CRLF", "x\r\na\u00a0b\r\ny\r\n", "x\na b\ny", "line 2, column 2"},
		{"columns are characters", "\u65e5\u672c\u00a0x\n", "\u65e5\u672c x", "column 3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, dir, _ := newFS(t, Options{})
			put(t, dir, map[string]string{"f": tc.content})
			_, err := f.EditFile(ctx, EditRequest{Path: "f", OldText: tc.old, NewText: "new"})
			wantCode(t, err, codeEditNotFound)
			if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v", err)
			}
			if tc.name == "within lines" || tc.name == "in the last line" || tc.name == "curly quotes" {
				return // a hunk is of whole lines
			}
			lines := "-" + strings.ReplaceAll(tc.old, "\n", "\n-")
			_, err = f.ApplyPatch(ctx, envelope("*** Update File: f\n@@\n"+lines+"\n+new\n"))
			wantCode(t, err, codePatchFailed)
			if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("patch: %v", err)
			}
		})
	}
	for text, tc := range map[string][2]string{
		"p\u0430th = 1\n":              {"path = 1", "line 1, column 2: the file has U+0430 (a Cyrillic letter) where yours has U+0061"},
		"\u039f = 1\n":                 {"O = 1", "the file has U+039F (a Greek letter) where yours has U+004F"},
		"\uff58\uff1d1\n":              {"x=1", "the file has U+FF58 (a full width form) where yours has U+0078"},
		"x = \u043a\u043e\u0434\n":     {"x = kod", ""},
		"# \u0441\u043b\u043e\u0432\n": {"# \u0441\u043b\u043ev", ""},
	} {
		at, differ := lookAlike(splitLines(text), splitLines(tc[0]))
		if (at >= 0) != (tc[1] != "") || !strings.Contains(strings.Join(differ, "\n"), tc[1]) {
			t.Errorf("%q and %q: %v", text, tc[0], differ)
		}
	}
	// Nothing is said to look alike where it does not.
	for _, tc := range [][2]string{{"abc\n", "xyz"}, {"caf\u00e9\n", "cafe"}, {"a b\n", "ab"}, {"return 1\n", "return 2"}, {"\u200b\n", "\u200b\u200b"}} {
		if at, differ := lookAlike(splitLines(tc[0]), splitLines(tc[1])); at >= 0 {
			t.Errorf("%q and %q: %v", tc[0], tc[1], differ)
		}
	}
}

func FuzzLookAlike(f *testing.F) {
	f.Add("caf\u00e9 \u201cx\u201d\u00a0y\r\n\u200bz", "cafe\u0301 \"x\" y\nz")
	f.Add("\xff\u0301\n", "\xfe")
	f.Fuzz(func(t *testing.T, text, want string) {
		at, differ := lookAlike(splitLines(text), splitLines(want))
		if (at >= 0) != (len(differ) > 0) {
			t.Fatal(at, differ)
		}
	})
}

// TestLineEndsAreShown: an edit that changes line ends shows that it did.
func TestLineEndsAreShown(t *testing.T) {
	for _, tc := range []struct{ name, content, old, new, says string }{
		{"to LF", "a\r\nb\r\nc\r\n", "a\r\nb\r\n", "a\nb\n", "3 CRLF before, 1 CRLF and 2 LF now"},
		{"to CRLF", "a\nb\n", "a\nb", "a\r\nb", "2 LF before, 1 CRLF and 1 LF now"},
		{"within a mixed file", "a\r\nb\nc\r\nd\n", "c\r\n", "c\n", "2 CRLF and 2 LF before, 1 CRLF and 3 LF now"},
		{"with text", "a\nb\n", "a\nb", "x\r\ny", "2 LF before, 1 CRLF and 1 LF now"},
		{"not at all", "a\r\nb\r\n", "b", "c\nd", ""},
		{"not in a mixed file", "a\r\nb\nc\n", "b", "x", ""},
	} {
		f, dir, _ := newFS(t, Options{})
		put(t, dir, map[string]string{"f": tc.content})
		res, err := f.EditFile(ctx, EditRequest{Path: "f", OldText: tc.old, NewText: tc.new})
		wantCode(t, err, "")
		if strings.Contains(res.Diff, "[line ends:") != (tc.says != "") || !strings.Contains(res.Diff, tc.says) {
			t.Errorf("%s: %q", tc.name, res.Diff)
		}
	}
}

// TestAlikeName: a name that only looks like the one asked for is told, one that
// is hidden is not.
func TestAlikeName(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"d/cafe\u0301.txt": "x", "a\u202fb": "x", "README.md": "x"})
	for path, want := range map[string]string{
		"d/caf\u00e9.txt": "U+0065 U+0301", "a b": "U+202F", "readme.md": "README.md does, whose name differs: upper and lower case", "other": "check the path with ls", "none/x": "check the path with ls",
	} {
		_, err := f.ReadFile(ctx, ReadRequest{Path: path})
		wantCode(t, err, codeNotFound)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
