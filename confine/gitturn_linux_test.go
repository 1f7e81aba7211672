package confine

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// A long file tool keeps waiting only the calls that could complete a bare repository,
// and those can be killed; all others go on.
func TestSupervisedCallsGoOn(t *testing.T) {
	p := testPolicy(t)
	p.GitStage = filepath.Join(filepath.Dir(p.Workspace), "git")
	if err := os.Mkdir(p.GitStage, 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, p)
	for _, l := range s.Report().Layers {
		if l.Name == layerGit && l.State != sandbox.StateOn {
			t.Skip("git directories are not staged here")
		}
	}
	stage, err := s.GitStage()
	if err != nil {
		if stage, err = os.Open(p.GitStage); err != nil {
			t.Fatal(err)
		}
	}
	defer stage.Close()
	if err := unix.Flock(int(stage.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	c := spawn(t, s, sandbox.Command{Argv: []string{"/bin/sh", "-c", `
mkdir r k
mkdir r/refs & a=$!
mkdir r/objects & b=$!
mkdir k/refs & k=$!
for p in $a $b $k; do
	until [ "$(cat /proc/$p/comm)" = mkdir ] && grep -q '^State:.[SD]' /proc/$p/status; do :; done
done
{ kill $k; wait $k; } 2>/dev/null
for i in 1 2 3 4 5 6 7 8; do
	mkdir d && echo x > d/f && mv d/f d/g && rm -r d || echo failed
done
ls r k
echo held
wait
ls r k`}, Dir: p.Workspace})
	c.Stdout().SetReadDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(c.Stdout())
	held := ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("calls wait for a file tool: %q, %v", held, err)
		}
		if line == "held\n" {
			break
		}
		held += line
	}
	if err := unix.Flock(int(stage.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	after, err := io.ReadAll(r)
	if held != "k:\n\nr:\n" || string(after) != "k:\n\nr:\nobjects\nrefs\n" || err != nil {
		t.Errorf("while a file tool ran %q, then %q, %v", held, after, err)
	}
}
