package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stagedScript changes files in every way that an apply knows, with fixed times.
const stagedScript = `set -e
w() { printf '%s' "$2" > "$1"; touch -d @1700000000 "$1"; }
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do w mod$i "new $i"; w added$i "added $i"; rm gone$i; done
rm -rf tree1 tree2
mkdir tree2 made empty; w tree2/again "again"; w made/x "x"; mkdir -m 700 made/deep; w made/deep/y "y"
rm kind1; mkdir kind1; w kind1/in "in"
rm -rf kind2; w kind2 "a file now"
ln -sfn added1 link; ln added2 hard; chmod 600 mode1; chmod 755 mode2
mv moved elsewhere
touch -d @1700000000 kind1 tree2 made made/deep empty elsewhere .`

func stagedBefore(p *stagedProject) {
	for i := 1; i <= 12; i++ {
		put(p.t, fmt.Sprintf("%s/mod%d", p.dir, i), fmt.Sprintf("old %d", i))
		put(p.t, fmt.Sprintf("%s/gone%d", p.dir, i), "gone")
	}
	for _, f := range []string{"tree1/a/b", "tree1/c", "tree2/d", "tree2/e/f", "kind1", "kind2/g", "mode1", "mode2", "moved/h/i"} {
		if err := os.MkdirAll(filepath.Dir(p.dir+"/"+f), 0o755); err != nil {
			p.t.Fatal(err)
		}
		put(p.t, p.dir+"/"+f, f)
	}
	old := time.Unix(1_600_000_000, 0)
	for rel := range allOf(p.t, p.dir) {
		if err := os.Chtimes(p.dir+"/"+rel, old, old); err != nil {
			p.t.Fatal(err)
		}
	}
	p.settled()
}

// TestKilledApply: an apply that is killed leaves each path as it was or as it shall
// be, and the next review ends it. Nothing counts as a change of the user.
func TestKilledApply(t *testing.T) {
	rnd := killRand(t)
	kills := *killPoints / 2
	if *killPoints > 12 {
		kills = *killPoints
	}
	var want map[string]string
	var took time.Duration
	var whole int64
	at := map[string]int{}
	for i := range kills + 1 {
		p := newStagedProject(t)
		stagedBefore(p)
		before := allOf(t, p.dir)
		p.session(stagedScript)
		sameTree(t, "before the apply", allOf(t, p.dir), before)
		apply := func() *exec.Cmd {
			return exec.Command(binary, "review", "--root", p.dir, "--state-dir", p.state, "--apply", ".", "--protected", "--executable")
		}
		if i == 0 {
			var out strings.Builder
			cmd := apply()
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			journal, began := int64(0), time.Now()
			done := make(chan error, 1)
			go func() { done <- cmd.Wait() }()
			for ended := false; !ended; {
				select {
				case err := <-done:
					if ended = true; err != nil {
						t.Fatalf("%v %s", err, &out)
					}
				default:
					journal = max(journal, p.journalSize())
				}
			}
			took, whole = time.Since(began), journal
			want = allOf(t, p.dir)
			for path, text := range map[string]string{"mod3": "new 3", "made/deep/y": "y", "kind1/in": "in", "kind2": "a file now", "hard": "added 2", "elsewhere/h/i": "moved/h/i"} {
				if !strings.HasSuffix(want[path], text) {
					t.Errorf("%s is %q", path, want[path])
				}
			}
			if want["tree1"] != "" || want["gone4"] != "" || want["tree2/d"] != "" || want["moved"] != "" {
				t.Error("what was removed is there")
			}
			continue
		}
		cmd := apply()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if rnd.IntN(4) > 0 { // at some step of some path, or when the last is done
			for until, began := rnd.Int64N(whole+whole/8), time.Now(); p.journalSize() < until && time.Since(began) < 2*took; {
				time.Sleep(20 * time.Microsecond)
			}
			time.Sleep(time.Duration(rnd.IntN(1000)) * time.Microsecond)
		} else {
			time.Sleep(time.Duration(rnd.Int64N(int64(took))))
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		at[p.lastStep()]++
		for path, now := range allOf(t, p.dir) {
			if strings.Contains(path, ".mcp-sandbox-copy-") || path == "." {
				continue
			}
			// The mode of a directory is set when it is made, its times at the end.
			if now != before[path] && now != want[path] {
				t.Errorf("after the kill %s is %q, was %q and shall be %q", path, now, before[path], want[path])
			}
		}
		if left, _ := filepath.Glob(p.state + "/stages/[0-9a-f]*"); len(left) == 0 {
			sameTree(t, "killed when it was done", allOf(t, p.dir), want)
			continue
		}
		r := p.review("--apply", ".", "--protected", "--executable")
		if len(r.Applied.Left) > 0 || len(r.Changes) > 0 {
			t.Errorf("the next review left %+v %+v", r.Applied.Left, r.Changes)
		}
		sameTree(t, "the next review", allOf(t, p.dir), want)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d killed, by the step announced last: %v", kills, at)
}

// journalSize is how much an apply has announced, -1 before it begins.
func (p *stagedProject) journalSize() int64 {
	all, _ := filepath.Glob(p.state + "/stages/*/journal")
	if len(all) == 0 {
		return -1
	}
	fi, err := os.Stat(all[0])
	if err != nil {
		return -1
	}
	return fi.Size()
}

// lastStep is what an apply that was killed had announced.
func (p *stagedProject) lastStep() string {
	stages, _ := filepath.Glob(p.state + "/stages/[0-9a-f]*")
	if len(stages) == 0 {
		return "gone with its stage"
	}
	b, err := os.ReadFile(stages[0] + "/journal")
	if err != nil {
		return "not begun"
	}
	if len(b) == 0 {
		return "first or last"
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	var e struct{ Step string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &e); err != nil {
		return "half a line"
	}
	return e.Step
}
