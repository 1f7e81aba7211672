package workspace

import (
	"archive/tar"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mcp-sandbox/deny"
	"mcp-sandbox/sandbox"
)

const hiddenText = "TOPSECRET"

// hiddenTree is a workspace and a grant with hidden files in all the ways a
// pattern can name one.
func hiddenTree(t *testing.T) (*FS, string, string) {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ws, grant := filepath.Join(top, "ws"), filepath.Join(top, "grant")
	for name, text := range map[string]string{
		ws + "/.env": hiddenText, ws + "/sub/.env": hiddenText, ws + "/sub/exact": hiddenText, ws + "/dir/inner/x": hiddenText,
		ws + "/open": "open", ws + "/keys/a.pem": hiddenText, ws + "/byinode": hiddenText, grant + "/.env": hiddenText, grant + "/exact": hiddenText, grant + "/plain": "open",
	} {
		os.MkdirAll(filepath.Dir(name), 0o755)
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Link(ws+"/.env", ws+"/hardlink")
	os.Link(ws+"/byinode", ws+"/hardlink2")
	os.Symlink(".env", ws+"/symlink")
	os.Symlink("dir", ws+"/dirlink")
	list, err := deny.Parse([]string{"**/.env", "*.pem", "sub/exact", "dir", "byinode", grant + "/exact", "later/key"}, ws, []string{grant})
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(ws, Options{Grants: []Grant{{Path: grant}}, Deny: list})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, ws, grant
}

// TestHiddenAtEveryCall walks every call that takes a path over every kind of
// hidden path: none tells a byte or changes one.
func TestHiddenAtEveryCall(t *testing.T) {
	f, ws, grant := hiddenTree(t)
	ctx := context.Background()
	paths := []string{".env", "./sub/../.env", "sub/.env", "sub/exact", "dir/inner/x", "keys/a.pem", "byinode", "hardlink", "hardlink2", "symlink", "dirlink/inner/x",
		".ENV", ws + "/.env", grant + "/.env", grant + "/exact"}
	os.WriteFile(ws+"/a.tar", tarOf(t, tar.Header{Name: "f", Mode: 0o644, Typeflag: tar.TypeReg}), 0o644)
	calls := map[string]func(p string) (string, error){
		"read": func(p string) (string, error) { r, err := f.ReadFile(ctx, ReadRequest{Path: p}); return r.Text, err },
		"open": func(p string) (string, error) { r, err := f.OpenFile(p); r.Close(); return "", err },
		"write": func(p string) (string, error) {
			_, err := f.WriteFile(ctx, WriteRequest{Path: p, Content: []byte("x")})
			return "", err
		},
		"append": func(p string) (string, error) {
			_, err := f.WriteFile(ctx, WriteRequest{Path: p, Content: []byte("x"), Mode: WriteAppend})
			return "", err
		},
		"create": func(p string) (string, error) {
			_, err := f.WriteFile(ctx, WriteRequest{Path: p, Content: []byte("x"), Mode: WriteCreate})
			return "", err
		},
		"edit": func(p string) (string, error) {
			_, err := f.EditFile(ctx, EditRequest{Path: p, OldText: hiddenText, NewText: "x"})
			return "", err
		},
		"patch": func(p string) (string, error) {
			_, err := f.ApplyPatch(ctx, "*** Begin Patch\n*** Update File: "+p+"\n@@\n-"+hiddenText+"\n+x\n*** End Patch\n")
			return "", err
		},
		"patch rm": func(p string) (string, error) {
			_, err := f.ApplyPatch(ctx, "*** Begin Patch\n*** Delete File: "+p+"\n*** End Patch\n")
			return "", err
		},
		"mv":      func(p string) (string, error) { _, err := f.Move(ctx, p, "moved"); return "", err },
		"mv onto": func(p string) (string, error) { _, err := f.Move(ctx, "open", p); return "", err },
		"rm":      func(p string) (string, error) { _, err := f.Remove(ctx, p, true); return "", err },
		"mkdir":   func(p string) (string, error) { _, err := f.Mkdir(ctx, p+"/d", true); return "", err },
		"ls": func(p string) (string, error) {
			r, err := f.List(ctx, ListRequest{Path: p, All: true})
			return "", firstErr(err, len(r.Entries))
		},
		"search": func(p string) (string, error) {
			r, err := f.Search(ctx, SearchRequest{Path: p, Pattern: "."})
			return "", firstErr(err, r.Matches)
		},
		"resolve": func(p string) (string, error) { return f.Resolve(p) },
		"archive": func(p string) (string, error) {
			_, err := f.Extract(ctx, ExtractRequest{Path: p, Destination: "out"})
			return "", err
		},
		"unpack": func(p string) (string, error) {
			_, err := f.Extract(ctx, ExtractRequest{Path: "a.tar", Destination: p})
			return "", err
		},
	}
	before := treeOf(t, ws, grant)
	for name, call := range calls {
		for _, p := range paths {
			if got, err := call(p); err == nil || strings.Contains(got, hiddenText) {
				// A link itself may be moved and removed: it holds nothing.
				if (name == "mv" || name == "rm" || name == "patch rm") && p == "symlink" {
					os.Remove(ws + "/moved")
					os.Symlink(".env", ws+"/symlink")
					continue
				}
				t.Errorf("%s %s: %q, no error", name, p, got)
			} else if c := sandbox.CodeOf(err); c != codePermission && c != codeExists && c != codeNotFound && c != codeNotDirectory {
				t.Errorf("%s %s: %v", name, p, err)
			} else if strings.Contains(err.Error(), hiddenText) {
				t.Errorf("%s %s tells the text: %v", name, p, err)
			}
		}
	}
	if after := treeOf(t, ws, grant); after != before {
		t.Errorf("the tree changed:\n%s\n%s", before, after)
	}
	for _, dir := range []string{"sub", "dir", "keys", "."} {
		if _, err := f.Move(ctx, dir, "elsewhere"); err == nil {
			t.Errorf("%s was moved with a hidden path in it", dir)
		}
		if _, err := f.Remove(ctx, dir, true); err == nil {
			t.Errorf("%s was removed with a hidden path in it", dir)
		}
	}
	for _, dir := range []string{".", grant} {
		r, err := f.Search(ctx, SearchRequest{Path: dir, Pattern: hiddenText, All: true})
		if err != nil || r.Matches != 0 || r.Denied == 0 {
			t.Errorf("search %s: %+v, %v", dir, r, err)
		}
	}
	found, err := f.Find(ctx, FindRequest{Pattern: "**", All: true})
	if err != nil || found.Denied == 0 {
		t.Error(found, err)
	}
	for _, e := range found.Entries {
		if !strings.HasPrefix(e.Name, "open") && !strings.HasPrefix(e.Name, "symlink") && !strings.HasPrefix(e.Name, "dirlink") && e.Name != "a.tar" {
			t.Errorf("find shows %s", e.Path)
		}
	}
	l, err := f.List(ctx, ListRequest{Path: ".", Depth: 5, All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range l.Entries {
		if hid := strings.Contains("|.env|hardlink|hardlink2|byinode|exact|a.pem|", "|"+e.Name+"|") || e.Path == "dir"; hid != e.Denied || hid && (e.Size != 0 || !e.ModTime.IsZero()) {
			t.Errorf("ls: %+v", e)
		}
	}
}

func TestHiddenThatAppearsLater(t *testing.T) {
	f, ws, _ := hiddenTree(t)
	ctx := context.Background()
	os.MkdirAll(ws+"/later", 0o755)
	os.WriteFile(ws+"/later/key", []byte(hiddenText), 0o644)
	os.WriteFile(ws+"/new.pem", []byte(hiddenText), 0o644)
	os.Link(ws+"/new.pem", ws+"/newlink")
	os.Link(ws+"/later/key", ws+"/laterlink")
	os.Rename(ws+"/dir", ws+"/renamed")
	for _, p := range []string{"later/key", "new.pem", "newlink", "laterlink", "renamed/inner/x"} {
		if r, err := f.ReadFile(ctx, ReadRequest{Path: p}); err == nil {
			t.Errorf("%s: %q", p, r.Text)
		}
	}
	if r, err := f.Search(ctx, SearchRequest{Path: ".", Pattern: hiddenText, All: true}); err != nil || r.Matches != 0 {
		t.Error(r, err)
	}
	if _, err := f.WriteFile(ctx, WriteRequest{Path: "fresh/.env", Content: []byte("x")}); err == nil {
		t.Error("a hidden name was made")
	}
	os.WriteFile(ws+"/b.tar", tarOf(t, tar.Header{Name: "deep/x.pem", Mode: 0o644, Typeflag: tar.TypeReg}), 0o644)
	if _, err := f.Extract(ctx, ExtractRequest{Path: "b.tar", Destination: "unpacked"}); sandbox.CodeOf(err) != codePermission {
		t.Error(err)
	}
}

// TestProtectedInGrantsAndBehindLinks: the names hold in every grant that can be
// written, and for what they lead to.
func TestProtectedInGrantsAndBehindLinks(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ws, grant, repo := filepath.Join(top, "ws"), filepath.Join(top, "grant"), filepath.Join(top, "main/.git")
	for _, p := range []string{ws + "/dotbashrc", ws + "/real.git/config", ws + "/githooks/pre-commit", ws + "/linked/file", grant + "/.git/config", grant + "/rc", repo + "/config"} {
		os.MkdirAll(filepath.Dir(p), 0o755)
		os.WriteFile(p, []byte("old"), 0o644)
	}
	os.MkdirAll(ws+"/wt", 0o755)
	for link, target := range map[string]string{ws + "/.bashrc": "dotbashrc", ws + "/.git": "real.git", ws + "/real.git/hooks": "../githooks", ws + "/.vscode": "linked", grant + "/.profile": "rc"} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	list := []string{".git/hooks", ".git/config", ".bashrc", ".profile", ".vscode", ".envrc"}
	f, err := Open(ws, Options{Grants: []Grant{{Path: grant}, {Path: repo}}, Protect: list, ProtectGrants: list})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx := context.Background()
	before := treeOf(t, ws, grant, repo)
	for _, p := range []string{
		"dotbashrc", ".bashrc", "real.git/config", ".git/config", "githooks/pre-commit", "githooks/new", ".git/hooks/x", ".git", "linked/file", ".vscode/settings.json", ".vscode",
		grant + "/.git/config", grant + "/.git/hooks/x", grant + "/.envrc", grant + "/rc", grant + "/.profile", repo + "/config", repo + "/hooks/pre-push",
	} {
		for name, call := range map[string]func() error{
			"write": func() error { _, err := f.WriteFile(ctx, WriteRequest{Path: p, Content: []byte("x")}); return err },
			"append": func() error {
				_, err := f.WriteFile(ctx, WriteRequest{Path: p, Content: []byte("x"), Mode: WriteAppend})
				return err
			},
			"rm": func() error { _, err := f.Remove(ctx, p, true); return err },
			"mv": func() error { _, err := f.Move(ctx, p, "gone"); return err },
			"patch": func() error {
				_, err := f.ApplyPatch(ctx, "*** Begin Patch\n*** Delete File: "+p+"\n*** End Patch\n")
				return err
			},
		} {
			if err := call(); err == nil {
				t.Errorf("%s %s is allowed", name, p)
			}
		}
	}
	for _, dir := range []string{"real.git", "githooks", grant + "/.git", "linked"} {
		if _, err := f.Move(ctx, dir, "elsewhere"); err == nil {
			t.Errorf("%s was moved", dir)
		}
		if _, err := f.Remove(ctx, dir, true); err == nil {
			t.Errorf("%s was removed", dir)
		}
	}
	if after := treeOf(t, ws, grant, repo); after != before {
		t.Errorf("changed:\n%s\n%s", before, after)
	}
	// What is not protected can be changed all the same.
	for _, p := range []string{"free", grant + "/free", repo + "/HEAD", "real.git/HEAD"} {
		if _, err := f.WriteFile(ctx, WriteRequest{Path: p, Content: []byte("x")}); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// TestGitFileStays: the .git file of a linked worktree leads git to its hooks.
func TestGitFileStays(t *testing.T) {
	ws := t.TempDir()
	os.WriteFile(ws+"/.git", []byte("gitdir: /elsewhere\n"), 0o644)
	f, err := Open(ws, Options{Protect: []string{".git/hooks"}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx := context.Background()
	for name, err := range map[string]error{
		"write":  errOf(f.WriteFile(ctx, WriteRequest{Path: ".git", Content: []byte("gitdir: evil\n")})),
		"append": errOf(f.WriteFile(ctx, WriteRequest{Path: ".git", Content: []byte("x"), Mode: WriteAppend})),
		"edit":   errOf(f.EditFile(ctx, EditRequest{Path: ".git", OldText: "elsewhere", NewText: "evil"})),
		"rm":     errOf(f.Remove(ctx, ".git", false)),
		"mv":     errOf(f.Move(ctx, ".git", "x")),
		"patch":  errOf(f.ApplyPatch(ctx, "*** Begin Patch\n*** Update File: .git\n@@\n-gitdir: /elsewhere\n+gitdir: evil\n*** End Patch\n")),
	} {
		if sandbox.CodeOf(err) != codeProtected {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func errOf[T any](_ T, err error) error { return err }

func firstErr(err error, n int) error {
	if err == nil && n == 0 {
		return fail(codePermission, "nothing shown")
	}
	return err
}

// treeOf is every name and content below the directories.
func treeOf(t *testing.T, dirs ...string) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range dirs {
		filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				text, _ := os.ReadFile(p)
				b.WriteString(p + "=" + string(text) + "\n")
			} else if err == nil {
				b.WriteString(p + "\n")
			}
			return nil
		})
	}
	return b.String()
}
