package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// needRoot: only the real root has workspaces that are shown as another user's.
func needRoot(t *testing.T) {
	t.Helper()
	m, err := os.ReadFile("/proc/self/uid_map")
	if f := strings.Fields(string(m)); os.Geteuid() != 0 || err != nil || len(f) < 2 || f[1] != "0" {
		t.Skip("the real root alone is nobody's ordinary user")
	}
}

// rootsWorkspace is a workspace of root's with what nobody else may read, and a
// write grant like it.
func rootsWorkspace(t *testing.T) (ws, grant string) {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	openPath(t, top)
	ws, grant = top+"/ws", top+"/grant"
	for _, d := range []string{ws, grant} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		put(t, d+"/mine", "mine\n")
		put(t, d+"/other", "another's\n")
		for _, f := range []string{d + "/mine", d + "/other"} {
			if err := os.Chmod(f, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(d+"/other", 4321, 4321); err != nil {
			t.Fatal(err)
		}
	}
	return ws, grant
}

// TestRootDoorsAgree: in a workspace of root's, commands, file tools, snapshots,
// the manifest and the operator's commands read and write the same files, none as
// root, and all that is made is root's on disk.
func TestRootDoorsAgree(t *testing.T) {
	needRoot(t)
	ws, grant := rootsWorkspace(t)
	manifest := filepath.Dir(ws) + "/manifest.json"
	put(t, manifest, `{"entries": {"listed/file": {"type": "file", "content": "listed\n"}}}`)
	c := startServer(t, "--root", ws, "--write", grant, "--manifest", manifest)
	c.initialize("2025-06-18")

	ids := c.exec(map[string]any{"cmd": "id -u; id -G"})
	if strings.Contains(" "+strings.ReplaceAll(ids.Output, "\n", " ")+" ", " 0 ") {
		t.Errorf("commands are root: %q", ids.Output)
	}
	for _, d := range []string{ws, grant} {
		for _, step := range []struct {
			tool string
			args map[string]any
			want string
		}{
			{"read_file", map[string]any{"path": d + "/mine"}, "mine"},
			{"write_file", map[string]any{"path": d + "/by-tool", "content": "tool\n"}, ""},
			{"exec_command", map[string]any{"cmd": "cat " + d + "/by-tool && echo more >> " + d + "/by-tool && echo cmd > " + d + "/by-command && chmod 600 " + d + "/by-command"}, "tool"},
			{"edit_file", map[string]any{"path": d + "/by-command", "old_text": "cmd", "new_text": "edited"}, "edited"},
			{"write_file", map[string]any{"path": d + "/by-command", "content": "x\n", "mode": "append"}, ""},
			{"apply_patch", map[string]any{"patch": "*** Begin Patch\n*** Add File: " + d + "/sub/by-patch\n+patched\n*** End Patch\n"}, ""},
			{"mkdir", map[string]any{"path": d + "/dir"}, ""},
			{"mv", map[string]any{"path": d + "/by-tool", "destination": d + "/dir/moved"}, ""},
			{"exec_command", map[string]any{"cmd": "cat " + d + "/dir/moved " + d + "/sub/by-patch " + d + "/by-command; rm " + d + "/sub/by-patch"}, "tool\nmore\npatched\nedited\nx"},
			{"search_text", map[string]any{"pattern": "more", "path": d}, "moved"},
			{"exec_command", map[string]any{"cmd": "cd " + d + " && tar -czf packed.tgz by-command && mkdir out"}, ""},
			{"extract_archive", map[string]any{"path": d + "/packed.tgz", "destination": d + "/out"}, ""},
			{"exec_command", map[string]any{"cmd": "cd " + d + "/out && echo own >> by-command && cat by-command && find . ! -user $(id -u) -o ! -group $(id -g)"}, "edited\nx\nown\n"},
			{"exec_command", map[string]any{"cmd": "cd " + d + " && echo strangers: $(find . ! -user $(id -u) -o ! -group $(id -g))."}, "strangers: ./other."},
		} {
			r := c.ok(step.tool, step.args)
			if !strings.Contains(r.text(), step.want) {
				t.Errorf("%s: %q lacks %q", step.tool, r.text(), step.want)
			}
		}
		for _, p := range []string{d + "/other"} {
			if r := c.call("read_file", map[string]any{"path": p}); !r.IsError || strings.Contains(r.text(), "another's") {
				t.Errorf("read_file reads another user's file: %q", r.text())
			}
			if r := c.call("exec_command", map[string]any{"cmd": "cat " + p}); !strings.Contains(r.text(), "Permission denied") {
				t.Errorf("a command reads another user's file: %q", r.text())
			}
		}
	}
	// Between two trees.
	c.ok("mv", map[string]any{"path": grant + "/dir/moved", "destination": ws + "/crossed"})

	id := snapshotID(c.ok("snapshot_create", map[string]any{"label": "before"}))
	c.ok("exec_command", map[string]any{"cmd": "rm -r mine dir; echo changed > crossed"})
	c.ok("snapshot_restore", map[string]any{"snapshot_id": id})
	if r := c.ok("exec_command", map[string]any{"cmd": "cat mine crossed dir/moved && echo again >> mine"}); !strings.Contains(r.text(), "mine\ntool\nmore\ntool\nmore") {
		t.Errorf("what came back: %q", r.text())
	}
	if r := c.ok("exec_command", map[string]any{"cmd": "echo strangers: $(find . ! -user $(id -u) -o ! -group $(id -g))."}); !strings.Contains(r.text(), "strangers: ./other.") {
		t.Errorf("owners after the restore: %q", r.text())
	}
	for _, cmd := range []struct{ cmd, why string }{
		{"chown root mine", "Operation not permitted"},
		{"chown 4321:4321 mine", "Operation not permitted"},
		{"chown 4321 mine; sudo -n true 2>&1; true", "Operation not permitted"},
		{"apt-get install -y hello", "are you root?"},
	} {
		if name, _, _ := strings.Cut(cmd.cmd, " "); name == "apt-get" {
			if _, err := os.Stat("/usr/bin/apt-get"); err != nil {
				continue
			}
		}
		if r := c.call("exec_command", map[string]any{"cmd": cmd.cmd}); !strings.Contains(r.text(), cmd.why) {
			t.Errorf("%s: %q lacks %q", cmd.cmd, r.text(), cmd.why)
		}
	}
	if r := c.ok("session_info", nil); !strings.Contains(r.text(), "root's on disk") {
		t.Errorf("session_info does not say how root's files are shown: %s", r.text())
	}
	c.stop()

	h := newHost(t)
	h.run("exec", "--root", ws, "--", "echo op > by-operator")
	first := strings.TrimSpace(h.snapshots(ws, "create"))
	put(t, ws+"/by-operator", "changed\n")
	h.snapshots(ws, "restore", first)
	expect(t, ws+"/by-operator", "op\n")

	for _, d := range []string{ws, grant} {
		_ = filepath.WalkDir(d, func(p string, e os.DirEntry, err error) error {
			if err != nil {
				t.Fatal(err)
			}
			fi, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			want := uint32(0)
			if e.Name() == "other" {
				want = 4321
			}
			if st := fi.Sys().(*syscall.Stat_t); st.Uid != want || st.Gid != want {
				t.Errorf("%s belongs to %d:%d, want %d", strings.TrimPrefix(p, d), st.Uid, st.Gid, want)
			}
			return nil
		})
	}
}

// TestRootAcrossRestarts: a later session of root's workspace is the same user, owns
// what the earlier one made, and restores its snapshots.
func TestRootAcrossRestarts(t *testing.T) {
	needRoot(t)
	ws, _ := rootsWorkspace(t)
	state := filepath.Dir(ws) + "/state"
	run := func(cmd string, more func(c *client)) string {
		c := startServer(t, "--root", ws, "--state-dir", state)
		c.initialize("2025-06-18")
		out := c.exec(map[string]any{"cmd": cmd}).Output
		if more != nil {
			more(c)
		}
		c.stop()
		return out
	}
	var id string
	first := run("umask 077; echo kept > kept; mkdir -m 700 d; echo in > d/f; id -u; id -g", func(c *client) {
		id = snapshotID(c.ok("snapshot_create", map[string]any{"label": "first"}))
	})
	second := run("id -u; id -g; cat kept d/f; echo more >> kept && mv d e; echo strangers: $(find . ! -user $(id -u) -o ! -group $(id -g)).", func(c *client) {
		c.ok("snapshot_restore", map[string]any{"snapshot_id": id})
		c.ok("edit_file", map[string]any{"path": "kept", "old_text": "kept", "new_text": "edited"})
	})
	if want := first + "kept\nin\nstrangers: ./other.\n"; second != want {
		t.Errorf("a later session: %q, want %q", second, want)
	}
	if third := run("cat kept d/f; ls e", nil); !strings.HasPrefix(third, "edited\nin\n") || !strings.Contains(third, "No such file") {
		t.Errorf("the third session: %q", third)
	}
	for _, f := range []string{"kept", "d", "d/f"} {
		fi, err := os.Stat(ws + "/" + f)
		if err != nil {
			t.Fatal(err)
		}
		if st := fi.Sys().(*syscall.Stat_t); st.Uid != 0 || st.Gid != 0 || fi.Mode()&0o077 != 0 {
			t.Errorf("%s is %d:%d %v on disk", f, st.Uid, st.Gid, fi.Mode())
		}
	}
}

// snapshotID finds the id in what snapshot_create says.
func snapshotID(r toolResult) string {
	return regexp.MustCompile(`\b[0-9a-z]{12}\b`).FindString(r.text())
}

// TestSnapshotsHaveTheUsersRights: in a root server, snapshots neither store nor tell
// what the session's user may not read, and a restore changes nothing they may not
// change, nor gives it to them.
func TestSnapshotsHaveTheUsersRights(t *testing.T) {
	needRoot(t)
	for _, owner := range []int{0, 61000} {
		t.Run(strconv.Itoa(owner), func(t *testing.T) {
			ws, _ := rootsWorkspace(t)
			const secret, later, other = "CANARY-before", "CANARY-after", 4321
			private := []string{"other", "shut/f", "other-dir/private"}
			for _, d := range []string{"shut", "other-dir", "mine-dir"} {
				if err := os.Mkdir(ws+"/"+d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			put(t, ws+"/other-dir/open", "open\n")
			put(t, ws+"/mine-dir/open", "open\n")
			for _, f := range private {
				put(t, ws+"/"+f, secret+"\n")
			}
			owners := map[string]int{"other": other, "shut": other, "shut/f": other, "other-dir": other, "other-dir/private": other, "mine-dir/open": other,
				"": owner, "mine": owner, "mine-dir": owner, "other-dir/open": owner}
			var err error
			for p, id := range owners {
				err = errors.Join(err, os.Chown(ws+"/"+p, id, id))
			}
			for p, mode := range map[string]os.FileMode{"shut": 0o700, "other": 0o600, "other-dir/private": 0o600} {
				err = errors.Join(err, os.Chmod(ws+"/"+p, mode))
			}
			if err != nil {
				t.Fatal(err)
			}
			stat := func(name string) string {
				fi, err := os.Stat(ws + "/" + name)
				b, rerr := os.ReadFile(ws + "/" + name)
				if err := errors.Join(err, rerr); err != nil {
					return err.Error()
				}
				return fmt.Sprint(fi.Sys().(*syscall.Stat_t).Uid, fi.Mode(), string(b))
			}
			c := startServer(t, "--root", ws)
			c.initialize("2025-06-18")
			told := ""
			call := func(tool string, args map[string]any) toolResult {
				r := c.call(tool, args)
				told += r.text() + string(r.Structured)
				return r
			}
			id := snapshotID(call("snapshot_create", map[string]any{"label": "before"}))
			before := map[string]string{}
			for _, f := range private {
				put(t, ws+"/"+f, later+"\n")
				before[f] = stat(f)
			}
			put(t, ws+"/mine", "changed\n")
			if r := call("snapshot_diff", map[string]any{"snapshot_id": id}); r.IsError || !strings.Contains(r.text(), "mine") {
				t.Errorf("snapshot_diff: %s", r.text())
			}
			for _, path := range []string{"", "shut/f", "other"} {
				call("snapshot_restore", map[string]any{"snapshot_id": id, "path": path})
			}
			expect(t, ws+"/mine", "mine\n")
			// In a directory of somebody else nothing is replaced; in their own, what is
			// another's is, as by mv.
			put(t, ws+"/other-dir/open", "changed\n")
			before["other-dir/open"] = stat("other-dir/open")
			if r := call("snapshot_restore", map[string]any{"snapshot_id": id, "path": "other-dir/open"}); !r.IsError || !strings.Contains(r.text(), "other-dir/open") {
				t.Errorf("a directory of another user is restored into: %s", r.text())
			}
			// A restore that meets it names it, and what can be restored without it.
			put(t, ws+"/mine", "changed\n")
			if r := call("snapshot_restore", map[string]any{"snapshot_id": id}); !r.IsError || !strings.Contains(r.text(), `"other-dir/open" could not be restored`) || !strings.Contains(r.text(), `with path: "mine"`) {
				t.Errorf("a restore of the whole: %s", r.text())
			}
			expect(t, ws+"/mine", "changed\n")
			call("snapshot_restore", map[string]any{"snapshot_id": id, "path": "mine"})
			expect(t, ws+"/mine", "mine\n")
			put(t, ws+"/mine-dir/open", "changed\n")
			if r := call("snapshot_restore", map[string]any{"snapshot_id": id, "path": "mine-dir/open"}); r.IsError {
				t.Error(r.text())
			}
			expect(t, ws+"/mine-dir/open", "open\n")
			for f, was := range before {
				if now := stat(f); now != was {
					t.Errorf("%s was %q and is %q", f, was, now)
				}
			}
			told += c.exec(map[string]any{"cmd": "cat other shut/f other-dir/private 2>&1"}).Output
			if strings.Contains(told, "CANARY") {
				t.Errorf("the secret is told: %s", told)
			}
			// What the operator stores is under the same policy.
			h := newHost(t)
			h.state = c.state
			c.stop()
			if shown := h.snapshots(ws, "show", strings.TrimSpace(h.snapshots(ws, "create"))); strings.Contains(shown, "CANARY") {
				t.Errorf("snapshots show: %s", shown)
			}
		})
	}
}

// TestRootEndsTheServer: where root's workspace could not be worked on by another
// user the server does not start, and says what to do.
func TestRootEndsTheServer(t *testing.T) {
	needRoot(t)
	ws, _ := rootsWorkspace(t)
	h := newHost(t)
	for _, level := range []string{"landlock", "none"} {
		for _, args := range [][]string{{"serve", "--root", ws, "--confine", level}, {"exec", "--root", ws, "--confine", level, "--", "id"}} {
			out, err := h.try(args...)
			if err == nil || !strings.Contains(out, "the workspace belongs to root") || !strings.Contains(out, "--allow-root") || strings.Contains(out, "uid=0") {
				t.Errorf("%q: %v, %s", args, err, out)
			}
		}
		if out := h.run("exec", "--root", ws, "--confine", level, "--allow-root", "--", "id -u"); !strings.Contains(out, "0\n") {
			t.Errorf("--allow-root at %s: %q", level, out)
		}
	}
	if out := h.run("exec", "--root", ws, "--allow-root", "--", "id -u"); !strings.Contains(out, "0\n") {
		t.Errorf("--allow-root: %q", out)
	}
}
