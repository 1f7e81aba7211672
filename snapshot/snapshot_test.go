package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var bg = context.Background()

// fill makes a workspace with one of everything that must come back.
func (w *world) fill() {
	t := w.t
	w.write("a.txt", "hello\n")
	w.write("empty", "")
	w.write("dir/b.txt", strings.Repeat("line\n", 1000))
	w.write("dir/sub/c.bin", string(random(3<<20, 1)))
	w.write("dir.x/d", "sorts between dir and dir/sub for a naive order")
	w.write("dir-/e", "so does this")
	w.write("run.sh", "#!/bin/sh\n")
	must(t, os.Chmod(w.path("run.sh"), 0o755))
	w.write("private", "p")
	must(t, os.Chmod(w.path("private"), 0o600))
	must(t, os.MkdirAll(w.path("empty.d/deeper"), 0o755))
	must(t, os.Chmod(w.path("empty.d"), 0o700))
	must(t, os.Symlink("a.txt", w.path("rel.link")))
	must(t, os.Symlink(filepath.Join(w.base, "outside", "secret"), w.path("abs.link")))
	must(t, os.Symlink("nowhere/at/all", w.path("dangling")))
	must(t, os.Symlink("../outside", w.path("up.link")))
	w.write("hard1", "linked")
	must(t, os.Mkdir(w.path("h"), 0o755))
	must(t, os.Link(w.path("hard1"), w.path("h/hard2")))
	must(t, os.Link(w.path("hard1"), w.path("a-hard0")))
	for _, name := range []string{"new\nline", "tab\t", "quote'\"", "back\\slash", "-rf", "--output=x", "\xff\xfe", "bidi\u202e", strings.Repeat("n", 255), " ", "~", "%2e%2e", "C:x"} {
		w.write("names/"+name, "n "+name)
	}
	f, err := os.Create(w.path("sparse"))
	must(t, err)
	must(t, f.Truncate(24<<20))
	_, err = f.WriteAt([]byte("in the middle"), 13<<20)
	must(t, err)
	must(t, f.Close())
	if err := unix.Setxattr(w.path("a.txt"), "user.note", []byte("x\x00y"), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
		t.Fatal(err)
	}
	must(t, os.Mkdir(w.path("ro"), 0o755))
	w.write("ro/file", "in a read-only directory")
	w.write("ro/deep/file", "and below")
	must(t, os.Chmod(w.path("ro/deep"), 0o555))
	must(t, os.Chmod(w.path("ro"), 0o555))
	old := time.Unix(1_000_000_000, 123456789)
	for _, p := range []string{"a.txt", "dir/sub", "dir", "empty.d"} {
		must(t, os.Chtimes(w.path(p), old, old))
	}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, w.path("rel.link"), []unix.Timespec{{Sec: 5}, {Sec: 1234567, Nsec: 89}}, unix.AT_SYMLINK_NOFOLLOW))
}

func TestRoundTrip(t *testing.T) {
	w := newWorld(t, Options{})
	w.fill()
	want := describe(t, w.ws)
	info := w.create("first")
	equalTrees(t, "after create", want, describe(t, w.ws))
	if info.SkippedCount != 0 || info.HardLinks != 2 || info.Links != 4 {
		t.Errorf("info: %+v", info)
	}
	if _, err := w.repo.Check(bg, info.ID); err != nil {
		t.Error(err)
	}
	wrecks := []struct {
		name string
		do   func()
	}{
		{"nothing", func() {}},
		{"rm -rf", func() { w.wipe() }},
		{"content", func() { w.write("a.txt", "HELLO\n"); w.write("dir/sub/c.bin", "short") }},
		{"same size and mtime", func() {
			fi, err := os.Stat(w.path("dir/b.txt"))
			must(t, err)
			b := bytes.Repeat([]byte("LINE\n"), 1000)
			must(t, os.WriteFile(w.path("dir/b.txt"), b, 0o644))
			must(t, os.Chtimes(w.path("dir/b.txt"), fi.ModTime(), fi.ModTime()))
		}},
		{"modes", func() {
			must(t, os.Chmod(w.path("run.sh"), 0o600))
			must(t, os.Chmod(w.path("dir"), 0o711))
			must(t, os.Chmod(w.ws, 0o700))
		}},
		{"times", func() { must(t, os.Chtimes(w.path("empty"), time.Now(), time.Unix(7, 7))) }},
		{"added", func() { w.write("new/deep/er/file", "x"); w.write("dir/new", "y"); w.write("zz", "z") }},
		{"file to directory", func() { must(t, os.Remove(w.path("a.txt"))); w.write("a.txt/inside/x", "x") }},
		{"directory to file", func() { must(t, os.RemoveAll(w.path("dir"))); w.write("dir", "file") }},
		{"directory to link", func() {
			must(t, os.RemoveAll(w.path("dir")))
			must(t, os.Symlink(filepath.Join(w.base, "outside"), w.path("dir")))
		}},
		{"file to link", func() {
			must(t, os.Remove(w.path("a.txt")))
			must(t, os.Symlink(filepath.Join(w.base, "outside", "secret"), w.path("a.txt")))
		}},
		{"link target", func() { must(t, os.Remove(w.path("rel.link"))); must(t, os.Symlink("b", w.path("rel.link"))) }},
		{"hard link broken", func() { must(t, os.Remove(w.path("h/hard2"))); w.write("h/hard2", "linked") }},
		{"hard link content", func() { w.write("hard1", "LINKED") }},
		{"hard link mode", func() { must(t, os.Chmod(w.path("hard1"), 0o700)) }},
		{"hard link added", func() { must(t, os.Link(w.path("empty"), w.path("empty2"))) }},
		{"hard link first removed", func() { must(t, os.Remove(w.path("a-hard0"))) }},
		{"sparse filled", func() {
			f, err := os.OpenFile(w.path("sparse"), os.O_RDWR, 0)
			must(t, err)
			_, err = f.WriteAt([]byte("elsewhere"), 5)
			must(t, err)
			must(t, f.Close())
		}},
		{"read-only directory", func() {
			must(t, os.Chmod(w.path("ro"), 0o755))
			must(t, os.Chmod(w.path("ro/deep"), 0o755))
			must(t, os.Remove(w.path("ro/deep/file")))
			w.write("ro/file", "changed")
			w.write("ro/more/x", "y")
			must(t, os.Chmod(w.path("ro/more"), 0o555))
			must(t, os.Chmod(w.path("ro"), 0o555))
			must(t, os.Chmod(w.path("ro/deep"), 0o555))
		}},
		{"renamed", func() { must(t, os.Rename(w.path("dir"), w.path("moved"))) }},
		{"xattr", func() {
			if err := unix.Setxattr(w.path("a.txt"), "user.note", []byte("other"), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
				t.Fatal(err)
			}
		}},
	}
	for _, c := range wrecks {
		t.Run(c.name, func(t *testing.T) {
			c.do()
			broken := describe(t, w.ws)
			res := w.restore(info.ID, "")
			equalTrees(t, "restored", want, describe(t, w.ws))
			again := w.restore(info.ID, "")
			if again.Added+again.Changed+again.Removed != 0 {
				t.Errorf("a second restore still changed something: %+v", again)
			}
			w.restore(res.Checkpoint, "")
			equalTrees(t, "undone", broken, describe(t, w.ws))
			w.restore(info.ID, "")
			equalTrees(t, "redone", want, describe(t, w.ws))
		})
	}
	st := stat{}
	if fd, err := unix.Open(w.path("sparse"), unix.O_RDONLY, 0); err == nil {
		var raw unix.Stat_t
		must(t, unix.Fstat(fd, &raw))
		st = statOf(&raw)
		unix.Close(fd)
		if raw.Blocks*512 > 1<<20 {
			t.Errorf("the sparse file takes %d bytes of its %d", raw.Blocks*512, st.size)
		}
	}
}

func (w *world) wipe() {
	w.t.Helper()
	unlock(w.ws)
	list, err := os.ReadDir(w.ws)
	must(w.t, err)
	for _, e := range list {
		must(w.t, os.RemoveAll(w.path(e.Name())))
	}
}

func TestUnchangedReadsNoFile(t *testing.T) {
	w := newWorld(t, Options{})
	w.fill()
	w.settle()
	first := w.create("one")
	readFiles := func() (int, *record) {
		done, err := w.repo.begin(bg)
		must(t, err)
		defer done()
		rec, s, err := w.repo.create(bg, CreateRequest{})
		must(t, err)
		return s.read, rec
	}
	n, rec := readFiles()
	if n != 0 || rec.Info.StoredBytes != 0 {
		t.Errorf("an unchanged tree: %d files read, %d bytes stored", n, rec.Info.StoredBytes)
	}
	auto, err := w.repo.Create(bg, CreateRequest{Auto: true})
	must(t, err)
	if !auto.Unchanged || auto.ID != rec.Info.ID {
		t.Errorf("an automatic snapshot of an unchanged tree was stored: %+v", auto)
	}
	// Every way of changing a file must be seen, with size and mtime kept.
	fi, err := os.Stat(w.path("a.txt"))
	must(t, err)
	must(t, os.WriteFile(w.path("a.txt"), []byte("jello\n"), 0o644))
	must(t, os.Chtimes(w.path("a.txt"), fi.ModTime(), fi.ModTime()))
	if n, _ := readFiles(); n != 1 {
		t.Errorf("one changed file: %d read", n)
	}
	changes, err := w.repo.Diff(bg, first.ID, "", "")
	must(t, err)
	if len(changes) != 1 || changes[0].Path != "a.txt" || changes[0].Kind != Modified {
		t.Errorf("changes: %+v", changes)
	}
}

func TestRacyFileIsReadAgain(t *testing.T) {
	w := newWorld(t, Options{})
	for i := range 50 {
		w.write("f", fmt.Sprintf("%03d", i))
		w.create("")
		// At once, so mostly in the same tick: same size, mtime and ctime.
		w.write("f", fmt.Sprintf("%03d", i+500))
		info := w.create("")
		w.write("f", "xxx")
		w.restore(info.ID, "")
		b, err := os.ReadFile(w.path("f"))
		must(t, err)
		if want := fmt.Sprintf("%03d", i+500); string(b) != want {
			t.Fatalf("restored %q, want %q", b, want)
		}
	}
}

func TestDiff(t *testing.T) {
	w := newWorld(t, Options{})
	w.write("keep", "k")
	w.write("gone/x", "x")
	w.write("mod.txt", "one\ntwo\nthree\n")
	w.write("bin", "a\x00b")
	w.write("mode", "m")
	w.write("type", "t")
	a := w.create("a")
	must(t, os.RemoveAll(w.path("gone")))
	w.write("mod.txt", "one\n2\nthree\n")
	w.write("bin", "a\x00c")
	w.write("new/y", "yy")
	must(t, os.Chmod(w.path("mode"), 0o755))
	must(t, os.Remove(w.path("type")))
	must(t, os.Mkdir(w.path("type"), 0o755))
	want := "modified bin 3 3,removed gone 0 0,removed gone/x 1 0,modified mod.txt 14 12,mode mode 1 1,added new 0 0,added new/y 0 2,type type 1 0"
	text := func(list []Change) string {
		var s []string
		for _, c := range list {
			s = append(s, fmt.Sprint(c.Kind, " ", c.Path, " ", c.SizeBefore, " ", c.SizeAfter))
		}
		return strings.Join(s, ",")
	}
	now, err := w.repo.Diff(bg, a.ID, "", "")
	must(t, err)
	if text(now) != want {
		t.Errorf("to now:\n got %s\nwant %s", text(now), want)
	}
	b := w.create("b")
	both, err := w.repo.Diff(bg, a.ID, b.ID, "")
	must(t, err)
	if text(both) != want {
		t.Errorf("to b:\n got %s\nwant %s", text(both), want)
	}
	back, err := w.repo.Diff(bg, "", a.ID, "new")
	must(t, err)
	if text(back) != "removed new 0 0,removed new/y 2 0" {
		t.Errorf("from now: %s", text(back))
	}
	u, err := w.repo.DiffText(bg, a.ID, "", "", 0)
	must(t, err)
	for _, s := range []string{"-two\n+2\n", "modified: bin (binary) 3 -> 3 bytes\n", "mode changed: mode 0644 -> 0755\n", "--- /dev/null\n+++ b/new/y\n", "type: type\n"} {
		if !strings.Contains(u, s) {
			t.Errorf("the text lacks %q:\n%s", s, u)
		}
	}
	cut, err := w.repo.DiffText(bg, a.ID, b.ID, "", 60)
	must(t, err)
	if !strings.Contains(cut, "... cut here") || len(cut) > 120 {
		t.Errorf("cut text: %q", cut)
	}
}

func TestErrors(t *testing.T) {
	w := newWorld(t, Options{})
	w.write("f", "x")
	id := w.create("").ID
	cases := []struct {
		name string
		do   func() error
		want string
	}{
		{"unknown id", func() error { _, err := w.repo.Restore(bg, RestoreRequest{ID: "000000000000"}); return err }, codeNotFound},
		{"id with a path", func() error { _, err := w.repo.Restore(bg, RestoreRequest{ID: "../store/lock"}); return err }, codeNotFound},
		{"delete unknown", func() error { return w.repo.Delete(bg, "nope") }, codeNotFound},
		{"diff unknown", func() error { _, err := w.repo.Diff(bg, "nope", "", ""); return err }, codeNotFound},
		{"diff now now", func() error { _, err := w.repo.Diff(bg, "", "", ""); return err }, codeInvalid},
		{"absolute path", func() error { _, err := w.repo.Restore(bg, RestoreRequest{ID: id, Path: "/etc"}); return err }, codeInvalid},
		{"path above", func() error { _, err := w.repo.Restore(bg, RestoreRequest{ID: id, Path: "a/../../b"}); return err }, codeInvalid},
		{"path nowhere", func() error { _, err := w.repo.Restore(bg, RestoreRequest{ID: id, Path: "none"}); return err }, codeInvalid},
		{"label", func() error {
			_, err := w.repo.Create(bg, CreateRequest{Label: strings.Repeat("x", 201)})
			return err
		}, codeInvalid},
		{"format", func() error { return w.repo.Persist(bg, id, &bytes.Buffer{}, "zip") }, codeInvalid},
		{"store inside", func() error {
			s, err := NewLocalStore(w.path("store"))
			must(t, err)
			_, err = New(s, Options{Root: w.ws})
			return err
		}, codeInvalid},
		{"no root", func() error { _, err := New(w.store, Options{Root: w.path("missing")}); return err }, codeFailed},
		{"bad glob", func() error { _, err := New(w.store, Options{Root: w.ws, Ignore: []string{"[a"}}); return err }, codeInvalid},
		{"skip all", func() error { _, err := New(w.store, Options{Root: w.ws, Skip: []string{"."}}); return err }, codeInvalid},
		{"cancelled", func() error {
			ctx, cancel := context.WithCancel(bg)
			cancel()
			_, err := w.repo.Create(ctx, CreateRequest{})
			return err
		}, codeCancelled},
	}
	for _, c := range cases {
		if got := code(t, c.do()); got != c.want {
			t.Errorf("%s: code %q, want %q", c.name, got, c.want)
		}
	}
}
