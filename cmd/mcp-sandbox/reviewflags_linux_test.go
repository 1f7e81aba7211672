package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mcp-sandbox/sandbox"
)

// TestReviewFlags: a review ignores nothing that was asked of it, and its results say
// what was not done.
func TestReviewFlags(t *testing.T) {
	p := newStagedProject(t)
	p.session("echo 1 > a.txt; echo 2 > b.txt")
	for _, tc := range []struct {
		args      string
		code      int
		want, not string
	}{
		{"--apply a.txt b.txt", 2, `unexpected path "b.txt"`, "applied"},
		{"--discard a.txt b.txt --json", 2, `unexpected path "b.txt"`, "discarded"},
		{"--list --apply .", 2, "--list shows all stages", "applied"},
		{"--protected", 2, "--protected has no effect without --apply or --merge", "a.txt"},
		{"--executable --discard a.txt", 2, "--executable has no effect without --apply or --merge", "discarded"},
		{"--access --merge a.txt", 2, "--access has no effect without --apply", "merged"},
		{"--conflicts a.txt", 2, "--conflicts has no effect without --apply", "a.txt"},
		{"--home workspace", 2, "home has no effect with this command", "a.txt"},
		{"--apply none", 1, "applied: 0\nnot applied: none: the session changed nothing there\n", "to undo"},
		{"--merge none", 1, "merged: 0\nnot merged: none: the session changed nothing there\n", "to undo"},
		{"--merge a.txt --merge none", 1, "not merged: none: the session changed nothing there\n", "to undo"},
		{"a.txt", 0, "+1", "b.txt"},
		{"--apply a.txt --apply b.txt", 0, "applied: 2\nto undo: ", "not applied"},
	} {
		cmd := exec.Command(binary, append([]string{"review", "--root", p.dir, "--state-dir", p.state}, strings.Fields(tc.args)...)...)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != tc.code || !strings.Contains(string(out), tc.want) || strings.Contains(string(out), tc.not) {
			t.Errorf("%s: status %d, want %d, %q and not %q:\n%s", tc.args, code, tc.code, tc.want, tc.not, out)
		}
	}
}

// TestReviewPiped: the text of a review steers no terminal behind a pager either.
func TestReviewPiped(t *testing.T) {
	p := newStagedProject(t)
	p.session(`printf 'a\033[2J\rb\342\200\256c\n' > a.txt; : > "$(printf 'n\033[1m')"; git init -q 2>/dev/null && git config core.fsmonitor "$(printf 'f\033[8m')"; true`)
	for _, args := range [][]string{nil, {"a.txt"}, {"--apply", "."}, {"--list"}} {
		out, _ := exec.Command(binary, append([]string{"review", "--root", p.dir, "--state-dir", p.state}, args...)...).CombinedOutput()
		if len(out) == 0 || strings.ContainsFunc(strings.NewReplacer("\n", "", "\t", "").Replace(string(out)), sandbox.Steers) {
			t.Errorf("%q: %q", args, out)
		}
		if (args == nil || args[0] == "a.txt") && !strings.Contains(string(out), `+a\x1b[2J\x0db\u202ec`) {
			t.Errorf("%q: %q", args, out)
		}
	}
}

// TestReviewRemoved: a review of a removed directory tells what goes with it.
func TestReviewRemoved(t *testing.T) {
	p := newStagedProject(t)
	if err := os.Mkdir(p.dir+"/many", 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		put(t, fmt.Sprintf("%s/many/f%02d", p.dir, i), "x")
	}
	p.settled()
	openPath(t, filepath.Dir(p.dir))
	p.session("rm -r dir many")
	got := map[string]string{}
	for _, c := range p.review().Changes {
		got[c.Path] = c.Diff
	}
	if want := "# removed directory dir, with 2 files in it\n#   dir/c.txt\n#   dir/sub/d.txt\n"; got["dir"] != want {
		t.Errorf("dir: %q, want %q", got["dir"], want)
	}
	if d := got["many"]; !strings.HasPrefix(d, "# removed directory many, with 30 files in it\n#   many/f00\n") || !strings.HasSuffix(d, "#   many/f19\n#   and 10 more\n") {
		t.Errorf("many: %q", d)
	}
}

// TestUndoCommand: the command that undoes a review does what it says in a shell,
// whatever the project's path holds, and steers no terminal.
func TestUndoCommand(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash")
	}
	made := filepath.Join(t.TempDir(), "made")
	for _, root := range []string{"/plain", "/a b", "/$HOME", "/`touch " + made + "`", "/$(touch " + made + ")", `/it's "that"`, "/back\\slash", "/n\nl", "/e\x1b[31m'\\", "/u\u202ex", "/b\xff", "/\u00e9"} {
		var line bytes.Buffer
		printUndo(&line, root, "ID", 1)
		if !strings.HasSuffix(line.String(), " ID\n") || strings.ContainsFunc(strings.TrimSuffix(line.String(), "\n"), sandbox.Steers) {
			t.Errorf("%q: %q", root, line.String())
		}
		words := strings.TrimPrefix(line.String(), "to undo: mcp-sandbox")
		out, err := exec.Command(bash, "-c", "printf '%s|'"+words).CombinedOutput()
		if want := "snapshots|restore|--root|" + root + "|ID|"; err != nil || string(out) != want {
			t.Errorf("%q: %q is %q in a shell, want %q: %v", root, words, out, want, err)
		}
		if text := asCommands("snapshot_restore snapshot_id=ID", root); "to undo: "+text+"\n" != line.String() {
			t.Errorf("%q: exec says %q", root, text)
		}
	}
	if _, err := os.Lstat(made); err == nil {
		t.Error("a path was run")
	}
	var none bytes.Buffer
	if printUndo(&none, "/plain", "ID", 0); none.Len() > 0 {
		t.Errorf("nothing was done, and it says %q", none.String())
	}
}

// TestReviewElsewhere: where nothing is staged, the error names the stage that may be
// meant.
func TestReviewElsewhere(t *testing.T) {
	p := newStagedProject(t)
	p.session("echo 1 > a.txt", "--session", "one")
	p.session("echo 1 > a.txt", "--session", "two")
	ask := func(dir, want string, args ...string) {
		t.Helper()
		cmd := exec.Command(binary, append([]string{"review", "--root", dir, "--state-dir", p.state}, args...)...)
		if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 125 || !strings.Contains(string(out), want) {
			t.Errorf("review of %s %q: %s, want %q", dir, args, out, want)
		}
	}
	ask(p.dir, "choose one with --session: one, two\n")
	ask(p.dir, "see mcp-sandbox review --list", "--session", "three")
	ask(p.dir+"/dir/sub", "the directory above has a stage: --root "+p.dir+"\n", "--session", "one")
	ask(p.dir+"/dir/sub", "see mcp-sandbox review --list")
}
