package snapshot

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// killEnv turns the test binary into a process that snapshots without end and
// is killed while it does.
const killEnv = "SNAPSHOT_TEST_KILL"

func killedChild() {
	base := os.Getenv(killEnv)
	s, err := NewLocalStore(filepath.Join(base, "store"))
	if err != nil {
		os.Exit(3)
	}
	r, err := New(s, Options{Root: filepath.Join(base, "ws")})
	if err != nil {
		os.Exit(4)
	}
	os.Stdout.WriteString("ready\n")
	for i := byte(0); ; i++ {
		if err := os.WriteFile(filepath.Join(base, "ws", "big"), random(4<<20, i), 0o644); err != nil {
			os.Exit(5)
		}
		if _, err := r.Create(bg, CreateRequest{}); err != nil {
			os.Exit(6)
		}
		if i%3 == 2 {
			if _, err := r.Prune(bg); err != nil {
				os.Exit(7)
			}
		}
		os.Stdout.WriteString("done\n")
	}
}

// A snapshot killed anywhere leaves all finished ones whole, and the store
// usable.
func TestKilled(t *testing.T) {
	w := newWorld(t, Options{})
	w.write("a", "kept")
	first := w.create("")
	want := describe(t, w.ws)
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	for i := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killEnv+"="+w.base)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		// Killed after so many bytes said: at different points of its work.
		buf := make([]byte, 1)
		for n := 0; n < 3+i*2; n++ {
			if _, err := out.Read(buf); err != nil {
				t.Fatalf("the child ended by itself: %v", cmd.Wait())
			}
		}
		must(t, cmd.Process.Kill())
		cmd.Wait()
	}
	list, err := w.repo.List(bg)
	must(t, err)
	if len(list) == 0 || list[0].ID != first.ID {
		t.Fatalf("the first snapshot is gone: %d left", len(list))
	}
	for _, s := range list {
		c, err := w.repo.Check(bg, s.ID)
		must(t, err)
		if c.DamagedCount > 0 {
			t.Errorf("snapshot %s is damaged: %v", s.ID, c.Damaged)
		}
	}
	_, err = w.repo.Prune(bg)
	must(t, err)
	w.restore(first.ID, "")
	equalTrees(t, "restored", want, describe(t, w.ws))
}
