package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// TestErrno: every system error has a code and words of its own, names the path
// as it was given, and keeps its cause for the log.
func TestErrno(t *testing.T) {
	seen := map[string]error{}
	for _, tc := range []struct {
		err  error
		code string
	}{
		{context.Canceled, codeCancelled}, {unix.ENOENT, codeNotFound}, {unix.EROFS, codePermission}, {unix.ETXTBSY, codePermission},
		{unix.EBUSY, codePermission}, {unix.EACCES, codePermission}, {unix.EISDIR, codeIsDirectory}, {unix.ENOTDIR, codeNotDirectory},
		{unix.ENOTEMPTY, codeIsDirectory}, {unix.EEXIST, codeExists}, {unix.ENOSPC, codeDiskFull}, {unix.EFBIG, codeTooLarge},
		{unix.ENAMETOOLONG, codeInvalid}, {unix.ELOOP, codeInvalid}, {unix.EMFILE, codeLimit}, {unix.ENFILE, codeLimit}, {unix.ENXIO, codeUnsupported},
		{unix.EILSEQ, codeInvalid}, {unix.EIO, codeInternal},
	} {
		cause := &os.PathError{Op: "open", Path: "/host/secret", Err: tc.err}
		err := fromErrno(cause, "a/b")
		wantCode(t, err, tc.code)
		if !errors.Is(err, tc.err) {
			t.Errorf("%v lost its cause", tc.err)
		}
		if other := seen[err.Error()]; other != nil {
			t.Errorf("%v and %v read the same: %v", tc.err, other, err)
		}
		seen[err.Error()] = tc.err
		if strings.Contains(err.Error(), "secret") || tc.code != codeCancelled && tc.code != codeLimit && !strings.Contains(err.Error(), "a/b") {
			t.Errorf("%v: %q", tc.err, err)
		}
		if again := fromErrno(fmt.Errorf("wrapped: %w", err), "other"); again.Error() != err.Error() {
			t.Errorf("words were changed on the way: %v", again)
		}
	}
	if fromErrno(nil, "x") != nil {
		t.Error("an error was made of none")
	}
}

// TestBounds: numbers and sizes past what is taken are refused, and what is told
// about large things is cut.
func TestBounds(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"f": "text\n", "g": strings.Repeat("same line\n", 20), "big": strings.Repeat("0123456789abcdef\n", 8000)})
	for name, call := range map[string]func() error{
		"find":    func() error { _, err := f.Find(ctx, FindRequest{Pattern: "*", Max: -1}); return err },
		"context": func() error { _, err := f.Search(ctx, SearchRequest{Pattern: "x", Context: -1}); return err },
		"results": func() error { _, err := f.Search(ctx, SearchRequest{Pattern: "x", MaxResults: -1}); return err },
		"long pattern": func() error {
			_, err := f.Search(ctx, SearchRequest{Pattern: strings.Repeat("x", maxPattern+1)})
			return err
		},
		"bytes":         func() error { _, err := f.ReadFile(ctx, ReadRequest{Path: "f", MaxBytes: -1}); return err },
		"nul in a name": func() error { _, err := f.ReadFile(ctx, ReadRequest{Path: "a\x00b"}); return err },
	} {
		if err := call(); sandbox.CodeOf(err) != codeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := f.ApplyPatch(ctx, strings.Repeat(" ", maxPatchBytes+1))
	wantCode(t, err, codeTooLarge)
	var many strings.Builder
	for i := range maxPatchFiles + 1 {
		fmt.Fprintf(&many, "*** Add File: n%d\n+x\n", i)
	}
	_, err = f.ApplyPatch(ctx, envelope(many.String()))
	wantCode(t, err, codeTooLarge)
	if exists(dir + "/n0") {
		t.Error("a patch of too many files left one")
	}
	// The places of what is not unique are told up to a bound.
	_, err = f.EditFile(ctx, EditRequest{Path: "g", OldText: "same", NewText: "x"})
	wantCode(t, err, codeNotUnique)
	if !strings.Contains(err.Error(), "9, 10, ...)") {
		t.Errorf("%v", err)
	}
	// So is the diff of a large change.
	res, err := f.EditFile(ctx, EditRequest{Path: "big", OldText: "0123456789", NewText: "x", ReplaceAll: true})
	wantCode(t, err, "")
	if len(res.Diff) > maxDiff+100 || !strings.HasSuffix(res.Diff, "more bytes of diff left out]\n") {
		t.Errorf("a diff of %d bytes that ends %q", len(res.Diff), res.Diff[len(res.Diff)-60:])
	}
	// An edit may not make a file that the next edit would refuse.
	put(t, dir, map[string]string{"grow": strings.Repeat("a", 1<<20)})
	_, err = f.EditFile(ctx, EditRequest{Path: "grow", OldText: "a", NewText: strings.Repeat("b", maxEditBytes>>20+1), ReplaceAll: true})
	wantCode(t, err, codeTooLarge)
	if get(t, dir+"/grow")[0] != 'a' {
		t.Error("an edit that was refused changed the file")
	}
}

// TestPatchWords: what a patch may not hold is refused with the line and leaves
// everything as it was.
func TestPatchWords(t *testing.T) {
	for _, tc := range []struct{ name, patch, says string }{
		{"text after the first mark", "*** Begin Patch *** Add File: x\n+x\n*** End Patch\n", "alone on the line"},
		{"a line of an added file", envelope("*** Add File: x\n+x\ny\n"), `start each of its lines with "+"`},
		{"a move to nothing", envelope("*** Update File: a\n*** Move to: \n@@\n-one\n+1\n"), "has no path; give one"},
		{"not a file header", envelope("*** Rename File: a\n"), "*** Add File: "},
		{"text between hunks", envelope("*** Update File: a\n@@\n-one\n+1\nnonsense\n"), "nonsense"},
		{"a copy", "diff --git a/a b/c\nsimilarity index 100%\ncopy from a\ncopy to c\n", "copies"},
		{"the workspace itself", envelope("*** Add File: .\n+x\n"), "is a directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, dir, _ := newFS(t, Options{})
			put(t, dir, map[string]string{"a": "one\ntwo\n"})
			_, err := f.ApplyPatch(ctx, tc.patch)
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v", err)
			}
			if tree := snapshotTree(t, dir); len(tree) != 2 || get(t, dir+"/a") != "one\ntwo\n" {
				t.Errorf("%v", tree)
			}
		})
	}
	// What models get wrong without harm is taken.
	for _, tc := range []struct{ name, patch, want string }{
		{"blank lines between files", envelope("\n*** Update File: a\n@@\n-one\n+1\n\n\n*** Add File: n\n+x\n\n"), "1\ntwo\n"},
		{"a unified header", envelope("*** Update File: a\n@@ -1,2 +1,2 @@\n-one\n+1\n two\n"), "1\ntwo\n"},
		{"a header whose numbers are wrong", envelope("*** Update File: a\n@@ -40,2 +40,2 @@\n-one\n+1\n two\n"), "1\ntwo\n"},
		{"trimmed context", "--- a/a\n+++ b/a\n@@ -1,3 +1,3 @@\n-one\n+1\n two\n", "1\ntwo\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, dir, _ := newFS(t, Options{})
			put(t, dir, map[string]string{"a": "one\ntwo\n"})
			_, err := f.ApplyPatch(ctx, tc.patch)
			wantCode(t, err, "")
			if got := get(t, dir+"/a"); got != tc.want {
				t.Errorf("%q", got)
			}
		})
	}
}
