package confine

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// What somebody outside replaces, moves or makes is kept from the next command, also
// after many for which nothing was looked at.
func TestReplacedBetweenCommands(t *testing.T) {
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		w := p.Workspace
		at := func(name string) string { return filepath.Join(w, name) }
		put := func(names ...string) {
			t.Helper()
			for _, name := range names {
				if err := os.MkdirAll(filepath.Dir(at(name)), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(at(name), []byte("s3cret\n"), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			ownedBy(t, p)
		}
		move := func(from, to string) {
			t.Helper()
			if err := os.Rename(at(from), at(to)); err != nil {
				t.Fatal(err)
			}
		}
		put(".envrc", "conf/in/f", "hidden/in/key", "target", "target2")
		if err := os.Symlink("target", at("link")); err != nil {
			t.Fatal(err)
		}
		p.Protect = []string{".envrc", "conf/in/f", "link", ".vscode", "miss/x"}
		p.DenyRead = []string{at("hidden/in/key"), at("later/key")}
		s := start(t, p)
		for what, c := range map[string]struct {
			outside func()
			refused string // and what is tried then
		}{
			"a protected file is replaced":           {func() { put("n"); move("n", ".envrc") }, "chmod 600 .envrc"},
			"a protected file is replaced, written":  {func() { put("n"); move("n", ".envrc") }, "echo x >> .envrc"},
			"a directory above it is replaced":       {func() { move("conf", "conf2"); put("conf/in/f") }, "chmod 600 conf/in/f"},
			"the directory with it is replaced":      {func() { move("conf/in", "conf/in2"); put("conf/in/f") }, "mv conf/in conf/gone"},
			"a protected link leads elsewhere":       {func() { os.Remove(at("link")); os.Symlink("target2", at("link")) }, "chmod 600 target2"},
			"a protected file is made":               {func() { put(".vscode") }, "chmod 600 .vscode"},
			"a protected file and its parent":        {func() { put("miss/x") }, "chmod 600 miss/x"},
			"a hidden file is replaced":              {func() { put("n"); move("n", "hidden/in/key") }, "cat hidden/in/key"},
			"the directory of a hidden file, too":    {func() { move("hidden/in", "hidden/in2"); put("hidden/in/key") }, "cat hidden/in/key"},
			"the directory above a hidden file, too": {func() { move("hidden", "hidden2"); put("hidden/in/key") }, "cat hidden/in/key"},
			"a hidden file is made":                  {func() { put("later/key") }, "cat later/key"},
		} {
			for range 2 {
				want(t, s, w, "echo there > new && rm new", "")
			}
			c.outside()
			if out, st := sh(t, s, w, "("+c.refused+") 2>/dev/null"); st.Code == 0 {
				t.Errorf("%s: %s did %q", what, c.refused, out)
			}
		}
	})
}

// A watch that vouches for all names is told of each change, and of nothing else.
func TestWatchSettles(t *testing.T) {
	dir := t.TempDir()
	if !tellsAll(dir) {
		t.Skip("a file system that does not tell of all changes")
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Skip(err)
	}
	defer unix.Close(fd)
	s := &initState{cfg: &initConfig{}}
	set := newProtectedSet()
	set.missing = []string{dir + "/a/b", dir + "/c"}
	s.protected.Store(set)
	// No directory is the session's own.
	w := &watch{s: s, fd: fd, own: ^uint64(0), dirs: map[int32]string{}, asked: true}
	s.watch = w
	settled := func(what string, expected bool) {
		t.Helper()
		w.take()
		if w.settled != expected {
			t.Errorf("%s: %v", what, w.settled)
		}
		if !s.masksStand() || !w.settled || len(w.rest.missing) > 0 {
			t.Fatalf("%s: nothing is there, %+v", what, w.rest)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	settled("before the first look", false)
	settled("nothing was done", true)
	do(os.WriteFile(dir+"/next", nil, 0o600))
	settled("a file next to them", true)
	do(os.Mkdir(dir+"/a", 0o700))
	settled("a directory on the way", false)
	do(os.WriteFile(dir+"/a/next", nil, 0o600))
	settled("a file next to them, in it", true)
	do(os.Rename(dir+"/a", dir+"/gone"))
	settled("the directory is moved away", false)
	mountChanges.Add(1)
	if w.mounts == mountChanges.Load() {
		t.Error("mounts are not counted")
	}
	settled("init's own mounts", true) // by the events alone
	s.protected.Store(&protectedSet{missing: set.missing})
	if s.masksStand(); w.set != s.protected.Load() {
		t.Error("another set was not looked at")
	}
	do(os.WriteFile(dir+"/c", nil, 0o600))
	if s.masksStand() {
		t.Error("a protected name was made")
	}
	do(os.Remove(dir + "/c"))
	settled("it went again", false)
	do(os.RemoveAll(filepath.Dir(dir)))
	w.take()
	if w.settled {
		t.Error("the directories were removed")
	}
}
