package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// unixClient speaks HTTP over a socket file.
func unixClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
}

func healthy(c *http.Client) bool {
	resp, err := c.Get("http://anything/healthz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == 200
}

// startOn starts a server that listens somewhere else than startNetwork's.
func startOn(t *testing.T, cmd *exec.Cmd, base string) {
	t.Helper()
	cmd.Env = append(append(os.Environ(), cmd.Env...), "TMPDIR="+base)
	launchServer(t, cmd, "the server", func(log string) bool { return strings.Contains(log, "serves http on") })
}

// TestUnixSocket is AC-61: the socket is its owner's alone, one of a dead server
// is replaced, and nothing else at its path is touched.
func TestUnixSocket(t *testing.T) {
	base := t.TempDir()
	openPath(t, base)
	path, state := filepath.Join(base, "s.sock"), filepath.Join(base, "state")
	serve := func(listen string) *exec.Cmd {
		return exec.Command(binary, "serve", "--transport", "http", "--listen", listen, "--state-dir", state)
	}
	if out, err := serve("unix:s.sock").CombinedOutput(); err == nil {
		t.Errorf("a relative path: %s", out)
	}
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	startOn(t, serve("unix:"+path), base)
	if fi, err := os.Lstat(path); err != nil || fi.Mode() != os.ModeSocket|0o600 {
		t.Errorf("%v %v", fi.Mode(), err)
	}
	if !healthy(unixClient(path)) {
		t.Error("no answer")
	}
	// No token is asked for, a foreign page is refused all the same.
	r, _ := http.NewRequest(http.MethodPost, "http://anything/mcp", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`))
	r.Header.Set("Content-Type", "application/json")
	resp, err := unixClient(path).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Mcp-Session-Id") == "" {
		t.Error(resp.Status)
	}
	if out, err := serve("unix:" + path).CombinedOutput(); err == nil || !strings.Contains(string(out), "already") {
		t.Errorf("a second server: %v %s", err, out)
	}
	for what, make := range map[string]func(string) error{
		"a file":    func(p string) error { return os.WriteFile(p, []byte("mine"), 0o600) },
		"a symlink": func(p string) error { return os.Symlink(path, p) },
	} {
		p := filepath.Join(base, strings.ReplaceAll(what, " ", "-"))
		if err := make(p); err != nil {
			t.Fatal(err)
		}
		if out, err := serve("unix:" + p).CombinedOutput(); err == nil {
			t.Errorf("%s: %s", what, out)
		}
		if _, err := os.Lstat(p); err != nil {
			t.Errorf("%s was removed", what)
		}
	}
	loose := filepath.Join(base, "loose")
	if err := os.Mkdir(loose, 0o700); err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(loose, 0o777)
	if out, err := serve("unix:" + loose + "/s").CombinedOutput(); err == nil {
		t.Errorf("a directory open to others: %s", out)
	}
	if !healthy(unixClient(path)) {
		t.Error("no answer after all this")
	}
}

// TestUnixSocketPeer: another user is refused by the kernel's word, whatever the
// mode of the file.
func TestUnixSocketPeer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can become another user here; the mode alone is tested")
		return
	}
	base := t.TempDir()
	openPath(t, base)
	path := filepath.Join(base, "s.sock")
	startOn(t, exec.Command(binary, "serve", "--transport", "http", "--listen", "unix:"+path, "--state-dir", filepath.Join(base, "state")), base)
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	// This test, as another user: it dials and reports what it got.
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestHelperDial$", "-test.v")
	cmd.Env = append(os.Environ(), "MCP_SANDBOX_TEST_DIAL="+path, "MCP_SANDBOX_TEST_BIN=/bin/true")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if fi, err := os.Stat("/proc/self/exe"); err != nil || fi.Mode()&0o001 == 0 {
		t.Skip("the test binary is not for other users")
	}
	out, err := cmd.CombinedOutput()
	if !strings.Contains(string(out), "dial: refused") {
		t.Errorf("%v %s", err, out)
	}
	if !healthy(unixClient(path)) {
		t.Error("root is refused")
	}
}

// TestHelperDial is the other user of TestUnixSocketPeer.
func TestHelperDial(t *testing.T) {
	path := os.Getenv("MCP_SANDBOX_TEST_DIAL")
	if path == "" {
		return
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET /healthz HTTP/1.0\r\nHost: x\r\n\r\n")
	b, _ := io.ReadAll(c)
	if len(b) == 0 {
		t.Log("dial: refused")
		return
	}
	t.Logf("dial: answered %q", b)
}

// TestSocketActivation: a supervisor's socket is served, and it is told when the
// server is ready and when it stops.
func TestSocketActivation(t *testing.T) {
	base := t.TempDir()
	openPath(t, base)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	notes, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(base, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notes.Close()
	tokens := filepath.Join(base, "tokens")
	if err := os.WriteFile(tokens, []byte(annsToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"serve", "--transport", "http", "--listen", "systemd:", "--token-file", tokens, "--state-dir", filepath.Join(base, "state")}
	if out, err := exec.Command(binary, args...).CombinedOutput(); err == nil {
		t.Errorf("without a socket: %s", out)
	}
	t.Run("served", func(t *testing.T) {
		cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "sh", binary}, args...)...)
		cmd.Env = []string{"LISTEN_FDS=1", "NOTIFY_SOCKET=" + notes.LocalAddr().String()}
		cmd.ExtraFiles = []*os.File{f}
		startOn(t, cmd, base)
		if !healthyTCP(l.Addr().String()) {
			t.Error("no answer")
		}
	})
	got := ""
	b := make([]byte, 256)
	_ = notes.SetReadDeadline(time.Now().Add(patience))
	for !strings.Contains(got, "STOPPING=1") {
		n, err := notes.Read(b)
		if err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got += string(b[:n])
	}
	if !strings.HasPrefix(got, "READY=1") {
		t.Errorf("the supervisor was told %q", got)
	}
}

func healthyTCP(addr string) bool {
	defer http.DefaultClient.CloseIdleConnections()
	resp, err := http.Get("http://" + addr + "/healthz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == 200
}

// TestMetricsListener: what happened is counted, on a listener of its own that
// runs nothing; the log is JSON when asked.
func TestMetricsListener(t *testing.T) {
	n := startNetwork(t, nil, "--metrics-listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "info")
	c := n.session(annsToken)
	c.sh("seq 100000 >&2; sleep 0.1")
	c.bad("not_found", "read_file", map[string]any{"path": "none"})
	n.client("x:wrong").send(http.MethodPost, "{}")
	m := regexp.MustCompile(`"msg":"metrics","address":"([^"]+)"`).FindStringSubmatch(n.stderr.String())
	if m == nil {
		t.Fatalf("no address in the log: %s", n.stderr)
	}
	get := func(path, host string) (int, string) {
		r, _ := http.NewRequest(http.MethodGet, "http://"+m[1]+path, nil)
		if host != "" {
			r.Host = host
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	_, text := get("/metrics", "")
	for _, want := range []string{
		`mcp_sandbox_calls_total{tool="exec_command",code="ok"} 1`,
		`mcp_sandbox_calls_total{tool="read_file",code="not_found"} 1`,
		`mcp_sandbox_call_seconds_count{tool="exec_command"} 1`,
		`mcp_sandbox_denials_total{kind="auth"} 1`,
		"mcp_sandbox_sessions 1", "mcp_sandbox_processes 0", "mcp_sandbox_sessions_suspended_total 0", "mcp_sandbox_sessions_lost_total 0", "mcp_sandbox_checkpoints_failed_total 0", "mcp_sandbox_audit_lost_total 0",
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, name := range []string{"cpu_seconds_total", "start_time_seconds", "max_fds", "open_fds", "resident_memory_bytes", "virtual_memory_bytes"} {
		if !regexp.MustCompile(`(?m)^process_` + name + ` [1-9]|^process_` + name + ` 0\.`).MatchString(text) {
			t.Errorf("no process_%s in\n%s", name, text)
		}
	}
	if strings.Contains(text, "mcp_sandbox_tokens_cut_total 0\n") {
		t.Error("no cut token was counted")
	}
	if code, _ := get("/metrics", "evil.test"); code != 403 {
		t.Errorf("through another name: %d", code)
	}
	if code, _ := get("/mcp", ""); code != 404 {
		t.Errorf("the endpoint on the metrics' listener: %d", code)
	}
	c.end()
}
