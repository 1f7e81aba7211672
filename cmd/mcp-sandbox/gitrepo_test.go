package main

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGitRepoEntry fetches a repository by the host's git inside a real sandbox,
// over https, through the tunnel to the one host; and says what is wrong when
// the authority is not trusted. No clone is left behind.
func TestGitRepoEntry(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		t.Skip("a clone needs a network of its own, which this host cannot lend")
	}
	base := t.TempDir()
	openPath(t, base)
	script := `set -e; git init -q -b main work; cd work; echo from git > f; for f in key a.hid .env; do echo CANARY-7f3a > $f; done; git add .; git commit -q -m one; git clone -q --bare . ../o/n.git; git --exec-path`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = base
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	core, err := cmd.Output()
	if err != nil {
		t.Skipf("git does not work here: %v", err)
	}
	backend := filepath.Join(strings.TrimSpace(string(core)), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		t.Skip("git has no http backend here")
	}
	srv := httptest.NewTLSServer(&cgi.Handler{Path: backend, Stderr: io.Discard,
		Env: []string{"GIT_PROJECT_ROOT=" + base, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null"}})
	defer srv.Close()
	ca := filepath.Join(base, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	manifest := func(name string, trusted bool) string {
		m := map[string]any{"entries": map[string]any{"r": map[string]any{"type": "git_repo", "host": srv.Listener.Addr().String(), "repo": "o/n"}}}
		if trusted {
			m["environment"] = map[string]any{"GIT_SSL_CAINFO": ca}
			m["extra_path_grants"] = []any{map[string]any{"path": ca, "read_only": true}}
		}
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		p := filepath.Join(base, name)
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	temp := filepath.Join(base, "tmp")
	if err := os.Mkdir(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	start := func(manifest, line string, policy ...string) (string, error) {
		args := append([]string{"exec", "--state-dir", filepath.Join(base, "state"), "--confine", "namespaces", "--manifest", manifest}, policy...)
		cmd := exec.Command(binary, append(args, "--", line)...)
		cmd.Env = append(os.Environ(), "TMPDIR="+temp)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := start(manifest("good.json", true), "cat r/f; git -C r log --oneline | wc -l")
	if err != nil {
		if strings.Contains(out, "confinement_unavailable") {
			unconfinable(t, out)
		}
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(out, "from git\n1") {
		t.Errorf("%q", out)
	}
	// What the repository brings under a hidden name is hidden, and what the
	// workspace has stays.
	out, _ = start(manifest("good.json", true), "cat r/f r/key r/a.hid r/.env; rm -f r/key r/a.hid r/.env; mv r s; cat s/key s/a.hid s/.env",
		"--deny-read", "r/key", "--deny-read", "**/*.hid", "--deny-secrets")
	if !strings.Contains(out, "from git") || strings.Contains(out, secret) {
		t.Errorf("under a policy %q", out)
	}
	if out, _ = start(manifest("good.json", true), "cat r/f r/key; ls r", "--deny-read", "r"); strings.Contains(out, "from git") || strings.Contains(out, secret) {
		t.Errorf("with its place hidden %q", out)
	}
	ws := filepath.Join(base, "ws")
	if err := os.MkdirAll(ws+"/r", 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, ws+"/r/key", "own")
	put(t, ws+"/r/f", "own")
	_, _ = start(manifest("good.json", true), "cat r/f; echo x > r/f; echo x > r/a.hid; rm -f r/f", "--root", ws, "--deny-read", "r/key", "--protect", "r/f")
	expect(t, ws+"/r/key", "own")
	expect(t, ws+"/r/f", "own")
	out, err = start(manifest("bad.json", false), "true")
	if err == nil || !strings.Contains(out, "exec_failed: the entry \"r\": git could not fetch") || !strings.Contains(out, "certificate") {
		t.Errorf("%v\n%s", err, out)
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestGitAbove: a workspace that is a subdirectory of a repository says why git does
// not work there, and what to do; others say nothing.
func TestGitAbove(t *testing.T) {
	p := newGitProject(t).repository()
	top := p.dir
	p.write("pkg/lib/f", "f\n")
	for _, dir := range []string{"pkg/lib", "pkg/own"} {
		p.dir = filepath.Join(top, dir)
		if dir == "pkg/own" {
			p.dir = top
			p.must("init", "-q", dir)
			p.dir = filepath.Join(top, dir)
		}
		openPath(t, p.dir)
		above := dir == "pkg/lib"
		c := p.serve()
		o := c.exec(map[string]any{"cmd": "git status --short"})
		said := strings.Contains(strings.Join(o.Notices, ""), "whose top is ../..")
		if said != above || (*o.ExitCode == 0) == above || strings.Contains(strings.Join(o.Notices, ""), top) {
			t.Errorf("%s: exit %d, notices %q", dir, *o.ExitCode, o.Notices)
		}
		if got := c.ok("session_info", nil).text(); strings.Contains(got, "\ngit: the workspace is a subdirectory") != above {
			t.Errorf("%s: session_info: %s", dir, got)
		}
		if o := c.exec(map[string]any{"cmd": "cat /nowhere"}); len(o.Notices) != 0 {
			t.Errorf("%s: another failure: %q", dir, o.Notices)
		}
		c.stop()
		out, err := exec.Command(binary, "doctor", "--root", p.dir, "--state-dir", t.TempDir()).CombinedOutput()
		if err != nil || strings.Contains(string(out), "-> --root "+top+"\n") != above {
			t.Errorf("%s: doctor (%v): %s", dir, err, out)
		}
	}
}
