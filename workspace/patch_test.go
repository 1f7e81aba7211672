package workspace

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// snapshotTree maps every path below dir to mode and content.
func snapshotTree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		s := st.Mode().String() + " "
		if d.Type().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			s += string(b)
		} else if d.Type()&os.ModeSymlink != 0 {
			l, _ := os.Readlink(p)
			s += l
		}
		out[rel] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func envelope(s string) string { return "*** Begin Patch\n" + s + "*** End Patch\n" }

func TestApplyPatch(t *testing.T) {
	files := map[string]string{
		"a.txt": "one\ntwo\nthree\nfour\nfive\n", "crlf": "a\r\nb\r\nc\r\n", "noeol": "x\ny",
		"cls": "class A:\n    def f(self):\n        return 1\nclass B:\n    def f(self):\n        return 1\n",
		"dup": "x\ny\nx\ny\nend\n", "dir/sub": "s\n", "link": "-> dir/sub", "bin": "\x00\x01",
	}
	for _, tc := range []struct {
		name, patch string
		want        map[string]string // nil content: "-" is gone
		code, says  string
	}{
		{name: "update", patch: envelope("*** Update File: a.txt\n@@\n one\n-two\n+TWO\n three\n"), want: map[string]string{"a.txt": "one\nTWO\nthree\nfour\nfive\n"}},
		{name: "no first header", patch: envelope("*** Update File: a.txt\n-two\n+TWO\n"), want: map[string]string{"a.txt": "one\nTWO\nthree\nfour\nfive\n"}},
		{name: "two hunks", patch: envelope("*** Update File: a.txt\n@@\n-one\n+1\n@@\n-five\n+5\n"), want: map[string]string{"a.txt": "1\ntwo\nthree\nfour\n5\n"}},
		{name: "add", patch: envelope("*** Add File: new/deep/f\n+hello\n+\n+bye\n"), want: map[string]string{"new/deep/f": "hello\n\nbye\n"}},
		{name: "delete", patch: envelope("*** Delete File: a.txt\n"), want: map[string]string{"a.txt": "-"}},
		{name: "move", patch: envelope("*** Update File: a.txt\n*** Move to: m/b.txt\n@@\n-one\n+1\n"), want: map[string]string{"a.txt": "-", "m/b.txt": "1\ntwo\nthree\nfour\nfive\n"}},
		{name: "rename binary", patch: envelope("*** Update File: bin\n*** Move to: bin2\n"), want: map[string]string{"bin": "-", "bin2": "\x00\x01"}},
		{name: "stacked headers", patch: envelope("*** Update File: cls\n@@ class B:\n@@     def f(self):\n-        return 1\n+        return 2\n"),
			want: map[string]string{"cls": "class A:\n    def f(self):\n        return 1\nclass B:\n    def f(self):\n        return 2\n"}},
		{name: "header repeated", patch: envelope("*** Update File: cls\n@@ class B:\n class B:\n-    def f(self):\n+    def g(self):\n"),
			want: map[string]string{"cls": "class A:\n    def f(self):\n        return 1\nclass B:\n    def g(self):\n        return 1\n"}},
		{name: "end of file", patch: envelope("*** Update File: dup\n@@\n x\n-y\n+Y\n end\n*** End of File\n"), want: map[string]string{"dup": "x\ny\nx\nY\nend\n"}},
		{name: "append", patch: envelope("*** Update File: a.txt\n@@\n+six\n"), want: map[string]string{"a.txt": "one\ntwo\nthree\nfour\nfive\nsix\n"}},
		{name: "blanks differ", patch: envelope("*** Update File: cls\n@@\n class A:\n def f(self):\n-return 1\n+        return 3\n"),
			want: map[string]string{"cls": "class A:\n    def f(self):\n        return 3\nclass B:\n    def f(self):\n        return 1\n"}},
		{name: "crlf kept", patch: envelope("*** Update File: crlf\n@@\n a\n-b\n+B\n+BB\n"), want: map[string]string{"crlf": "a\r\nB\r\nBB\r\nc\r\n"}},
		{name: "no final newline kept", patch: envelope("*** Update File: noeol\n@@\n x\n-y\n+z\n"), want: map[string]string{"noeol": "x\nz"}},
		{name: "through link", patch: envelope("*** Update File: link\n@@\n-s\n+t\n"), want: map[string]string{"dir/sub": "t\n"}},
		{name: "delete link", patch: envelope("*** Delete File: link\n"), want: map[string]string{"link": "-"}},
		{name: "same file twice", patch: envelope("*** Update File: a.txt\n@@\n-one\n+1\n*** Update File: a.txt\n@@\n-1\n+2\n"), want: map[string]string{"a.txt": "2\ntwo\nthree\nfour\nfive\n"}},
		{name: "backslash", patch: envelope("*** Update File: dir\\sub\n@@\n-s\n+t\n"), want: map[string]string{"dir/sub": "t\n"}},
		{name: "patch with crlf", patch: strings.ReplaceAll(envelope("*** Update File: a.txt\n@@\n-two\n+2\n"), "\n", "\r\n"), want: map[string]string{"a.txt": "one\n2\nthree\nfour\nfive\n"}},
		{name: "blank context trimmed", patch: envelope("*** Add File: q\n+a\n+\n+b\n*** Update File: q\n@@\n a\n\n-b\n+c\n"), want: map[string]string{"q": "a\n\nc\n"}},
		{name: "swap by moves", patch: envelope("*** Update File: a.txt\n*** Move to: t\n*** Update File: dup\n*** Move to: a.txt\n"), want: map[string]string{"a.txt": "x\ny\nx\ny\nend\n", "t": "one\ntwo\nthree\nfour\nfive\n", "dup": "-"}},

		{name: "git", patch: "diff --git a/a.txt b/a.txt\nindex 1..2 100644\n--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n", want: map[string]string{"a.txt": "one\n2\nthree\nfour\nfive\n"}},
		{name: "plain diff", patch: "--- a.txt\n+++ a.txt\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n", want: map[string]string{"a.txt": "one\n2\nthree\nfour\nfive\n"}},
		{name: "plain prefixed", patch: "--- a/a.txt\t2024\n+++ b/a.txt\t2024\n@@ -2 +2 @@\n-two\n+2\n", want: map[string]string{"a.txt": "one\n2\nthree\nfour\nfive\n"}},
		{name: "wrong numbers", patch: "--- a/a.txt\n+++ b/a.txt\n@@ -40,3 +40,3 @@\n three\n-four\n+4\n five\n", want: map[string]string{"a.txt": "one\ntwo\nthree\n4\nfive\n"}},
		{name: "wrong counts", patch: "--- a/a.txt\n+++ b/a.txt\n@@ -3,9 +3,7 @@\n three\n-four\n+4\n", want: map[string]string{"a.txt": "one\ntwo\nthree\n4\nfive\n"}},
		{name: "nearest to number", patch: "--- dup\n+++ dup\n@@ -3,2 +3,2 @@\n x\n-y\n+Y\n", want: map[string]string{"dup": "x\ny\nx\nY\nend\n"}},
		{name: "git new", patch: "diff --git a/n b/n\nnew file mode 100755\n--- /dev/null\n+++ b/n\n@@ -0,0 +1,2 @@\n+#!/bin/sh\n+true\n\\ No newline at end of file\n", want: map[string]string{"n": "#!/bin/sh\ntrue"}},
		{name: "git delete", patch: "diff --git a/noeol b/noeol\ndeleted file mode 100644\n--- a/noeol\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-x\n-y\n\\ No newline at end of file\n", want: map[string]string{"noeol": "-"}},
		{name: "git rename", patch: "diff --git a/a.txt b/z.txt\nsimilarity index 90%\nrename from a.txt\nrename to z.txt\n--- a/a.txt\n+++ b/z.txt\n@@ -5 +5 @@\n-five\n+5\n", want: map[string]string{"a.txt": "-", "z.txt": "one\ntwo\nthree\nfour\n5\n"}},
		{name: "newline added", patch: "--- noeol\n+++ noeol\n@@ -1,2 +1,2 @@\n x\n-y\n\\ No newline at end of file\n+y\n", want: map[string]string{"noeol": "x\ny\n"}},

		{name: "second fails", patch: envelope("*** Add File: new/deep/f\n+x\n*** Update File: a.txt\n@@\n-nope\n+x\n"), code: codePatchFailed, says: "a.txt"},
		{name: "add exists", patch: envelope("*** Add File: a.txt\n+x\n"), code: codeExists},
		{name: "move exists", patch: envelope("*** Update File: a.txt\n*** Move to: dup\n"), code: codeExists},
		{name: "update missing", patch: envelope("*** Update File: none\n@@\n-a\n+b\n"), code: codeNotFound},
		{name: "delete directory", patch: envelope("*** Delete File: dir\n"), code: codeIsDirectory},
		{name: "binary", patch: envelope("*** Update File: bin\n@@\n-a\n+b\n"), code: codeUnsupported},
		{name: "outside", patch: envelope("*** Add File: ok\n+x\n*** Add File: ../outside/x\n+x\n"), code: codeOutside},
		{name: "outside move", patch: envelope("*** Update File: a.txt\n*** Move to: ../outside/x\n"), code: codeOutside},
		{name: "outside diff", patch: "--- /dev/null\n+++ b/../outside/x\n@@ -0,0 +1 @@\n+x\n", code: codeOutside},
		{name: "protected", patch: envelope("*** Add File: .git/hooks/pre-commit\n+x\n"), code: codeProtected},
		{name: "protected deep", patch: envelope("*** Add File: new/dir/.envrc\n+x\n"), code: codeProtected},
		{name: "git file", patch: envelope("*** Add File: .git\n+gitdir: elsewhere\n"), code: codeProtected},
		{name: "below a file", patch: envelope("*** Add File: a.txt/x\n+x\n"), code: codeNotDirectory},
		{name: "no markers", patch: "hello", code: codePatchFailed},
		{name: "no end", patch: "*** Begin Patch\n*** Delete File: a.txt\n", code: codePatchFailed},
		{name: "empty", patch: envelope(""), code: codePatchFailed},
		{name: "empty add", patch: envelope("*** Add File: x\n"), code: codePatchFailed},
		{name: "empty update", patch: envelope("*** Update File: a.txt\n"), code: codePatchFailed},
		{name: "no change", patch: envelope("*** Update File: a.txt\n@@\n one\n"), code: codePatchFailed},
		{name: "bad line", patch: envelope("*** Update File: a.txt\n@@\none\n-two\n"), code: codePatchFailed, says: "line 4"},
		{name: "bad header", patch: envelope("*** Update File: cls\n@@ class C:\n-        return 1\n+x\n"), code: codePatchFailed, says: "class C:"},
		{name: "git binary", patch: "diff --git a/bin b/bin\nindex 1..2 100644\nBinary files a/bin and b/bin differ\n", code: codeUnsupported},
		{name: "git symlink", patch: "diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc/passwd\n\\ No newline at end of file\n", code: codeUnsupported},
		{name: "nul", patch: envelope("*** Add File: x\n+\x00\n"), code: codeInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, dir, _ := newFS(t, Options{Protect: []string{".git/hooks", "**/.envrc"}})
			put(t, dir, files)
			before := snapshotTree(t, dir)
			res, err := f.ApplyPatch(ctx, tc.patch)
			wantCode(t, err, tc.code)
			if err != nil {
				if !strings.Contains(err.Error(), tc.says) {
					t.Errorf("error %q does not say %q", err, tc.says)
				}
				if after := snapshotTree(t, dir); !reflect.DeepEqual(before, after) {
					t.Errorf("a refused patch changed the tree:\n%v\nwas\n%v", after, before)
				}
				return
			}
			if len(res.Files) == 0 {
				t.Error("no file reported")
			}
			for name, want := range tc.want {
				if want == "-" {
					if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
						t.Errorf("%s still exists", name)
					}
				} else if got := get(t, filepath.Join(dir, name)); got != want {
					t.Errorf("%s holds %q, want %q", name, got, want)
				}
			}
			after := snapshotTree(t, dir)
			for name, s := range before {
				if _, changed := tc.want[name]; !changed && after[name] != s && s[0] != 'd' {
					t.Errorf("%s changed from %q to %q", name, s, after[name])
				}
			}
		})
	}
}

func TestApplyPatchCounts(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"a": "1\n2\n3\n", "b": "x\n"})
	os.Chmod(dir+"/b", 0o750)
	res, err := f.ApplyPatch(ctx, envelope("*** Update File: a\n@@\n-1\n-2\n+one\n*** Delete File: ./b\n*** Add File: c\n+n\n"))
	wantCode(t, err, "")
	want := []PatchedFile{{Op: "update", Path: "a", Added: 1, Removed: 2, Places: []LineRange{{1, 1}}}, {Op: "delete", Path: "b", Removed: 1}, {Op: "add", Path: "c", Added: 1}}
	if !reflect.DeepEqual(res.Files, want) {
		t.Errorf("got %+v, want %+v", res.Files, want)
	}
	put(t, dir, map[string]string{"x.sh": "#!/bin/sh\n"})
	os.Chmod(dir+"/x.sh", 0o750)
	_, err = f.ApplyPatch(ctx, envelope("*** Update File: x.sh\n*** Move to: bin/y.sh\n@@\n+true\n"))
	wantCode(t, err, "")
	if st, err := os.Stat(dir + "/bin/y.sh"); err != nil || st.Mode().Perm() != 0o750 {
		t.Errorf("moved file: %v %v", st, err)
	}
}
