package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// fetch asks the session's proxy for a URL with nothing but a socket, so that no
// client's own idea of proxies stands between the test and the rules.
func fetch(url string) string {
	return fmt.Sprintf(`python3 - <<'PY'
import socket
s = socket.create_connection(("127.0.0.1", 3128), 5)
s.sendall(b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n")
out = b""
while True:
    b = s.recv(65536)
    if not b: break
    out += b
print(out.decode())
PY`, url, strings.SplitN(strings.TrimPrefix(url, "http://"), "/", 2)[0])
}

// TestAllowNetwork: what the rules name is reached through the proxy, nothing
// else by any way, the model is told, and a change of rules holds at once
// (AC-37, AC-40, AC-42).
func TestAllowNetwork(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		t.Skip("there is no network at all without namespaces, which TestNoNetworkWithoutNamespaces checks")
	}
	answer := func(text string) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }))
	}
	good, bad := answer("good host"), answer("forbidden host")
	defer good.Close()
	defer bad.Close()
	config := filepath.Join(t.TempDir(), "config.toml")
	rules := func(list string) {
		t.Helper()
		if err := os.WriteFile(config, []byte("network = \"allow\"\nallow-host = "+list+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rules(fmt.Sprintf("[%q]", strings.TrimPrefix(good.URL, "http://")))
	c := startServer(t, "--config", config)
	c.initialize("2025-11-25")
	if out := c.sh(fetch(good.URL + "/")); !strings.Contains(out, "good host") {
		t.Fatalf("the allowed host was not reached: %q", out)
	}
	r := c.ok("exec_command", map[string]any{"cmd": fetch(bad.URL + "/")})
	if strings.Contains(r.text(), "forbidden host") || !strings.Contains(r.text(), "is not allowed") || !strings.Contains(r.text(), "Note: network: ") {
		t.Fatalf("the other host: %s", r.text())
	}
	// No way around: not directly, not by address of another kind, not by name.
	_, port, err := net.SplitHostPort(strings.TrimPrefix(bad.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for _, try := range []string{
		"exec 3<>/dev/tcp/127.0.0.1/" + port, "exec 3<>/dev/tcp/1.1.1.1/80", "exec 3<>/dev/udp/1.1.1.1/53 && echo x >&3 && read -r -t 1 -u 3 x",
	} {
		if o := c.exec(map[string]any{"cmd": try, "shell": "bash"}); o.ExitCode == nil || *o.ExitCode == 0 {
			t.Errorf("%s went through: %+v", try, o)
		}
	}

	rules(fmt.Sprintf("[%q]", strings.TrimPrefix(bad.URL, "http://")))
	c.signal(syscall.SIGHUP)
	waitFor(t, "the new rules", func() bool { return strings.Contains(c.sh(fetch(bad.URL+"/")), "forbidden host") })
	if out := c.sh(fetch(good.URL + "/")); strings.Contains(out, "good host") {
		t.Error("the old rule still holds")
	}
	// A file that cannot be read closes.
	rules("[ broken")
	c.signal(syscall.SIGHUP)
	waitFor(t, "the network to close", func() bool { return !strings.Contains(c.sh(fetch(bad.URL+"/")), "forbidden host") })
}

// TestNoNetworkWithoutNamespaces: where the session cannot have a network of its
// own, an allow-list is refused, not left out.
func TestNoNetworkWithoutNamespaces(t *testing.T) {
	c := startServer(t, "--confine", "landlock", "--network", "allow", "--allow-host", "example.com")
	c.initialize("2025-11-25")
	r := c.call("exec_command", map[string]any{"cmd": "true"})
	if !r.IsError {
		t.Fatalf("it ran: %s", r.text())
	}
}

// TestHostNetworkIsSaidLoudly: the log at its default level, session_info and
// doctor warn that the network is the host's.
func TestHostNetworkIsSaidLoudly(t *testing.T) {
	const said = "network is shared by request"
	c := startServer(t, "--network", "host")
	c.initialize("2025-11-25")
	if text := c.ok("session_info", nil).text(); !strings.Contains(text, "warning: ") || !strings.Contains(text, said) {
		t.Errorf("session_info: %s", text)
	}
	c.stop()
	if log := c.stderr.String(); !strings.Contains(log, "level=WARN") || !strings.Contains(log, said) {
		t.Errorf("log: %s", log)
	}
	cmd := exec.Command(binary, "doctor", "--network", "host", "--state-dir", filepath.Join(t.TempDir(), "state"))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "warning: ") || !strings.Contains(string(out), said) {
		t.Errorf("doctor: %v\n%s", err, out)
	}
}
