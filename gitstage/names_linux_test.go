package gitstage

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Names in the stage are kept while nothing changes, and a new one is seen at once,
// whatever time the directory is given.
func TestInStage(t *testing.T) {
	defer func(d time.Duration) { coarseClock = d }(coarseClock)
	dir := t.TempDir()
	stage, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Close()
	p, err := New(stage, stage, Options{UID: -1, GID: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer p.root.close()
	defer p.stage.close()
	look := func(kept bool, want ...string) {
		t.Helper()
		got, err := p.inStage()
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
		if (p.listed != nil) != kept {
			t.Errorf("%q kept: %v", got, !kept)
		}
	}
	mkdir := func(name string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	look(false)
	mkdir("b")
	look(false, "b") // it was made just now, and another could be within the same tick
	mkdir("a")
	look(false, "a", "b")
	coarseClock = -time.Minute // as if a minute had gone
	look(true, "a", "b")
	look(true, "a", "b")
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // the clock's next tick
	mkdir("c")
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Atim, st.Mtim}, 0); err != nil {
		t.Fatal(err)
	}
	look(true, "a", "b", "c")
	if ran := false; p.asOwner(func() error { ran = true; return nil }) != nil || !ran {
		t.Error("what is in the stage was left out")
	}
}
