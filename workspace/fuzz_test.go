package workspace

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"mcp-sandbox/sandbox"
)

// fuzzFS is a workspace with links of every kind, and a check that the outside
// is as it was.
func fuzzFS(f *testing.F) (fs *FS, dir, outside string) {
	fs, dir, outside = newFS(f, Options{Protect: []string{".git/hooks", "**/.envrc"}})
	put(f, dir, map[string]string{
		"a/b/c": "inside", "file": "one\ntwo\nthree\n", "in": "-> a/b", "abs": "-> " + dir + "/a", "out": "-> " + outside, "up": "-> ../outside",
		"a/up": "-> ../../outside", "loop": "-> loop", "dot": "-> .", "root": "-> /", ".git/hooks/h": "safe", "galias": "-> .git",
	})
	return fs, dir, outside
}

func checkOutside(t *testing.T, dir, outside string) {
	t.Helper()
	if b, err := os.ReadFile(filepath.Join(outside, "canary")); err != nil || string(b) != "canary" {
		t.Fatalf("the canary holds %q %v", b, err)
	}
	if e, _ := os.ReadDir(outside); len(e) != 1 {
		t.Fatalf("outside holds %v", e)
	}
	if e, _ := os.ReadDir(filepath.Dir(dir)); len(e) != 2 {
		t.Fatalf("beside the workspace is %v", e)
	}
	if b, err := os.ReadFile(filepath.Join(dir, ".git/hooks/h")); err != nil || string(b) != "safe" {
		t.Fatalf("a protected file holds %q %v", b, err)
	}
	if e, _ := os.ReadDir(filepath.Join(dir, ".git/hooks")); len(e) != 1 {
		t.Fatalf("protected directory holds %v", e)
	}
}

func FuzzPath(f *testing.F) {
	fs, dir, outside := fuzzFS(f)
	for _, s := range []string{"a/b/c", "../outside/canary", "out/canary", "abs/../..", "in/../../..", dir + "/../outside/canary", "galias/hooks/h", "dot/dot/up/x", "loop/x", "root/etc/passwd", "a//b/./c/", "\x00", "~", "out/../a", "/proc/self/root/etc/passwd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		r, err := fs.ReadFile(ctx, ReadRequest{Path: p})
		if err == nil && strings.Contains(r.Text, "canary") {
			t.Fatalf("%q read the canary", p)
		}
		if err != nil && sandbox.CodeOf(err) == "" || sandbox.CodeOf(err) == codeInternal {
			t.Fatalf("%q: %v", p, err)
		}
		if abs, err := fs.ResolveDir(p); err == nil && abs != dir && !strings.HasPrefix(abs, dir+"/") {
			t.Fatalf("%q resolved to %q", p, abs)
		}
		// A write may land anywhere inside; it is taken back at once.
		if w, err := fs.WriteFile(ctx, WriteRequest{Path: p, Content: []byte("w"), Mode: WriteCreate}); err == nil {
			if _, err := fs.Remove(ctx, w.Path, false); err != nil {
				t.Fatalf("%q was written to %q but cannot be removed: %v", p, w.Path, err)
			}
		}
		fs.Mkdir(ctx, p, false)
		fs.Move(ctx, "file", p)
		checkOutside(t, dir, outside)
		if !exists(dir + "/file") {
			put(t, dir, map[string]string{"file": "one\ntwo\nthree\n"})
		}
	})
}

func FuzzPatch(f *testing.F) {
	fs, dir, outside := fuzzFS(f)
	for _, s := range []string{
		envelope("*** Update File: file\n@@\n one\n-two\n+2\n"), envelope("*** Add File: out/x\n+x\n"), envelope("*** Update File: file\n*** Move to: up/y\n"),
		envelope("*** Delete File: galias/hooks/h\n"), envelope("*** Update File: file\n@@ one\n@@ two\n+x\n*** End of File\n"),
		"--- a/file\n+++ b/file\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n", "diff --git a/file b/up/x\nrename from file\nrename to up/x\n",
		"--- /dev/null\n+++ b/../outside/x\n@@ -0,0 +1 @@\n+x\n", "diff --git a/x b/x\nnew file mode 120000\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+/etc\n\\ No newline at end of file\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, patch string) {
		before := snapshotTree(t, dir)
		res, err := fs.ApplyPatch(ctx, patch)
		if err != nil {
			if c := sandbox.CodeOf(err); c == "" || c == codeInternal {
				t.Fatalf("%v", err)
			}
			after := snapshotTree(t, dir)
			for p, s := range before {
				if after[p] != s {
					t.Fatalf("a refused patch changed %q to %q", p, after[p])
				}
			}
			if len(after) != len(before) {
				t.Fatalf("a refused patch left something: %v", after)
			}
		} else if len(res.Files) == 0 {
			t.Fatal("a patch that does nothing was taken")
		}
		checkOutside(t, dir, outside)
		if err == nil {
			for _, d := range res.Files {
				for _, p := range []string{d.Path, d.MovedTo} {
					if p != "" && p != "file" {
						fs.Remove(ctx, p, false)
					}
				}
			}
			put(t, dir, map[string]string{"file": "one\ntwo\nthree\n"})
		}
	})
}

// FuzzHunks: a hunk made from a text applies to it and yields the new text.
func FuzzHunks(f *testing.F) {
	f.Add("a\nb\nc\n", "x", 1)
	f.Add("a\r\nb\r\n", "", 0)
	f.Add("a", "a\nb", 0)
	f.Fuzz(func(t *testing.T, text, insert string, at int) {
		lines := cutLines(text)
		if len(lines) == 0 || strings.ContainsAny(insert, "\r\n") || strings.Contains(text, "\r") {
			return
		}
		at = abs(at) % len(lines)
		h := hunk{hint: at}
		h.lines = []hunkLine{{'-', lines[at].text}, {'+', insert}}
		out, err := applyHunks(text, "f", []hunk{h})
		if err != nil || out.added != 1 || out.removed != 1 {
			t.Fatal(err)
		}
		got := cutLines(out.text)
		if len(got) != len(lines) && insert != "" {
			t.Fatalf("%d lines became %d", len(lines), len(got))
		}
	})
}

func FuzzArchive(f *testing.F) {
	fs, dir, outside := fuzzFS(f)
	for _, h := range [][]tar.Header{
		{reg("x", "x"), directory("d", 0o755), reg("d/y", "y"), link("l", "d/y"), hard("h", "x")},
		{link("l", "../outside"), reg("l/x", "x")}, {reg("../x", "x")}, {reg("galias/hooks/h", "x")}, {link("out", "x")}, {reg(".git/hooks/h", "x")},
	} {
		f.Add(tarOf(f, h...))
		f.Add(compressed(f, "gz", tarOf(f, h...)))
	}
	f.Add(compressed(f, "xz", []byte("hello")))
	f.Add(compressed(f, "zst", []byte("hello")))
	f.Add(zipOf(f, zipFile{"a/b", "x", 0o755, 0}, zipFile{"l", "../outside", 0o777 | os.ModeSymlink, 0}))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, dst := range []string{"", "new"} {
			before := snapshotTree(t, dir)
			if err := os.WriteFile(dir+"/arc", data, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := fs.Extract(ctx, ExtractRequest{Path: "arc", Destination: dst, Limits: ExtractLimits{MaxOutput: 1 << 20, MaxMembers: 100}})
			os.Remove(dir + "/arc")
			checkOutside(t, dir, outside)
			after := snapshotTree(t, dir)
			if err != nil {
				if c := sandbox.CodeOf(err); c == "" || c == codeInternal {
					t.Fatalf("%v", err)
				}
				if len(after) != len(before) {
					t.Fatalf("a refused archive left something: %v", after)
				}
			}
			for p := range after {
				if l, err := os.Readlink(filepath.Join(dir, p)); err == nil && before[p] == "" {
					if full := filepath.Join(dir, filepath.Dir(p), l); !strings.HasPrefix(full+"/", dir+"/") {
						t.Fatalf("new link %q leads to %q", p, l)
					}
				}
			}
			for p := range after {
				if _, was := before[p]; !was {
					os.RemoveAll(filepath.Join(dir, p))
				}
			}
			for p, s := range before {
				if after[p] != s && strings.HasPrefix(s, "-") {
					os.WriteFile(filepath.Join(dir, p), []byte(s[11:]), 0o644)
				}
			}
		}
	})
}

// FuzzXZ: the structure check never disagrees with itself or runs away.
func FuzzXZ(f *testing.F) {
	f.Add(compressed(f, "xz", []byte("hello")))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkXZ(ctx, bytes.NewReader(data), int64(len(data)), maxWindow)
	})
}

// FuzzEncoding: what is decoded is encoded back unchanged, or not claimed to be.
func FuzzEncoding(f *testing.F) {
	for _, s := range []string{"plain", "caf\xe9", "\xff\xfea\x00", "\xfe\xff\x00a", "a\x00b\x00", "\xef\xbb\xbfx"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := &document{}
		if d.parse(raw, "f") != nil {
			return
		}
		if back, err := d.bytes(d.text, "f"); err != nil || !bytes.Equal(back, raw) {
			t.Fatalf("%q came back as %q (%s, %v)", raw, back, d.enc, err)
		}
		if d.enc != UTF8 && !utf8.ValidString(d.text) {
			t.Fatalf("%s gave invalid UTF-8", d.enc)
		}
	})
}
