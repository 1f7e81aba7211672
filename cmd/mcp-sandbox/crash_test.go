package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// killRand gives random moments, and logs how to have the same again.
func killRand(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// writer is one client of a server that is killed, and what was acknowledged to
// it; what was in flight may have happened or not.
type writer struct {
	id       int
	appended []string
	maybe    string // appended, not acknowledged
	edits    int
	mayEdit  bool
	files    []string // added by patches
	mayFile  string
	whole    byte // what its own file was overwritten with
	mayWhole byte
}

const wholeSize = 64 << 10

// work writes until the server is gone.
func (w *writer) work(c *client, round int) {
	acked := func(tool string, args map[string]any) bool {
		_, ch := c.sendCall(tool, args)
		select {
		case m := <-ch:
			r := c.result(m)
			if r.IsError {
				c.t.Errorf("%s: %s", tool, r.text())
			}
			return !r.IsError
		case <-c.closed:
			return false
		}
	}
	for i := 0; ; i++ {
		w.maybe = fmt.Sprintf("append %d-%d-%d.\n", round, w.id, i)
		if !acked("write_file", map[string]any{"path": "shared", "content": w.maybe, "mode": "append"}) {
			return
		}
		w.appended, w.maybe = append(w.appended, w.maybe), ""

		w.mayEdit = true
		old, next := w.line(w.edits), w.line(w.edits+1)
		tool, args := "edit_file", map[string]any{"path": "shared", "old_text": old, "new_text": next}
		if i%2 == 1 {
			tool, args = "apply_patch", map[string]any{"patch": "*** Begin Patch\n*** Update File: shared\n@@\n-" + old + "+" + next + "*** End Patch\n"}
		}
		if !acked(tool, args) {
			return
		}
		w.edits, w.mayEdit = w.edits+1, false

		w.mayFile = fmt.Sprintf("d%d/p-%d-%d", w.id, round, i)
		if !acked("apply_patch", map[string]any{"patch": "*** Begin Patch\n*** Add File: " + w.mayFile + "\n+" + w.mayFile + "\n*** End Patch\n"}) {
			return
		}
		w.files, w.mayFile = append(w.files, w.mayFile), ""

		w.mayWhole = '0' + byte(i%10)
		if !acked("write_file", map[string]any{"path": fmt.Sprintf("whole%d", w.id), "content": strings.Repeat(string(w.mayWhole), wholeSize)}) {
			return
		}
		w.whole, w.mayWhole = w.mayWhole, 0
	}
}

func (w *writer) line(n int) string { return fmt.Sprintf("worker %d at %d.\n", w.id, n) }

// found compares the workspace with what was acknowledged, and takes what was in
// flight for what it turned out to be.
func (w *writer) found(t *testing.T, root string, shared map[string]int) {
	t.Helper()
	if w.maybe != "" && shared[w.maybe] == 1 {
		w.appended = append(w.appended, w.maybe)
	}
	for _, line := range w.appended {
		if shared[line] != 1 {
			t.Errorf("%q is there %d times", line, shared[line])
		}
		delete(shared, line)
	}
	if w.mayEdit && shared[w.line(w.edits+1)] == 1 {
		w.edits++
	}
	if n := shared[w.line(w.edits)]; n != 1 {
		t.Errorf("%q is there %d times", w.line(w.edits), n)
	}
	delete(shared, w.line(w.edits))
	if _, err := os.Stat(filepath.Join(root, w.mayFile)); w.mayFile != "" && err == nil {
		w.files = append(w.files, w.mayFile)
	}
	for _, f := range w.files {
		expect(t, filepath.Join(root, f), f+"\n")
	}
	if w.whole != 0 || w.mayWhole != 0 {
		b, err := os.ReadFile(filepath.Join(root, fmt.Sprintf("whole%d", w.id)))
		switch {
		case os.IsNotExist(err) && w.whole == 0:
		case err != nil || len(b) != wholeSize || strings.Trim(string(b), string(b[:1])) != "" || b[0] != w.whole && b[0] != w.mayWhole:
			t.Errorf("whole%d has %d bytes, %.10q, not %q or %q: %v", w.id, len(b), b, w.whole, w.mayWhole, err)
		default:
			w.whole = b[0]
		}
	}
	w.maybe, w.mayEdit, w.mayFile, w.mayWhole = "", false, "", 0
}

// TestKilledWriting kills a server with SIGKILL while four clients append, edit,
// patch and overwrite: nothing acknowledged is lost, no file is half, and the
// next server goes on.
func TestKilledWriting(t *testing.T) {
	root, state, temp := t.TempDir(), filepath.Join(t.TempDir(), "state"), t.TempDir()
	openPath(t, root)
	openPath(t, temp)
	var lines strings.Builder
	writers := make([]*writer, 4)
	for i := range writers {
		writers[i] = &writer{id: i}
		lines.WriteString(writers[i].line(0))
	}
	put(t, filepath.Join(root, "shared"), lines.String())
	giveToSandbox(t, root)
	rng := killRand(t)
	for round := range *killPoints {
		c := launchClient(t, state, temp, "--root", root)
		c.initialize("2025-11-25")
		after := time.Duration(rng.Int64N(int64(100 * time.Millisecond)))
		if round%4 != 0 {
			c.ok("ls", nil) // else before the baseline is there
		}
		timer := time.AfterFunc(after, func() { _ = c.cmd.Process.Kill() })
		var wg sync.WaitGroup
		for _, w := range writers {
			wg.Go(func() { w.work(c, round) })
		}
		wg.Wait()
		timer.Stop()
		<-c.closed
		_ = c.cmd.Wait()

		b, err := os.ReadFile(filepath.Join(root, "shared"))
		if err != nil {
			t.Fatal(err)
		}
		shared := map[string]int{}
		for line := range strings.Lines(string(b)) {
			shared[line]++
		}
		for _, w := range writers {
			w.found(t, root, shared)
		}
		for line, n := range shared {
			t.Errorf("%q comes from no operation (%d times)", line, n)
		}
		if t.Failed() {
			t.Fatalf("round %d, killed after %v", round, after)
		}
	}
	c := launchClient(t, state, temp, "--root", root)
	c.initialize("2025-11-25")
	c.ok("write_file", map[string]any{"path": "shared", "content": "last\n", "mode": "append"})
	for _, dir := range []string{".", "d0", "d1", "d2", "d3"} {
		if _, err := os.Stat(filepath.Join(root, dir)); err == nil {
			c.ok("write_file", map[string]any{"path": dir + "/last", "content": "last\n"})
		}
		if left, _ := filepath.Glob(filepath.Join(root, dir, ".mcp-sandbox-*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	c.stop()
	c.assertNothingLeft()
	total := 0
	for _, w := range writers {
		total += len(w.appended) + w.edits + len(w.files)
	}
	if total == 0 {
		t.Error("nothing was acknowledged: the test looks at nothing")
	}
	t.Logf("%d rounds, %d acknowledged", *killPoints, total)
}

// TestKilledStoring kills each verb of snapshots, and the server while it takes
// its baseline, at moments spread over its run: every snapshot that was told is
// whole, no half archive is left, and the same works again.
func TestKilledStoring(t *testing.T) {
	h, out := newHost(t), t.TempDir()
	root := t.TempDir()
	was := tree(t, root, 150)
	put(t, filepath.Join(root, "large"), string(anyBytes(2<<20)))
	giveToSandbox(t, root)
	was["large"] = string(anyBytes(2 << 20))
	first := strings.TrimSpace(h.snapshots(root, "create", "first"))
	whole := filepath.Join(out, "whole.tar")
	h.snapshots(root, "export", whole, first)

	change := func() {
		for path := range was {
			if len(path)%2 == 0 {
				put(t, filepath.Join(root, path), "changed\n")
			}
		}
		giveToSandbox(t, root)
	}
	archive := filepath.Join(out, "half.tar")
	verbs := []struct {
		name   string
		before func()
		args   []string
		check  func(when string)
	}{
		{"export", func() { _ = os.Remove(archive) }, []string{"snapshots", "export", "--root", root, archive, first}, func(when string) {
			left, _ := os.ReadDir(out)
			for _, e := range left {
				if e.Name() == filepath.Base(whole) {
					continue
				}
				b, err := os.ReadFile(filepath.Join(out, e.Name()))
				w, _ := os.ReadFile(whole)
				if err != nil || e.Name() != filepath.Base(archive) || !bytes.Equal(b, w) {
					t.Errorf("%s: %s is left with %d of %d bytes, %v", when, e.Name(), len(b), len(w), err)
				}
			}
		}},
		{"import", func() {}, []string{"snapshots", "import", "--root", root, whole, "imported"}, nil},
		{"create", change, []string{"snapshots", "create", "--root", root, "more"}, nil},
		{"restore", change, []string{"snapshots", "restore", "--root", root, first}, func(when string) {
			h.snapshots(root, "restore", first)
			expectTree(t, root, was)
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(root), ".mcp-sandbox-*")); len(left) > 0 {
				t.Errorf("%s: left %v", when, left)
			}
			for _, dir := range []string{filepath.Join(h.state, "restore"), root} {
				if left, _ := filepath.Glob(filepath.Join(dir, ".mcp-sandbox-restore-*")); len(left) > 0 {
					t.Errorf("%s: left %v", when, left)
				}
			}
		}},
		{"prune", func() {}, []string{"snapshots", "prune", "--root", root}, nil},
		{"baseline", change, []string{"exec", "--root", root, "--", "echo ran > ran"}, func(when string) {
			h.run("exec", "--root", root, "--", "echo again > ran")
			expect(t, filepath.Join(root, "ran"), "again\n")
		}},
		{"session from a snapshot", func() {}, []string{"exec", "--from", root + "@" + first, "--", "cat large | wc -c"}, func(when string) {
			if text := h.run("exec", "--from", root+"@"+first, "--", "cat large | wc -c"); strings.TrimSpace(text) != fmt.Sprint(2<<20) {
				t.Errorf("%s: %s", when, text)
			}
		}},
	}
	rng := killRand(t)
	points := max(3, *killPoints/4)
	for _, v := range verbs {
		if text, err := h.try("exec", "--", "true"); v.args[0] == "exec" && err != nil {
			unconfinable(t, text)
		}
		v.before()
		began := time.Now()
		h.run(v.args...)
		took := time.Since(began)
		killed := 0
		for i := range points {
			v.before()
			after := took * time.Duration(i) / time.Duration(points)
			after += time.Duration(rng.Int64N(int64(took)/int64(points) + 1))
			when := fmt.Sprintf("%s killed after %v", v.name, after)
			cmd := h.command(v.args...)
			var told bytes.Buffer
			cmd.Stdout = &told
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			if err := cmd.Wait(); !timer.Stop() && err != nil {
				killed++
			}
			list := h.snapshots(root, "list")
			if !strings.Contains(list, first) {
				t.Errorf("%s: the first snapshot is gone:\n%s", when, list)
			}
			if id := strings.TrimSpace(told.String()); (v.name == "create" || v.name == "import") && id != "" && !strings.Contains(list, strings.Fields(id)[0]) {
				t.Errorf("%s: %s was told and is not there:\n%s", when, id, list)
			}
			if i%4 == 0 || i == points-1 {
				h.snapshots(root, "check")
			}
			if v.check != nil {
				v.check(when)
			}
			if t.Failed() {
				return
			}
		}
		t.Logf("%s: %d of %d killed in %v", v.name, killed, points, took)
	}
	h.snapshots(root, "restore", first)
	expectTree(t, root, was)
	h.snapshots(root, "prune")
	h.snapshots(root, "check")
	if left, _ := os.ReadDir(h.temp); len(left) > 0 {
		t.Errorf("left in the temporary directory: %v", left)
	}
}
