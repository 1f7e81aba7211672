package workspace

import (
	"fmt"
	"strings"
	"testing"
)

// TestHunkPlaces: a hunk that fits in several places is refused with their lines,
// unless the patch tells which is meant.
func TestHunkPlaces(t *testing.T) {
	const py = "def a():\n    pass\n\ndef b():\n    pass\n\ndef c():\n    pass\n"
	const classes = "class A:\n    def f(self):\n        return 1\nclass B:\n    def f(self):\n        return 1\n"
	update := func(hunks string) string { return envelope("*** Update File: f\n" + hunks) }
	for _, tc := range []struct {
		name, content, patch, says string
		places                     string
	}{
		{"the same line three times", py, update("@@\n-    pass\n+    return\n"), "fits in 3 places (lines 2, 5, 8)", ""},
		{"twice", "x\ny\nx\n", update("@@\n-x\n+z\n"), "fits in two places (lines 1, 3)", ""},
		{"blanks aside", "x \ny\nx\t\n", update("@@\n-x\n+z\n"), "fits in two places", ""},
		{"one of them exactly", "x \nx\n", update("@@\n-x\n+z\n"), "", "[2]"},
		{"an @@ line tells", py, update("@@ def b():\n-    pass\n+    return\n"), "", "[5]"},
		{"an @@ line that is there twice", classes, update("@@ def f(self):\n-        return 1\n+        return 2\n"), "fits in two places (lines 3, 6)", ""},
		{"stacked @@ lines", classes, update("@@ class B:\n@@     def f(self):\n-        return 1\n+        return 2\n"), "", "[6]"},
		{"stacked, the first twice", "k\nf\nx\nk\nf\nx\n", update("@@ k\n@@ f\n-x\n+y\n"), "fits in two places (lines 3, 6)", ""},
		{"added below an @@ line that is there twice", "k\na\nk\nb\n", update("@@ k\n+n\n"), "fits in two places (lines 2, 4)", ""},
		{"context tells", py, update("@@\n def c():\n-    pass\n+    return\n"), "", "[8]"},
		{"the end of the file", "x\ny\nx\n", update("@@\n-x\n+z\n*** End of File\n"), "", "[3]"},
		{"each of them", py, update("@@\n-    pass\n+    return 1\n@@\n-    pass\n+    return 2\n@@\n-    pass\n+    return 3\n"), "", "[2 5 8]"},
		{"two of three", py, update("@@\n-    pass\n+    return 1\n@@\n-    pass\n+    return 2\n"), "fits in 3 places", ""},
		{"after an earlier hunk", py, update("@@\n def b():\n-    pass\n+    return\n@@\n-    pass\n+    x\n"), "", "[5 8]"},
		{"line number", py, "--- f\n+++ f\n@@ -5 +5 @@\n-    pass\n+    return\n", "", "[5]"},
		{"a wrong line number", py, "--- f\n+++ f\n@@ -4 +4 @@\n-    pass\n+    return\n", "fits in 3 places", ""},
		{"a wrong line number and one place", "a\nb\nc\n", "--- f\n+++ f\n@@ -1 +1 @@\n-c\n+d\n", "", "[3]"},
		{"moved along", py, "--- f\n+++ f\n@@ -1,2 +1,4 @@\n def a():\n+    1\n+    2\n     pass\n@@ -5 +7 @@\n-    pass\n+    return\n", "", "[2-3 7]"},
		{"removed only", "a\nb\nc\n", update("@@\n a\n-b\n c\n"), "", "[2]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, dir, _ := newFS(t, Options{})
			put(t, dir, map[string]string{"f": tc.content})
			res, err := f.ApplyPatch(ctx, tc.patch)
			if tc.says != "" {
				wantCode(t, err, codePatchFailed)
				if !strings.Contains(err.Error(), tc.says) {
					t.Errorf("%v", err)
				}
				if got := get(t, dir+"/f"); got != tc.content {
					t.Errorf("changed to %q", got)
				}
				return
			}
			wantCode(t, err, "")
			if got := fmt.Sprint(res.Files[0].Places); got != tc.places {
				t.Errorf("places %s in %q", got, get(t, dir+"/f"))
			}
		})
	}
}

// TestPatchWrappers: a patch sent as the command that would apply it is taken,
// and so is a move to the name the file has.
func TestPatchWrappers(t *testing.T) {
	inner := envelope("*** Update File: a\n@@\n-one\n+1\n")
	diff := "--- a\n+++ a\n@@ -1 +1 @@\n-one\n+1\n"
	for _, tc := range []struct{ name, patch, want string }{
		{"apply_patch", "apply_patch <<'EOF'\n" + inner + "EOF\n", "1\n"},
		{"no quotes", "apply_patch <<EOF\n" + inner + "EOF", "1\n"},
		{"double quotes, other word", "apply_patch << \"PATCH\"\n" + inner + "PATCH\n\n", "1\n"},
		{"bare", "<<'EOF'\n" + inner + "EOF\n", "1\n"},
		{"through cat", "cat <<'EOF' | apply_patch\n" + inner + "EOF\n", "1\n"},
		{"patch", "patch -p1 <<'EOF'\n" + diff + "EOF\n", "1\n"},
		{"with CRLF", strings.ReplaceAll("apply_patch <<'EOF'\n"+inner+"EOF\n", "\n", "\r\n"), "1\n"},
		{"blank lines around", "\n\napply_patch <<'EOF'\n" + inner + "EOF\n", "1\n"},
		{"no end", "apply_patch <<'EOF'\n" + inner, ""},
		{"another end", "apply_patch <<'EOF'\n" + inner + "END\n", ""},
		{"another command", "sh <<'EOF'\n" + inner + "EOF\n", ""},
		{"moved onto itself", envelope("*** Update File: a\n*** Move to: a\n@@\n-one\n+1\n"), "1\n"},
		{"moved onto itself, spelled otherwise", envelope("*** Update File: a\n*** Move to: ./d/../a\n@@\n-one\n+1\n"), "1\n"},
		{"moved onto itself, nothing else", envelope("*** Update File: a\n*** Move to: ./a\n"), "one\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, dir, _ := newFS(t, Options{})
			put(t, dir, map[string]string{"a": "one\n", "d/": ""})
			res, err := f.ApplyPatch(ctx, tc.patch)
			if tc.want == "" {
				wantCode(t, err, codePatchFailed)
				return
			}
			wantCode(t, err, "")
			if got := get(t, dir+"/a"); got != tc.want || res.Files[0].Op != "update" || res.Files[0].MovedTo != "" {
				t.Errorf("%q %+v", got, res.Files)
			}
		})
	}
}
