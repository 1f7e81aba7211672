package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func nginxPath(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("nginx"); err == nil {
		return path
	}
	const path = "/usr/sbin/nginx" // not on the path of ordinary users
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("MCP_SANDBOX_TEST_NOSKIP") == "1" {
			t.Fatal("nginx is missing")
		}
		t.Skip("nginx is missing")
	}
	return path
}

// proxy is Debian's nginx in front of servers, with the routes we ship. The
// answer says in X-Upstream which server gave it.
func startProxy(t *testing.T, routes string, servers ...*network) (url string) {
	t.Helper()
	nginx := nginxPath(t)
	affinity, err := filepath.Abs(filepath.Join("../../packaging/nginx", routes))
	if err != nil {
		t.Fatal(err)
	}
	// nginx cannot be asked for a port, so one that was free a moment ago is it.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir, upstream := t.TempDir(), ""
	for _, n := range servers {
		upstream += fmt.Sprintf("server %s max_fails=1 fail_timeout=10s;\n", n.url[len("http://"):])
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	include %[2]s;
	upstream servers {
		hash $mcp_sandbox_route consistent;
		%[3]s
	}
	server {
		listen %[4]s;
		client_max_body_size 16m;
		location / {
			proxy_pass http://servers;
			proxy_http_version 1.1;
			proxy_buffering off;
			proxy_set_header Host $host;
			proxy_set_header Mcp-Sandbox-Route $request_id;
			proxy_next_upstream error timeout;
			proxy_intercept_errors on;
			error_page 503 = @elsewhere;
			error_page 502 504 = @lost;
			add_header X-Upstream $upstream_addr always;
		}
		location @lost {
			default_type application/json;
			return 502 '{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"the server of this call was lost"}}';
		}
		location @elsewhere {
			proxy_pass http://elsewhere;
			proxy_http_version 1.1;
			proxy_buffering off;
			proxy_set_header Host $host;
			proxy_set_header Mcp-Sandbox-Route $request_id;
			proxy_next_upstream http_503 non_idempotent;
			add_header X-Upstream $upstream_addr always;
		}
	}
	upstream elsewhere {
		%[3]s
	}
}
`, dir, affinity, upstream, addr)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	stderr, _ := launchServer(t, exec.Command(nginx, "-p", dir, "-c", conf), "nginx", func(string) bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("nginx: %s", stderr)
		}
	})
	return "http://" + addr
}

// TestRoutingOverTwoServers: behind a stock proxy every request of a session, its
// initialize among them, goes to one of two servers. When that one is killed, its
// clients go on at the other with their files and the ids they have, and the
// other's clients notice nothing.
func TestRoutingOverTwoServers(t *testing.T) {
	one := startNetwork(t, nil)
	// A directory for temporary files of its own, so that each is seen to clean up.
	temp := t.TempDir()
	openPath(t, temp)
	two := startNetwork(t, &network{state: one.state, temp: temp})
	front := &network{t: t, url: startProxy(t, "affinity-sessions.conf", one, two), stderr: one.stderr}
	name := map[string]*network{one.url: one, two.url: two}
	where := func(c *remote) *network {
		t.Helper()
		resp, body := c.send(http.MethodPost, `{"jsonrpc":"2.0","id":"where","method":"tools/list"}`)
		n := name["http://"+resp.Header.Get("X-Upstream")]
		if n == nil || resp.StatusCode != 200 {
			t.Fatalf("%s from %q: %s", resp.Status, resp.Header.Get("X-Upstream"), body)
		}
		return n
	}

	// Each initialize may go to either, so there are some until both have two.
	held := map[*network][]*remote{}
	for i := range 60 {
		if len(held[one]) == 2 && len(held[two]) == 2 {
			break
		}
		c := front.client([]string{annsToken, bobsToken}[i%2])
		resp, body := c.send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`)
		if c.session = resp.Header.Get("Mcp-Session-Id"); c.session == "" {
			t.Fatalf("initialize: %s %s", resp.Status, body)
		}
		n := name["http://"+resp.Header.Get("X-Upstream")]
		for range 3 {
			if got := where(c); got != n {
				t.Fatalf("session %s was made at %s, its next request went to %s", c.session, n.url, got.url)
			}
		}
		if len(held[n]) < 2 {
			c.sh("echo " + c.session + " > f")
			held[n] = append(held[n], c)
		}
	}
	if len(held[one]) != 2 || len(held[two]) != 2 {
		t.Fatalf("%d sessions at one server, %d at the other", len(held[one]), len(held[two]))
	}
	// Without sessions, a principal's requests stay together.
	modern := map[*remote]string{}
	for _, token := range []string{annsToken, bobsToken} {
		c := front.client(token)
		var o struct {
			ID string `json:"sandbox_id"`
		}
		if err := json.Unmarshal(c.call("session_open", nil).Structured, &o); err != nil || o.ID == "" {
			t.Fatalf("%v %+v", err, o)
		}
		modern[c] = o.ID
		for range 3 {
			if out := c.exec(map[string]any{"sandbox_id": o.ID, "cmd": "echo line >> f"}); out.ExitCode == nil || *out.ExitCode != 0 {
				t.Fatalf("%+v", out)
			}
		}
	}
	// What runs when its server is killed is lost, and nothing else.
	lost := held[one][0].exec(map[string]any{"cmd": "sleep 1000", "yield_time_ms": 250})
	kept := held[two][0].exec(map[string]any{"cmd": "sleep 1000", "yield_time_ms": 250})
	if lost.SessionID == nil || kept.SessionID == nil {
		t.Fatalf("%+v %+v", lost, kept)
	}

	cut := make(chan string, 1)
	go func() {
		_, body, headers := held[one][0].message("exec_command", map[string]any{"cmd": "touch begun; sleep 1000"})
		resp, text := held[one][0].send(http.MethodPost, body, headers...)
		cut <- resp.Status + resp.Header.Get("Content-Type") + text
	}()
	waitFor(t, "the call to run", func() bool { return held[one][0].exec(map[string]any{"cmd": "ls"}).Output == "begun\nf\n" })
	if err := one.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-one.ended
	if got := <-cut; !strings.HasPrefix(got, `502 Bad Gatewayapplication/json{"jsonrpc"`) {
		t.Errorf("a call whose server was killed: %s", got)
	}
	for n, clients := range held {
		for i, c := range clients {
			if got := c.sh("cat f; echo more >> f"); got != c.session+"\n" {
				t.Errorf("session %d of %s: %q", i, n.url, got)
			}
			if where(c) != two {
				t.Errorf("session %d of %s is not at the server that is left", i, n.url)
			}
		}
	}
	held[one][0].bad("process_not_found", "kill_process", map[string]any{"session_id": *lost.SessionID})
	if res := held[two][0].call("kill_process", map[string]any{"session_id": *kept.SessionID}); res.IsError {
		t.Errorf("the other server's process: %s", res.text())
	}
	for c, id := range modern {
		if got := c.exec(map[string]any{"sandbox_id": id, "cmd": "cat f"}).Output; got != "line\nline\nline\n" {
			t.Errorf("a sandbox by name: %q", got)
		}
		if res := c.call("session_close", map[string]any{"sandbox_id": id}); res.IsError {
			t.Error(res.text())
		}
	}
	for _, clients := range held {
		for _, c := range clients {
			c.end()
		}
	}
	two.stop()
	two.assertEmpty()
	one.assertEmpty()
}

// TestRoutingDefaultSandboxes: with default sandboxes a token's requests to one
// address stay at one server, whatever their protocol, and names spread.
func TestRoutingDefaultSandboxes(t *testing.T) {
	one := startNetwork(t, nil, "--default-sandbox", "on")
	temp := t.TempDir()
	openPath(t, temp)
	two := startNetwork(t, &network{state: one.state, temp: temp}, "--default-sandbox", "on")
	front := &network{t: t, url: startProxy(t, "affinity.conf", one, two), stderr: one.stderr}
	used := map[string]bool{}
	for i := range 16 {
		path := ""
		if i > 0 {
			path = fmt.Sprintf("/mcp/n%d", i)
		}
		legacy := front.sessionAt(annsToken, path)
		modern := front.client(annsToken)
		modern.path = path
		servers := map[string]bool{}
		for _, c := range []*remote{legacy, modern, front.sessionAt(annsToken, path)} {
			_, body, headers := c.message("session_info", nil)
			resp, body := c.send(http.MethodPost, body, headers...)
			if resp.StatusCode != 200 {
				t.Fatalf("%s %s", resp.Status, body)
			}
			servers[resp.Header.Get("X-Upstream")] = true
			used[resp.Header.Get("X-Upstream")] = true
		}
		if len(servers) != 1 {
			t.Errorf("%q is at %v", path, servers)
		}
		if i == 0 {
			legacy.sh("echo one > f")
			if got := modern.sh("cat f"); got != "one\n" {
				t.Errorf("%q", got)
			}
		}
		if res := modern.call("session_close", nil); res.IsError {
			t.Error(res.text())
		}
	}
	if len(used) != 2 {
		t.Errorf("all names are at %v", used)
	}
}

// TestSessionComesBack: a session that went on at another server while its own
// was away is that one's until it was quiet there, and then comes back with its
// files.
func TestSessionComesBack(t *testing.T) {
	other := startNetwork(t, nil, "--session-idle", "1s")
	temp := t.TempDir()
	openPath(t, temp)
	own := startNetwork(t, &network{state: other.state, temp: temp})
	there := other.session(annsToken)
	there.sh("echo kept > f")
	job := there.exec(map[string]any{"cmd": "sleep 1000", "yield_time_ms": 250})
	back := own.client(annsToken)
	back.session = there.session
	refused := func(r *remote) bool {
		_, body, headers := r.message("ls", map[string]any{"path": "."})
		resp, text := r.send(http.MethodPost, body, headers...)
		if resp.StatusCode == http.StatusServiceUnavailable && (resp.Header.Get("Retry-After") == "" || !strings.Contains(text, "in use at another server")) {
			t.Errorf("%s %v %q", resp.Status, resp.Header, text)
		}
		return resp.StatusCode == http.StatusServiceUnavailable
	}
	if !refused(back) {
		t.Error("two servers have one session")
	}
	if res := there.call("kill_process", map[string]any{"session_id": *job.SessionID}); res.IsError {
		t.Fatal(res.text())
	}
	waitFor(t, "the session to come back", func() bool { return !refused(back) })
	if got := back.sh("cat f"); got != "kept\n" {
		t.Errorf("%q", got)
	}
	if !refused(there) {
		t.Error("two servers have one session")
	}
	back.end()
}

// TestProxyFindsTheHolder: a call that nginx sends to a server that does not hold
// the session is refused with 503 before anything was done, and goes on to the one
// that does.
func TestProxyFindsTheHolder(t *testing.T) {
	holder := startNetwork(t, nil)
	temp := t.TempDir()
	openPath(t, temp)
	other := startNetwork(t, &network{state: holder.state, temp: temp})
	url := startProxy(t, "affinity-sessions.conf", holder, other)
	found := false
	for range 16 {
		r := holder.session(annsToken)
		r.sh("echo mine > f")
		through := (&network{t: t, url: url, stderr: holder.stderr}).client(annsToken)
		through.session = r.session
		_, body, headers := through.message("exec_command", map[string]any{"cmd": "cat f; echo once >> log"})
		resp, text := through.send(http.MethodPost, body, headers...)
		if resp.StatusCode != 200 || !strings.Contains(text, "mine") {
			t.Fatalf("%s by %s: %s", resp.Status, resp.Header.Get("X-Upstream"), text)
		}
		if got := r.sh("cat log"); got != "once\n" {
			t.Fatalf("it ran %q", got)
		}
		found = found || strings.Contains(resp.Header.Get("X-Upstream"), other.url[len("http://"):])
		r.end()
		if found {
			break
		}
	}
	if !found {
		t.Error("nginx sent no call to the other server first")
	}
}

// TestUnknownWithoutSharedState: a server with the same key and a state directory
// of its own does not take the other's ids for new, empty sessions.
func TestUnknownWithoutSharedState(t *testing.T) {
	for _, sandboxes := range []string{"off", "on"} {
		a := startNetwork(t, nil, "--default-sandbox", sandboxes)
		key, err := os.ReadFile(filepath.Join(a.state, "key"))
		if err != nil {
			t.Fatal(err)
		}
		temp, state := t.TempDir(), filepath.Join(t.TempDir(), "state")
		openPath(t, temp)
		if err := os.Mkdir(state, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(state, "key"), key, 0o600); err != nil {
			t.Fatal(err)
		}
		b := startNetwork(t, &network{state: state, temp: temp}, "--default-sandbox", sandboxes)
		r := a.session(annsToken)
		r.sh("echo mine > f")
		moved := b.client(annsToken)
		moved.session = r.session
		_, body, headers := moved.message("ls", map[string]any{"path": "."})
		if resp, text := moved.send(http.MethodPost, body, headers...); resp.StatusCode != http.StatusNotFound {
			t.Errorf("default sandbox %s: %s %s", sandboxes, resp.Status, text)
		}
		if got := r.sh("cat f"); got != "mine\n" {
			t.Errorf("%q", got)
		}
	}
}

// TestResumedIsTold: the first result after a resume says from what and what did
// not come back, as text, as a field and in the metrics, and only the first.
func TestResumedIsTold(t *testing.T) {
	told := func(t *testing.T, r *remote, tool string, args map[string]any, from, says string) {
		t.Helper()
		res := r.call(tool, args)
		var o struct {
			Resumed *struct {
				From     string   `json:"from"`
				Snapshot string   `json:"snapshot_id"`
				Time     string   `json:"time"`
				Lost     []string `json:"lost"`
			} `json:"resumed"`
		}
		if err := json.Unmarshal(res.Structured, &o); err != nil || o.Resumed == nil || o.Resumed.From != from || len(o.Resumed.Lost) == 0 || !strings.Contains(res.text(), says) {
			t.Errorf("%s: %v %s\n%s", tool, err, res.Structured, res.text())
		}
		if from == "snapshot" && (o.Resumed.Snapshot == "" || o.Resumed.Time == "") {
			t.Errorf("%+v", o.Resumed)
		}
		if again := r.call(tool, args); strings.Contains(string(again.Structured)+again.text(), "resumed") {
			t.Errorf("told twice: %s", again.text())
		}
	}
	n := startNetwork(t, nil)
	r := n.session(annsToken)
	if first := r.call("ls", map[string]any{"path": "."}); strings.Contains(string(first.Structured)+first.text(), "resumed") {
		t.Errorf("a new session: %s", first.text())
	}
	r.sh("echo kept > f")
	workspace := strings.TrimSpace(r.sh("pwd"))
	n.stop()
	n = startNetwork(t, n, "--metrics-listen", "127.0.0.1:0", "--log-level", "info")
	r.n = n
	told(t, r, "ls", map[string]any{"path": "."}, "workspace", "this session was resumed: its files are as they were last written; processes that ran in it have ended, /tmp is empty")
	metrics := regexp.MustCompile(`msg=metrics address=(\S+)`).FindStringSubmatch(n.stderr.String())
	if metrics == nil {
		t.Fatal(n.stderr)
	}
	resp, err := http.Get("http://" + metrics[1] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	for _, series := range []string{
		`mcp_sandbox_sessions_resumed_total{from="workspace"} 1`, "mcp_sandbox_sessions_suspended_total 0", "mcp_sandbox_sessions_lost_total 0",
		"mcp_sandbox_checkpoints_failed_total 0", "mcp_sandbox_audit_lost_total 0", "# TYPE process_cpu_seconds_total counter", "process_open_fds ",
	} {
		if !strings.Contains(string(text), series) {
			t.Errorf("no %s in %s", series, text)
		}
	}
	n.stop()
	if err := os.RemoveAll(workspace); err != nil {
		t.Fatal(err)
	}
	n = startNetwork(t, n)
	r.n = n
	told(t, r, "exec_command", map[string]any{"cmd": "cat f"}, "snapshot", "later changes are lost")
	r.end()
}
