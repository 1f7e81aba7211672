package main

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStaged: every way to change files changes the stage alone, every way to read
// them sees it, and an apply makes the project what the session saw.
func TestStaged(t *testing.T) {
	p := newStagedProject(t)
	before := allOf(t, p.dir)
	c := p.serve("--stage-apply", "model")
	if info := c.ok("session_info", nil).text(); !strings.Contains(info, "staged: it changes when your changes are applied, see stage_diff and stage_apply") || strings.Contains(info, "Protected from changes") || !strings.Contains(info, "staged workspace: on") {
		t.Errorf("session_info: %s", info)
	}
	c.ok("write_file", map[string]any{"path": "new/file.txt", "content": "new\n"})
	c.ok("edit_file", map[string]any{"path": "a.txt", "old_text": "two", "new_text": "2"})
	c.ok("apply_patch", map[string]any{"patch": "*** Begin Patch\n*** Update File: b.txt\n@@\n-b\n+B\n*** Add File: patched\n+x\n*** End Patch\n"})
	c.ok("mkdir", map[string]any{"path": "empty"})
	c.ok("mv", map[string]any{"path": "dir/sub", "destination": "moved"})
	c.ok("rm", map[string]any{"path": "dir/c.txt"})
	if out := c.sh("cat a.txt b.txt new/file.txt patched moved/d.txt; ls dir; ls -d empty; chmod 600 patched; ln -s a.txt link; mkdir -p .git/hooks; echo x > .git/hooks/pre-commit; tar cf t.tar a.txt"); !strings.Contains(out, "one\n2\nB\nnew\nx\nd\nempty\n") {
		t.Errorf("commands see %q", out)
	}
	c.ok("extract_archive", map[string]any{"path": "t.tar", "destination": "out"})
	if out := c.ok("read_file", map[string]any{"path": "out/a.txt"}).text(); !strings.Contains(out, "2") {
		t.Errorf("read_file: %s", out)
	}
	if out := c.ok("search_text", map[string]any{"pattern": "^2$"}).text(); !strings.Contains(out, "a.txt") || !strings.Contains(out, "out/a.txt") {
		t.Errorf("search_text: %s", out)
	}
	if out := c.ok("find_files", map[string]any{"pattern": "**/*.txt"}).text(); !strings.Contains(out, "moved/d.txt") || strings.Contains(out, "dir/c.txt") {
		t.Errorf("find_files: %s", out)
	}
	snap := c.ok("snapshot_create", map[string]any{"label": "here"}).text()
	c.sh("rm -rf dir new; echo broken > a.txt")
	c.ok("snapshot_restore", map[string]any{"snapshot_id": "here"})
	if out := c.sh("cat a.txt new/file.txt; ls -d dir"); out != "one\n2\nnew\ndir\n" {
		t.Errorf("restored (%s): %q", snap, out)
	}
	sameTree(t, "before the apply", allOf(t, p.dir), before)

	diff := c.ok("stage_diff", nil).text()
	for _, want := range []string{"modified file a.txt", "removed directory dir/sub", "added file .git/hooks/pre-commit (protected)", "-two\n+2\n"} {
		if !strings.Contains(diff, want) {
			t.Errorf("stage_diff lacks %q:\n%s", want, diff)
		}
	}
	if out := c.ok("stage_discard", map[string]any{"path": "b.txt"}).text(); !strings.Contains(out, "discarded: 1") {
		t.Errorf("stage_discard: %s", out)
	}
	if out := c.sh("cat b.txt"); out != "b\n" {
		t.Errorf("discarded: %q", out)
	}
	if out := c.ok("stage_apply", map[string]any{"path": "."}).text(); !strings.Contains(out, "not applied: .git/hooks/pre-commit: protected") {
		t.Errorf("stage_apply: %s", out)
	}
	if _, err := os.Lstat(p.dir + "/.git"); err == nil {
		t.Error("the model has applied a protected path")
	}
	// The rest is a person's, while the session runs. Names are any bytes.
	c.sh(`: > "$(printf 'odd\377')"; : > "$(printf 'odd\376')"`)
	if r := p.review("--apply", "odd\xff", "--discard", "odd\xfe"); len(r.Applied.Left)+len(r.Dropped.Left) > 0 {
		t.Errorf("names that are not text: %+v", r)
	}
	expect(t, p.dir+"/odd\xff", "")
	c.sh("rm odd*")
	r := p.review("--apply", ".", "--protected", "--executable")
	if len(r.Applied.Left) > 0 || len(r.Changes) > 0 || r.Snapshot == "" || !r.InUse {
		t.Errorf("review: %+v", r)
	}
	want := strings.Fields(c.sh("find . -mindepth 1 | sort; "))
	var got []string
	for rel := range allOf(t, p.dir) {
		if rel != "." {
			got = append(got, "./"+rel)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("applied: %v, the session sees %v", got, want)
	}
	if b, _ := os.ReadFile(p.dir + "/a.txt"); string(b) != "one\n2\n" {
		t.Errorf("applied: %q", b)
	}
	if fi, err := os.Stat(p.dir + "/patched"); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the mode of patched: %v %v", fi, err)
	}
	c.stop()
	c.assertNothingLeft()
	if all, _ := filepath.Glob(p.state + "/stages/[0-9a-f]*"); len(all) > 0 {
		t.Errorf("a stage without changes is kept: %v", all)
	}
	// What a session protects needs --protected in a review that does not name it.
	p.session("echo x > late.cfg")
	p.session("true", "--protect", "late.cfg")
	p.session("true")
	if r := p.review("--apply", "."); len(r.Applied.Done) > 0 || len(r.Applied.Left) != 1 || !strings.HasPrefix(r.Applied.Left[0].Why, "protected") {
		t.Errorf("a path that a session protects: %+v", r)
	}
}

// TestStagedRenames: programs that rename directories of the project do not notice
// that an overlay would not let them.
func TestStagedRenames(t *testing.T) {
	p := newStagedProject(t)
	run := func(line, want string) {
		t.Helper()
		if out, err := p.try(line); (err == nil) != (want != "FAIL") || err == nil && strings.TrimSpace(out) != want {
			t.Errorf("%s: %v %q, want %q", line, err, out, want)
		}
	}
	py := func(code string) string {
		return "python3 -c 'import base64; exec(base64.b64decode(\"" + base64.StdEncoding.EncodeToString([]byte(code)) + "\"))'"
	}
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("no python3")
	}
	run("mv dir dir2 && cat dir2/sub/d.txt", "d")
	run(py("import os; os.rename('dir2','dir3')")+" && cat dir3/c.txt", "c")
	run(py("import os; os.rename('bin','dir3/bin')")+" && ls -l dir3/bin/run | cut -c1-10", "-rwxr-xr-x")
	run("mkdir e full && touch full/x; "+py("import os; os.rename('dir3','e')")+" && ls e", "bin\nc.txt\nsub")
	run(py("import os; os.rename('e','full')"), "FAIL")
	run("ls e", "bin\nc.txt\nsub")
	if _, err := exec.LookPath("git"); err == nil {
		run("git init -q . && git add -A && git -c user.name=x -c user.email=y commit -qm x && git mv e g && git status --short | sort | head -1", "R  e/bin/run -> g/bin/run")
	}
	for _, r := range p.review().Changes {
		if strings.Contains(r.Path, ".mcp-sandbox") {
			t.Errorf("left: %s", r.Path)
		}
	}
}

// TestStagedConflicts: what the user changed meanwhile is never overwritten unless a
// person says so, whatever the change was.
func TestStagedConflicts(t *testing.T) {
	p := newStagedProject(t)
	put(t, p.dir+"/gone.txt", "gone\n")
	put(t, p.dir+"/touched.txt", "touched\n")
	p.settled()
	c := p.serve()
	c.sh("echo mine >> a.txt; rm b.txt; rm -rf dir; echo mine > both.txt; echo mine > gone.txt; echo mine > fine.txt; echo mine > touched.txt")
	put(t, p.dir+"/a.txt", "theirs\n")
	put(t, p.dir+"/b.txt", "theirs\n")
	put(t, p.dir+"/dir/new.txt", "theirs\n")
	put(t, p.dir+"/both.txt", "theirs\n")
	if err := os.Remove(p.dir + "/gone.txt"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p.dir+"/touched.txt", 0o600); err != nil {
		t.Fatal(err)
	}
	c.stop()
	want := map[string]string{
		"a.txt": "changed in the project", "b.txt": "changed in the project", "dir": "dir/new.txt was made in the project",
		"both.txt": "made in the project", "gone.txt": "removed in the project", "touched.txt": "changed in the project", "fine.txt": "",
	}
	before := allOf(t, p.dir)
	for _, ch := range p.review().Changes {
		w, ok := want[ch.Path]
		if !ok || w == "" != (ch.Conflict == "") || !strings.Contains(ch.Conflict, w) {
			t.Errorf("%s %s: conflict %q, want %q", ch.Kind, ch.Path, ch.Conflict, w)
		}
		delete(want, ch.Path)
	}
	for path := range want {
		t.Errorf("%s is not listed", path)
	}
	r := p.review("--apply", ".")
	if len(r.Applied.Left) != 6 || !slices.Equal(r.Applied.Done, []string{"fine.txt"}) {
		t.Errorf("applied: %+v", r.Applied)
	}
	after := allOf(t, p.dir)
	delete(after, "fine.txt")
	sameTree(t, "after a plain apply", after, before)
	// What the user has closed meanwhile is not opened by that.
	r = p.review("--apply", ".", "--conflicts")
	if len(r.Applied.Left) != 1 || r.Applied.Left[0].Path != "touched.txt" || !strings.Contains(r.Applied.Left[0].Why, "others may read") {
		t.Errorf("applied: %+v", r.Applied)
	}
	r = p.review("--apply", ".", "--conflicts", "--access")
	if len(r.Applied.Left) > 0 || len(r.Changes) > 0 {
		t.Errorf("applied: %+v, left %+v", r.Applied, r.Changes)
	}
	now := allOf(t, p.dir)
	for name, text := range map[string]string{"a.txt": "mine", "both.txt": "mine", "gone.txt": "mine", "touched.txt": "mine"} {
		if !strings.Contains(now[name], text) {
			t.Errorf("%s: %q", name, now[name])
		}
	}
	if now["b.txt"] != "" || now["dir"] != "" {
		t.Error("the removals were not applied")
	}
}

// TestStagedRemade: a tree that a session removed and made again has nothing of the old
// one, in the next session and after an apply.
func TestStagedRemade(t *testing.T) {
	p := newStagedProject(t)
	put(t, p.dir+"/dir/sub/keep", "keep\n")
	p.settled()
	p.session("rm -rf dir; mkdir -p dir/sub; echo new > dir/sub/new; echo keep > dir/sub/keep")
	const sees = "dir/sub\ndir/sub/keep\ndir/sub/new\n"
	if out := p.session("find dir -mindepth 1 | sort"); out != sees {
		t.Errorf("the next session sees %q", out)
	}
	var got []string
	for _, c := range p.review().Changes {
		got = append(got, string(c.Kind)+" "+c.Path)
	}
	if want := []string{"removed dir/c.txt", "removed dir/sub/d.txt", "added dir/sub/new"}; !slices.Equal(got, want) {
		t.Errorf("the changes are %q, want %q", got, want)
	}
	if out := p.session("find dir -mindepth 1 | sort"); out != sees {
		t.Errorf("after a review the session sees %q", out)
	}
	if r := p.review("--apply", "."); len(r.Applied.Left)+len(r.Changes) > 0 {
		t.Errorf("applied: %+v, left %+v", r.Applied, r.Changes)
	}
	if out, _ := exec.Command("find", p.dir+"/dir", "-type", "f", "-printf", "%P\n").Output(); len(strings.Fields(string(out))) != 2 {
		t.Errorf("the project has %q", out)
	}
}

// TestStagedMerge: a text that was changed on both sides is shown three ways, and
// merged where they touch different places.
func TestStagedMerge(t *testing.T) {
	p := newStagedProject(t)
	text := "1\n2\n3\n4\n5\n6\n7\n8\n9\n"
	put(t, p.dir+"/apart", text)
	put(t, p.dir+"/same", text)
	p.settled()
	for _, live := range []bool{false, true} {
		c := p.serve()
		c.sh("sed -i s/2/two/ apart same")
		put(t, p.dir+"/apart", strings.Replace(text, "8", "eight", 1))
		put(t, p.dir+"/same", strings.Replace(text, "2", "zwei", 1))
		if !live {
			c.stop()
		}
		for _, ch := range p.review().Changes {
			want := map[string]string{"apart": "the two touch different places", "same": "both changed the same place"}[ch.Path]
			if !strings.Contains(ch.Diff, want) || !strings.Contains(ch.Diff, "+two\n") || !strings.Contains(ch.Diff, "what changed in the project meanwhile") {
				t.Errorf("%s: %s", ch.Path, ch.Diff)
			}
		}
		r := p.review("--merge", "apart", "--merge", "same")
		if !slices.Equal(r.Merged.Done, []string{"apart"}) || len(r.Merged.Left) != 1 || len(r.Changes) != 1 {
			t.Errorf("merged: %+v, left %+v", r.Merged, r.Changes)
		}
		merged := strings.Replace(strings.Replace(text, "8", "eight", 1), "2", "two", 1)
		expect(t, p.dir+"/apart", merged)
		if live {
			if out := c.sh("cat apart"); out != merged {
				t.Errorf("the session sees %q", out)
			}
			c.stop()
		}
		p.review("--discard", ".")
		put(t, p.dir+"/apart", text)
		put(t, p.dir+"/same", text)
		p.settled()
	}
}

// TestStagedTraps: what an overlay cannot do is said, and its own marks and places are
// not to be seen.
func TestStagedTraps(t *testing.T) {
	p := newStagedProject(t)
	if err := os.Link(p.dir+"/a.txt", p.dir+"/second"); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		put(t, p.dir+"/other", "other\n")
		if err := os.Chown(p.dir+"/other", 4321, 4321); err != nil {
			t.Fatal(err)
		}
	}
	p.settled()
	out := p.session("echo mine >> a.txt; rm b.txt; cat /proc/self/mounts /proc/self/mountinfo; df -a 2>&1; ls -a; find / -name stages 2>/dev/null | head")
	if strings.Contains(out, p.state+"/stages") || strings.Contains(out, "stages\n") {
		t.Errorf("the place of the stage is shown: %s", out)
	}
	if os.Geteuid() == 0 && !strings.Contains(out, "but not changed: other") {
		t.Errorf("a file of another user is not named: %s", out)
	}
	for _, c := range p.review().Changes {
		if c.Path == "a.txt" && (c.Names != 1 || !strings.Contains(c.Diff, "1 further name of")) {
			t.Errorf("the other name of a.txt is not told: %+v", c)
		}
	}
	p.review("--apply", ".")
	expect(t, p.dir+"/a.txt", "one\ntwo\nmine\n")
	expect(t, p.dir+"/second", "one\ntwo\n")

	// What the session shuts itself out of is in the way of nothing else.
	p.session("mkdir shut; echo x > shut/x; echo x > dark; echo y > light; chmod 0 shut dark")
	if os.Geteuid() != 0 {
		r := p.review("--apply", ".")
		if !slices.Equal(r.Applied.Done, []string{"light"}) || len(r.Applied.Left) != 2 || !strings.Contains(r.Applied.Left[0].Why, "cannot be read") {
			t.Errorf("with modes of 0: %+v", r.Applied)
		}
	}
	if r := p.review("--discard", "."); len(r.Changes) != 0 {
		t.Errorf("discarded: %+v", r.Changes)
	}

	c := p.serve("--limit-workspace", "1M")
	// The second is measured while the file tool has the rights of the files' owner.
	c.ok("write_file", map[string]any{"path": "first", "content": strings.Repeat("x", 600_000)})
	if text := c.bad("limit_reached", "write_file", map[string]any{"path": "second", "content": strings.Repeat("x", 600_000)}); !strings.Contains(text, "1048576") || strings.Contains(text, "holds 0 bytes") {
		t.Errorf("past the limit: %s", text)
	}
	c.stop()

	if os.Geteuid() != 0 {
		return
	}
	if err := unix.Mount(p.dir+"/dir", p.dir+"/bin", "", unix.MS_BIND, ""); err != nil {
		t.Skip("nothing can be mounted here")
	}
	defer unix.Unmount(p.dir+"/bin", unix.MNT_DETACH)
	if out, err := p.try("true"); err == nil || !strings.Contains(out, "a file system is mounted in it") {
		t.Errorf("with a mount in the project: %v %s", err, out)
	}
}

// TestStagedKept: a stage waits for a person, is resumed by the next session, and
// follows what the user does to the project meanwhile.
func TestStagedKept(t *testing.T) {
	p := newStagedProject(t)
	p.session("echo mine >> a.txt; echo x > x")
	put(t, p.dir+"/b.txt", "theirs\n")
	p.settled()
	if out := p.session("cat a.txt b.txt x"); out != "one\ntwo\nmine\ntheirs\nx\n" {
		t.Errorf("resumed: %q", out)
	}
	list, err := exec.Command(binary, "review", "--list", "--state-dir", p.state).CombinedOutput()
	if err != nil || !strings.Contains(string(list), p.dir) || !strings.Contains(string(list), "2 files") {
		t.Errorf("review --list: %v %s", err, list)
	}
	c := p.serve("--session", "other")
	if out := c.sh("cat a.txt; echo other > x"); out != "one\ntwo\n" {
		t.Errorf("another session sees %q", out)
	}
	if out, err := p.try("true", "--session", "other"); err == nil || !strings.Contains(out, "in use") {
		t.Errorf("twice in use: %v %s", err, out)
	}
	c.stop()
	if r := p.review("--session", "other"); len(r.Changes) != 1 || r.Changes[0].Path != "x" {
		t.Errorf("the review of the other: %+v", r.Changes)
	}
	// Applied and gone on by the user: no change, and the session sees the newer one.
	p.review("--apply", "a.txt")
	put(t, p.dir+"/a.txt", "newer\n")
	if r := p.review(); len(r.Changes) != 1 || r.Changes[0].Path != "x" {
		t.Errorf("after the apply: %+v", r.Changes)
	}
	if out := p.session("cat a.txt"); out != "newer\n" {
		t.Errorf("after the apply the session sees %q", out)
	}
	if r := p.review("--discard", "."); len(r.Dropped.Done) != 1 || len(r.Changes) != 0 {
		t.Errorf("discard: %+v", r)
	}
	list, err = exec.Command(binary, "sessions", "list", "--state-dir", p.state).CombinedOutput()
	if err != nil || !strings.Contains(string(list), "1 file (") || !strings.Contains(string(list), "to review since 2") {
		t.Errorf("sessions list: %v %s", err, list)
	}
	if out, err := exec.Command(binary, "sessions", "get", "--state-dir", p.state, "other", "a.txt").CombinedOutput(); err == nil || !strings.Contains(string(out), "is staged") {
		t.Errorf("sessions get: %v %s", err, out)
	}
	out, err := exec.Command(binary, "clean", "--stages", "--state-dir", p.state).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "0 removed, 1 in use or with") {
		t.Errorf("clean: %v %s", err, out)
	}
	if out, err := exec.Command(binary, "sessions", "delete", "--state-dir", p.state, "other").CombinedOutput(); err != nil {
		t.Errorf("sessions delete: %v %s", err, out)
	}
	if all, _ := filepath.Glob(p.state + "/stages/[0-9a-f]*"); len(all) > 0 {
		t.Errorf("stages are left: %v", all)
	}
	if out := p.session("ls x || true"); !strings.Contains(out, "No such file") {
		t.Errorf("discarded: %q", out)
	}
}

// TestStagedRefused: a host or setting with which nothing can be staged is refused
// before a session runs.
func TestStagedRefused(t *testing.T) {
	dir := t.TempDir()
	openPath(t, dir)
	for _, tc := range []struct{ args, want string }{
		{"--staged", "it needs a workspace of yours"},
		{"--staged --root " + dir + " --confine landlock", "mounts nothing"},
		{"--staged --root " + dir + " --confine none", "mounts nothing"},
		{"--staged --root " + dir + " --from latest", "write into the project"},
		{"--stage-apply model --root " + dir, "no effect without --staged"},
		{"--staged --stage-apply all --root " + dir, "person or model"},
	} {
		for _, cmd := range []string{"exec", "serve"} {
			args := append([]string{cmd, "--state-dir", t.TempDir()}, strings.Fields(tc.args)...)
			if cmd == "exec" {
				args = append(args, "--", "true")
			}
			want := tc.want
			if cmd == "exec" && strings.Contains(tc.args, "--stage-apply") {
				want = "stage-apply has no effect with this command"
			}
			out, err := exec.Command(binary, args...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), want) {
				t.Errorf("%s %s: %v %s", cmd, tc.args, err, out)
			}
		}
	}
}

// TestStagedPolicyMatrix: what holds for files holds in a staged workspace, at every
// door of its session.
func TestStagedPolicyMatrix(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		return
	}
	for _, row := range policyRows {
		t.Run(row.name, func(t *testing.T) {
			w := newPolicyWorld(t)
			file := row.file(w)
			put(t, file, secret)
			c := launchClient(t, w.state, t.TempDir(), append([]string{"--root", w.ws, "--staged"}, row.args(w)...)...)
			defer c.stop()
			c.initializeRaw()
			var told strings.Builder
			doors := policyDoors(&told)
			for _, d := range append(doors[1:], doors[0]) { // commands last: they move its directory
				told.Reset()
				d.try(c, file)
				if row.hide && tells(told.String()) {
					t.Errorf("%s tells the secret: %.400s", d.name, told.String())
				}
				if b, err := os.ReadFile(file); string(b) != secret {
					t.Fatalf("%s changed the file: %q, %v", d.name, b, err)
				}
			}
			told.Reset()
			say(c, &told, "stage_diff", nil)
			if row.hide && tells(told.String()) {
				t.Errorf("stage_diff tells the secret: %s", told.String())
			}
		})
	}
}
