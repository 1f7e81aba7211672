package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// opened is the answer of session_open.
type opened struct {
	ID    string `json:"sandbox_id"`
	Root  string `json:"workspace"`
	Until string `json:"until"`
}

func (r *remote) open(args map[string]any) opened {
	r.n.t.Helper()
	res := r.call("session_open", args)
	var o opened
	if err := json.Unmarshal(res.Structured, &o); err != nil || res.IsError || o.ID == "" {
		r.n.t.Fatalf("%v: %v %s", args, err, res.text())
	}
	return o
}

// TestSessionOpen: forks, files to begin with, names, and a time to live.
func TestSessionOpen(t *testing.T) {
	n := startNetwork(t, nil, "--default-sandbox", "on", "--session-idle", "1h")
	a, b := n.client(annsToken), n.client(bobsToken)

	// A fork has what the snapshot has, and then goes its own way.
	a.sh("mkdir d; echo one > d/f; chmod 755 d/f; ln -s d/f link")
	a.call("snapshot_create", map[string]any{"label": "ready"})
	a.sh("echo two > d/f")
	fork := a.open(map[string]any{"from_snapshot": "ready"})
	if got := a.exec(map[string]any{"sandbox_id": fork.ID, "cmd": "cat link; stat -c %a d/f; echo three > d/f"}).Output; got != "one\n755\n" {
		t.Errorf("the fork has %q", got)
	}
	if got := a.sh("cat d/f"); got != "two\n" {
		t.Errorf("the source has %q", got)
	}
	a.call("snapshot_create", map[string]any{"sandbox_id": fork.ID, "label": "further"})
	again := a.open(map[string]any{"from_snapshot": fork.ID + "@further"})
	if got := a.exec(map[string]any{"sandbox_id": again.ID, "cmd": "cat d/f"}).Output; got != "three\n" {
		t.Errorf("the fork of the fork has %q", got)
	}
	if list := a.call("snapshot_list", map[string]any{"sandbox_id": again.ID}).text(); strings.Contains(list, "ready") {
		t.Errorf("the fork has snapshots of its source: %s", list)
	}
	b.bad("session_not_found", "session_open", map[string]any{"from_snapshot": fork.ID + "@further"})
	b.bad("session_not_found", "session_open", map[string]any{"from_snapshot": "ready"})
	a.bad("snapshot_not_found", "session_open", map[string]any{"from_snapshot": "none"})
	a.bad("invalid_argument", "session_open", map[string]any{"from_snapshot": fork.ID + "@"})

	// Files.
	entries := map[string]any{"entries": map[string]any{
		"a/b.sh": map[string]any{"type": "file", "content": "#!/bin/sh\necho ran\n", "permissions": "0755"},
		"bin":    map[string]any{"type": "file", "content_base64": "AAEC"},
		"d":      map[string]any{"type": "dir", "children": map[string]any{"e": map[string]any{"type": "dir"}}},
	}}
	text, _ := json.Marshal(entries)
	for _, form := range []any{entries, string(text)} {
		o := a.open(map[string]any{"manifest": form})
		if got := a.exec(map[string]any{"sandbox_id": o.ID, "cmd": "a/b.sh; wc -c < bin; find d; touch d/e/mine a/b.sh"}).Output; got != "ran\n3\nd\nd/e\n" {
			t.Errorf("with files: %q", got)
		}
		a.call("session_close", map[string]any{"sandbox_id": o.ID})
	}
	before := n.workspaces()
	for _, bad := range []string{
		`{"root":"/etc"}`, `{"from":"/etc/passwd.tar"}`, `{"environment":{"A":{"from_env":"HOME"}}}`, `{"extra_path_grants":[{"path":"/etc"}]}`, `{"exposed_ports":[1]}`,
		`{"entries":{"x":{"type":"local_file","src":"/etc/passwd"}}}`, `{"entries":{"x":{"type":"local_dir","src":"/"}}}`, `{"entries":{"x":{"type":"git_repo","repo":"a/b"}}}`,
		`{"entries":{"../x":{"type":"file","content":"x"}}}`, `{"entries":{"/x":{"type":"file","content":"x"}}}`, `{"entries":{"x":{"type":"file","content":"x","permissions":"4755"}}}`,
		`{"entries":{"d":{"type":"dir","children":{"x":{"type":"file","content":"x","ephemeral":true}}}}}`, `{"entries":`, `[]`,
	} {
		if res := a.call("session_open", map[string]any{"manifest": bad}); !res.IsError || strings.Contains(res.text(), "internal") {
			t.Errorf("%s: %s", bad, res.text())
		}
	}
	// What cannot be written in the middle leaves no sandbox behind.
	a.bad("path_protected", "session_open", map[string]any{"manifest": `{"entries":{".git":{"type":"dir","children":{"hooks":{"type":"dir","children":{"pre-commit":{"type":"file","content":"x"}}}}}}}`})
	if after := n.workspaces(); after != before {
		t.Errorf("%d workspaces, %d before", after, before)
	}

	// Names: the same as the address, of the principal alone, one at a time.
	web := a.open(map[string]any{"name": "web", "manifest": `{"entries":{"f":{"type":"file","content":"of web"}}}`})
	byAddress := n.client(annsToken)
	byAddress.path = "/mcp/web"
	if got := byAddress.sh("cat f"); got != "of web" {
		t.Errorf("by address: %q", got)
	}
	if o := a.open(map[string]any{"name": "web"}); o != web {
		t.Errorf("%+v, %+v before", o, web)
	}
	a.bad("already_exists", "session_open", map[string]any{"name": "web", "ttl_ms": 5000})
	a.bad("invalid_argument", "session_open", map[string]any{"name": "../web"})
	b.bad("session_not_found", "ls", map[string]any{"sandbox_id": web.ID})
	if got := b.exec(map[string]any{"sandbox_id": b.open(map[string]any{"name": "web"}).ID, "cmd": "ls"}).Output; got != "" {
		t.Errorf("another's of the same name: %q", got)
	}

	// A time to live ends what runs, also after a restart.
	a.bad("invalid_argument", "session_open", map[string]any{"ttl_ms": 999})
	a.bad("invalid_argument", "session_open", map[string]any{"ttl_ms": 8 * 24 * 3600 * 1000})
	short := a.open(map[string]any{"ttl_ms": 3000})
	if until, err := time.Parse(time.RFC3339, short.Until); err != nil || time.Until(until) > 3*time.Second {
		t.Error(short.Until, err)
	}
	a.exec(map[string]any{"sandbox_id": short.ID, "cmd": "sleep 1000", "yield_time_ms": 250})
	longer := a.open(map[string]any{"ttl_ms": 4000, "name": "longer"})
	n.stop()
	m := startNetwork(t, n, "--default-sandbox", "on")
	c := m.client(annsToken)
	if got := c.exec(map[string]any{"sandbox_id": web.ID, "cmd": "cat f"}).Output; !strings.HasSuffix(got, "of web") {
		t.Errorf("after a restart: %q", got)
	}
	waitFor(t, "the time to live to end", func() bool {
		for _, o := range []opened{short, longer} {
			if !c.call("ls", map[string]any{"sandbox_id": o.ID}).IsError {
				return false
			}
		}
		return true
	})
	for _, o := range []opened{short, longer} {
		c.bad("session_not_found", "ls", map[string]any{"sandbox_id": o.ID})
		if _, err := os.Lstat(o.Root); !os.IsNotExist(err) {
			t.Error("its files are there:", err)
		}
	}
}

// workspaces counts those of the server.
func (n *network) workspaces() int {
	list, _ := filepath.Glob(filepath.Join(n.temp, "*"))
	return len(list)
}

// TestPrincipalLimits: limits of a principal's own in the token file, which follow it.
func TestPrincipalLimits(t *testing.T) {
	n := startNetwork(t, nil, "--max-sessions-per-principal", "3", "--limit-file-size", "1M", "--log-level", "info")
	file := filepath.Join(filepath.Dir(n.state), "tokens")
	write := func(lines ...string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(annsToken+" max-kept-per-principal=2 limit-file-size=2M", bobsToken, "@oauth:eve max-sessions-per-principal=1")
	if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the file to be read", func() bool { return strings.Contains(n.stderr.String(), "tokens reloaded") })
	a, b := n.client(annsToken), n.client(bobsToken)
	var of []string
	for _, c := range []*remote{a, a, b, b, b} {
		of = append(of, c.open(nil).ID)
	}
	a.bad("limit_reached", "session_open", nil)
	write3 := map[string]any{"cmd": "head -c 1500000 /dev/zero > f; stat -c %s f"}
	for i, want := range map[int]string{0: "1500000\n", 2: "1048576\n"} {
		write3["sandbox_id"] = of[i]
		if got := []*remote{a, nil, b}[i].exec(write3).Output; !strings.HasSuffix(got, want) {
			t.Errorf("%d: %q", i, got)
		}
	}
	l := principalLimits{general: &settings{limits: "best-effort"}}
	for _, bad := range []string{"root=/", "limit-memory=1", "max-kept-per-principal=0", "limit-tmp=x", "network=host"} {
		if err := l.read(map[string][]string{"ann": {bad}}); sandbox.CodeOf(err) != "invalid_argument" || l.of("ann") != (session.PrincipalLimits{}) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	write(annsToken + " root=/")
	if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "nobody to be admitted", func() bool {
		resp, _ := a.send("POST", `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		return resp.StatusCode == 401
	})
}
