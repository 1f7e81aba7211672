package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// needsOwnNetwork skips where there can be no network of a session's own.
func needsOwnNetwork(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		t.Skip("there is no network at all without namespaces, which TestNoNetworkWithoutNamespaces checks")
	}
}

// canElicit says hello as a client that can ask its user.
func (c *client) canElicit() {
	c.t.Helper()
	c.request("initialize", map[string]any{
		"protocolVersion": "2025-11-25", "capabilities": map[string]any{"elicitation": map[string]any{}},
		"clientInfo": map[string]any{"name": "test", "version": "1"},
	})
	c.raw(`{"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n")
}

// answering gives each question the answer that fits it, until the test ends, and
// a function that lists what was asked.
func (c *client) answering(answer func(question string) string) (asked func() []string) {
	all := make(chan []string, 1)
	all <- nil
	go func() {
		for {
			select {
			case m := <-c.noteCh:
				if m.Method != "elicitation/create" {
					continue
				}
				var p struct{ Message string }
				_ = json.Unmarshal(m.Params, &p)
				all <- append(<-all, p.Message)
				c.raw(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,%s}`+"\n", m.ID, answer(p.Message)))
			case <-c.closed:
				return
			}
		}
	}()
	return func() []string {
		l := <-all
		all <- l
		return slices.Clone(l)
	}
}

// TestElicitHosts: a host that no rule names is put to the user, once; what was
// accepted gets past the rules, what was not stays denied; private addresses are
// never offered, and every answer is in the audit log. Names below .onion are
// never looked up by the system's resolver (RFC 7686), so that "could not
// resolve" is as far as an accepted one gets here.
func TestElicitHosts(t *testing.T) {
	needsOwnNetwork(t)
	audit := filepath.Join(t.TempDir(), "audit.jsonl")
	c := startServer(t, "--network", "allow", "--elicit-hosts", "--audit-log", audit)
	c.canElicit()
	asked := c.answering(func(q string) string {
		switch {
		case strings.Contains(q, "yes.onion"):
			return `"result":{"action":"accept","content":{}}`
		case strings.Contains(q, "broken.onion"):
			return `"error":{"code":-32603,"message":"no window"}`
		case strings.Contains(q, "cancel.onion"):
			return `"result":{"action":"cancel"}`
		}
		return `"result":{"action":"decline"}`
	})
	for host, want := range map[string]string{
		"yes.onion": "could not resolve", "no.onion": "asked once", "cancel.onion": "asked once", "broken.onion": "asked once",
	} {
		for range 2 {
			if out := c.sh(fetch("http://" + host + "/")); !strings.Contains(out, want) {
				t.Errorf("%s: %q does not say %q", host, out, want)
			}
		}
	}
	if got := asked(); len(got) != 4 || !slices.Contains(got, "A command in the sandbox wants to connect to yes.onion:80, which no rule allows. Allow yes.onion:80 for this session?") {
		t.Errorf("asked %q", got)
	}
	for _, host := range []string{"127.0.0.1:9", "10.0.0.1", "169.254.169.254", "[::1]:9", "localhost:9", "metadata.google.internal"} {
		if out := c.sh(fetch("http://" + host + "/")); !strings.Contains(out, "is not allowed") {
			t.Errorf("%s: %q", host, out)
		}
	}
	if n := len(asked()); n != 4 {
		t.Errorf("asked %q", asked())
	}
	records, _ := auditRecords(t, audit)
	answers, denied := map[string]int{}, map[string]int{}
	for _, r := range records {
		switch {
		case r.Op == "network.ask" && r.Phase == "finish":
			answers[fmt.Sprint(r.Data["answer"])]++
		case r.Op == "network.denied" && r.Phase == "event" && r.ErrorCode == "host_not_allowed" && r.Session != "":
			denied[fmt.Sprint(r.Data["host"])]++
		}
	}
	if answers["accept"] != 1 || answers["refuse"] != 3 {
		t.Errorf("answers in the log: %v", answers)
	}
	if denied["no.onion"] != 2 || denied["yes.onion"] != 0 || denied["10.0.0.1"] != 1 {
		t.Errorf("denials in the log: %v", denied)
	}
}

// TestElicitOverHTTP: the question comes on the stream of the call that waits, and
// its answer as a request of its own. A client of protocol 2026-07-28 cannot be
// asked, and its host stays denied.
func TestElicitOverHTTP(t *testing.T) {
	needsOwnNetwork(t)
	n := startNetwork(t, nil, "--network", "allow", "--elicit-hosts")
	r := n.client(annsToken)
	resp, body := r.send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{}},"clientInfo":{"name":"test","version":"1"}}}`)
	if r.session = resp.Header.Get("Mcp-Session-Id"); r.session == "" {
		t.Fatalf("initialize: %s %s", resp.Status, body)
	}
	r.next.Store(1)
	for i, want := range []string{"could not resolve", "asked once"} {
		host := fmt.Sprintf("host%d.onion", i)
		action := []string{"accept", "decline"}[i]
		id, body, headers := r.message("exec_command", map[string]any{"cmd": fetch("http://" + host + "/")})
		resp, err := http.DefaultClient.Do(r.request(t.Context(), http.MethodPost, body, headers...))
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		text := ""
		for sc := bufio.NewScanner(resp.Body); sc.Scan() && text == ""; {
			data, ok := strings.CutPrefix(sc.Text(), "data: ")
			if !ok {
				continue
			}
			var m message
			if err := json.Unmarshal([]byte(data), &m); err != nil {
				t.Fatalf("%q: %v", data, err)
			}
			switch {
			case m.Method == "elicitation/create" && strings.Contains(string(m.Params), host):
				asked++
				if got, text := r.send(http.MethodPost, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"action":%q}}`, m.ID, action)); got.StatusCode >= 300 {
					t.Fatalf("the answer: %s %s", got.Status, text)
				}
			case string(m.ID) == fmt.Sprint(id):
				text = data
			}
		}
		resp.Body.Close()
		if asked != 1 || !strings.Contains(text, want) {
			t.Errorf("%s: asked %d times, %s", host, asked, text)
		}
	}
	r.end()

	modern := n.client(bobsToken)
	var opened struct {
		SandboxID string `json:"sandbox_id"`
	}
	if err := json.Unmarshal(modern.call("session_open", map[string]any{}).Structured, &opened); err != nil {
		t.Fatal(err)
	}
	if out := modern.exec(map[string]any{"cmd": fetch("http://host0.onion/"), "sandbox_id": opened.SandboxID}).Output; !strings.Contains(out, "the allow list is empty") {
		t.Errorf("2026-07-28: %q", out)
	}
	modern.call("session_close", map[string]any{"sandbox_id": opened.SandboxID})
	n.stop()
	n.assertEmpty()
}

// TestElicitOff: nobody is asked without the setting, nor a client that cannot. A list
// that allows nothing is warned of at the start, unless the user is to be asked.
func TestElicitOff(t *testing.T) {
	needsOwnNetwork(t)
	for name, start := range map[string]func() *client{
		"not set": func() *client { c := startServer(t, "--network", "allow"); c.canElicit(); return c },
		"not able": func() *client {
			c := startServer(t, "--network", "allow", "--elicit-hosts")
			c.initialize("2025-11-25")
			return c
		},
		"cannot now": func() *client {
			c := startServer(t, "--network", "allow", "--elicit-hosts")
			c.initialize("2024-11-05")
			return c
		},
	} {
		c := start()
		asked := c.answering(func(string) string { return `"result":{"action":"accept"}` })
		if out := c.sh(fetch("http://yes.onion/")); !strings.Contains(out, "the allow list is empty") || strings.Contains(out, "asked once") {
			t.Errorf("%s: %q", name, out)
		}
		if got := asked(); len(got) != 0 {
			t.Errorf("%s: asked %q", name, got)
		}
		c.stop()
		if log := c.stderr.String(); strings.Contains(log, "--network allow has no host to allow") != (name == "not set") || name == "not set" && !strings.Contains(log, "--allow-host") {
			t.Errorf("%s: log: %s", name, log)
		}
	}
}

// TestNetworkLimits: at a limit the model is told which setting raises it.
func TestNetworkLimits(t *testing.T) {
	needsOwnNetwork(t)
	big := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 1<<20))
	}))
	defer big.Close()
	c := startServer(t, "--network", "allow", "--allow-host", strings.TrimPrefix(big.URL, "http://"), "--limit-net-bytes", "64K", "--limit-net-conns", "2")
	c.initialize("2025-11-25")
	r := c.ok("exec_command", map[string]any{"cmd": "(" + fetch(big.URL+"/") + "\n) 2>&1 | wc -c"})
	if !strings.Contains(r.text(), "Note: network: ") || !strings.Contains(r.text(), "--limit-net-bytes") || !strings.Contains(r.text(), "65536 bytes") {
		t.Errorf("bytes: %s", r.text())
	}
	r = c.ok("exec_command", map[string]any{"cmd": `python3 - <<'PY'
import socket
held = [socket.create_connection(("127.0.0.1", 3128), 5) for i in range(2)]
s = socket.create_connection(("127.0.0.1", 3128), 5)
print(s.recv(100).decode())
PY`})
	if !strings.Contains(r.text(), "503") || !strings.Contains(r.text(), "start the server with a larger --limit-net-conns") {
		t.Errorf("connections: %s", r.text())
	}
}

// TestNetworkDenialsAreCounted: each is one in the metrics, as is what was carried.
func TestNetworkDenialsAreCounted(t *testing.T) {
	needsOwnNetwork(t)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 100_000)) }))
	defer site.Close()
	n := startNetwork(t, nil, "--network", "allow", "--allow-host", strings.TrimPrefix(site.URL, "http://"), "--metrics-listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "info")
	c := n.session(annsToken)
	c.sh(fetch(site.URL))
	for range 2 {
		c.sh(fetch("http://no.onion/"))
	}
	m := regexp.MustCompile(`"msg":"metrics","address":"([^"]+)"`).FindStringSubmatch(n.stderr.String())
	if m == nil {
		t.Fatalf("no address in the log: %s", n.stderr)
	}
	resp, err := http.Get("http://" + m[1] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	for _, want := range []string{`mcp_sandbox_denials_total\{kind="network"\} 2`, `mcp_sandbox_egress_bytes_total 1\d{5}`, `mcp_sandbox_egress_connections_total [1-9]`, `mcp_sandbox_egress_connections \d`, `mcp_sandbox_http_connections [1-9]`} {
		if !regexp.MustCompile(`(?m)^` + want).Match(text) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	c.end()
}
