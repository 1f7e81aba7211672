package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestPatchOrder: what a patch may do to one file several times, and how it is
// told that its hunks stand in the wrong order.
func TestPatchOrder(t *testing.T) {
	big := strings.Repeat("0123456789abcdef\n", maxEditBytes/17-1)
	for _, tc := range []struct {
		name, patch string
		want        map[string]string
		code, says  string
	}{
		{name: "hunks backwards", patch: envelope("*** Update File: a\n@@\n-five\n+5\n@@\n-one\n+1\n"), code: codePatchFailed, says: "in the order of the file"},
		{name: "headers in the wrong order", patch: envelope("*** Update File: a\n@@ four\n@@ two\n-three\n+3\n"), code: codePatchFailed, says: "after @@ was not found"},
		{name: "headers that are not there", patch: envelope("*** Update File: a\n@@ two\n@@ nowhere\n-three\n+3\n"), code: codePatchFailed, says: `"nowhere"`},
		{name: "lines are added at the numbers of a header", patch: "--- a/a\n+++ b/a\n@@ -2,0 +3,1 @@\n+between\n", want: map[string]string{"a": "one\ntwo\nbetween\nthree\nfour\nfive\n"}},
		{name: "after a last line without an end", patch: envelope("*** Update File: open\n@@\n x\n+y\n"), want: map[string]string{"open": "x\ny"}},
		{name: "moved twice", patch: envelope("*** Update File: a\n*** Move to: b\n@@\n-one\n+1\n*** Update File: b\n*** Move to: c\n@@\n-two\n+2\n"), want: map[string]string{"a": "-", "b": "-", "c": "1\n2\nthree\nfour\nfive\n"}},
		{name: "added and moved", patch: envelope("*** Add File: n\n+x\n*** Update File: n\n*** Move to: m\n@@\n-x\n+y\n"), want: map[string]string{"n": "-", "m": "y\n"}},
		{name: "added and deleted", patch: envelope("*** Add File: n\n+x\n*** Delete File: n\n*** Update File: a\n@@\n-one\n+1\n"), want: map[string]string{"n": "-", "a": "1\ntwo\nthree\nfour\nfive\n"}},
		{name: "a mode", patch: "diff --git a/a b/a\nold mode 100644\nnew mode 100755\n--- a/a\n+++ b/a\n@@ -1,2 +1,2 @@\n-one\n+1\n two\n", want: map[string]string{"a": "1\ntwo\nthree\nfour\nfive\n"}},
		{name: "a blank that lost its blank", patch: "--- a/gap\n+++ b/gap\n@@ -1,3 +1,3 @@\n-a\n+A\n\n b\n", want: map[string]string{"gap": "A\n\nb\n"}},
		{name: "two files of one diff", patch: "--- a/a\n+++ b/a\n@@ -1 +1 @@\n-one\n+1\n--- a/gap\n+++ b/gap\n@@ -1 +1 @@\n-a\n+A\n", want: map[string]string{"a": "1\ntwo\nthree\nfour\nfive\n", "gap": "A\n\nb\n"}},
		{name: "a header without numbers", patch: "--- a/a\n+++ b/a\n@@ -x +y @@\n-one\n+1\n", code: codePatchFailed},
		{name: "a file grows too large", patch: envelope("*** Update File: big\n@@\n+" + strings.Repeat("y", 100) + "\n"), code: codeTooLarge, says: "larger than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, dir, _ := newFS(t, Options{})
			put(t, dir, map[string]string{"a": "one\ntwo\nthree\nfour\nfive\n", "open": "x", "gap": "a\n\nb\n"})
			if strings.Contains(tc.patch, "big") {
				put(t, dir, map[string]string{"big": big})
			}
			_, err := f.ApplyPatch(ctx, tc.patch)
			wantCode(t, err, tc.code)
			if err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v does not say %q", err, tc.says)
			}
			for name, want := range tc.want {
				if want == "-" {
					if exists(filepath.Join(dir, name)) {
						t.Errorf("%s is there", name)
					}
				} else if got := get(t, filepath.Join(dir, name)); got != want {
					t.Errorf("%s holds %q, want %q", name, got, want)
				}
			}
			if tc.name == "a mode" {
				if fi, err := os.Stat(dir + "/a"); err != nil || fi.Mode().Perm()&0o100 == 0 {
					t.Errorf("%v %v", fi.Mode(), err)
				}
			}
		})
	}
}

// TestEditCorners: mixed line ends, and what is shown of lines that are near.
func TestEditCorners(t *testing.T) {
	long := "func theName(" + strings.Repeat("ä", 400) + ")"
	for _, tc := range []struct{ name, content, old, new, want, says string }{
		{name: "mixed ends as given", content: "a\r\nb\r\nc\nd\r\n", old: "c\nd", new: "x", want: "a\r\nb\r\nx\r\n"},
		{name: "blank lines first", content: "alpha beta\ngamma delta\n", old: "\n\ngamma delta \n", new: "x", says: "gamma delta"},
		{name: "a blank line within", content: "one line\n\t\nanother line\n", old: "one line \n\nanother line ", new: "x", says: "only the blanks"},
		{name: "a long line is cut between characters", content: long + "\n", old: strings.Replace(long, "theName", "thaName", 1), new: "x", says: "ä..."},
		{name: "too short to be like anything", content: "abc\n", old: "xyz", new: "x", says: "not found"},
		{name: "the window would start before the file", content: "last wanted\nx\n", old: "first\nsecond\nlast wanted", new: "x", says: "not found"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, dir, _ := newFS(t, Options{})
			put(t, dir, map[string]string{"f": tc.content})
			_, err := f.EditFile(ctx, EditRequest{Path: "f", OldText: tc.old, NewText: tc.new})
			if tc.says != "" {
				wantCode(t, err, codeEditNotFound)
				if !strings.Contains(err.Error(), tc.says) {
					t.Errorf("%v does not say %q", err, tc.says)
				}
				tc.want = tc.content
			} else {
				wantCode(t, err, "")
			}
			if got := get(t, dir+"/f"); got != tc.want {
				t.Errorf("%q", got)
			}
		})
	}
}

// TestProtectedByAnySpelling: letters that a file system without cases takes for
// others do not get around a protected name.
func TestProtectedByAnySpelling(t *testing.T) {
	for _, name := range []string{".\u017fsh/x", ".SSH/x", ".\u212aube/x", ".ss\u200dh/x"} {
		f, _, _ := newFS(t, Options{Protect: []string{".ssh", ".kube"}})
		_, err := f.WriteFile(ctx, WriteRequest{Path: name, Content: []byte("x")})
		wantCode(t, err, codeProtected)
	}
}

// TestPrefilterShapes: the filter in front of the regexp never hides a match,
// whatever the shape of the pattern.
func TestPrefilterShapes(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"f": "abab\nab\nx\ny\nz\nKELVIN \u212a\nfoofoo\n"})
	for pattern, want := range map[string]int{
		`(?:ab){2,}`: 1, `(?:ab){0,2}zz|foo`: 1, `x|y|z`: 3, `[xy]`: 2, `(foo)+`: 1, `(?i)kelvin`: 1, `(?i)k`: 1, `(?i)(?:foo|k)`: 2, `a{2,3}|b`: 2,
	} {
		r, err := f.Search(ctx, SearchRequest{Pattern: pattern})
		wantCode(t, err, "")
		if r.Matches != want {
			t.Errorf("%s: %d matches, want %d: %v", pattern, r.Matches, want, flat(r))
		}
	}
}

// TestIgnoreSources: blank lines and comments are nothing, and .git/info/exclude
// counts as git has it.
func TestIgnoreSources(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{".gitignore": "\ufeff*.log\n\n  \n# keep.txt\n", ".git/info/exclude": "secret\n", "a.log": "x", "keep.txt": "x", "secret": "x", "sub/secret": "x", "sub/keep.txt": "x"})
	for _, at := range []string{"", "sub"} {
		r, err := f.Find(ctx, FindRequest{Pattern: "**", Path: at})
		wantCode(t, err, "")
		got := ""
		for _, e := range r.Entries {
			got += e.Path + "\n"
		}
		if strings.Contains(got, "secret") || strings.Contains(got, ".log") || !strings.Contains(got, "keep.txt") {
			t.Errorf("in %q: %s", at, got)
		}
	}
}

// TestModesShown: the bits beside permissions are shown as ls does.
func TestModesShown(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"s/": "", "f": "x"})
	for name, mode := range map[string]uint32{"s": 0o1777, "f": 0o4755} {
		if err := syscall.Chmod(dir+"/"+name, mode); err != nil {
			t.Fatal(err)
		}
	}
	r, err := f.List(ctx, ListRequest{Path: "."})
	wantCode(t, err, "")
	got := map[string]os.FileMode{}
	for _, e := range r.Entries {
		got[e.Name] = e.Mode
	}
	if got["s"]&os.ModeSticky == 0 || got["f"]&os.ModeSetuid == 0 || got["f"].Perm() != 0o755 {
		t.Errorf("%v", got)
	}
}

// TestSingleFileGrant: a granted file is edited in place and is no place for
// anything else.
func TestSingleFileGrant(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	granted := filepath.Join(base, "one.txt")
	if err := os.WriteFile(granted, []byte("old text\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, dir, _ := newFS(t, Options{Grants: []Grant{{Path: granted}}})
	put(t, dir, map[string]string{"a": "x\n"})
	_, err = f.ApplyPatch(ctx, envelope("*** Update File: "+granted+"\n@@\n-old text\n+new\n"))
	wantCode(t, err, codeInvalid)
	yes := true
	_, err = f.WriteFile(ctx, WriteRequest{Path: granted, Content: []byte("new text, longer\n"), Executable: &yes})
	wantCode(t, err, "")
	if fi, err := os.Stat(granted); err != nil || fi.Mode().Perm()&0o100 == 0 {
		t.Errorf("%v %v", fi.Mode(), err)
	}
	_, err = f.WriteFile(ctx, WriteRequest{Path: granted, Content: []byte("more\n"), Mode: WriteAppend})
	wantCode(t, err, "")
	if got := get(t, granted); got != "new text, longer\nmore\n" {
		t.Errorf("%q", got)
	}
	if f.Root() != dir {
		t.Errorf("root %q", f.Root())
	}
	_, err = f.Mkdir(ctx, granted, false)
	wantCode(t, err, codeExists)
}
