package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type auditRecord struct {
	Seq       int            `json:"seq"`
	Session   string         `json:"session_id"`
	Op        string         `json:"op"`
	Phase     string         `json:"phase"`
	Span      string         `json:"span_id"`
	OK        *bool          `json:"ok"`
	ErrorCode string         `json:"error_code"`
	Data      map[string]any `json:"data"`
}

func auditRecords(t *testing.T, path string) ([]auditRecord, string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []auditRecord
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		var r auditRecord
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			t.Fatalf("%q: %v", sc.Text(), err)
		}
		out = append(out, r)
	}
	return out, string(b)
}

// TestAuditEveryTool calls each tool that is offered, with a mark in everything
// that is content: each leaves a start and a finish, and none the mark.
func TestAuditEveryTool(t *testing.T) {
	const mark = "c4nary-content"
	log := filepath.Join(t.TempDir(), "audit.jsonl")
	c := startServer(t, "--audit-log", log, "--expose", "any", "--env", "API_TOKEN=c4nary-content-token")
	c.initialize("2025-06-18")
	c.sh("cat > f <<'EOF'\n" + mark + "\nEOF\ncp f g; tar cf a.tar f")
	session := c.exec(map[string]any{"cmd": "cat; echo " + `"$API_TOKEN"`, "keep_stdin": true, "yield_time_ms": 250})
	if session.SessionID == nil {
		t.Fatalf("%+v", session)
	}
	id := *session.SessionID
	// Arguments by name, so that a tool that comes later is called too.
	values := map[string]any{
		"cmd": "printenv API_TOKEN; curl -H 'Authorization: Bearer c4nary-content-header' -u me:c4nary-content-pw x || true",
		"env": map[string]any{"X": mark}, "stdin": mark, "chars": mark + "\n", "content": mark, "old_text": mark, "new_text": mark + "2",
		"patch":   "*** Begin Patch\n*** Add File: added\n+" + mark + "\n*** End Patch\n",
		"pattern": "*", "path": "f", "destination": "moved", "session_id": id, "output_id": "none", "port": 8000, "snapshot_id": "none",
	}
	perTool := map[string]map[string]any{
		"exec_command":    {"stdin": values["stdin"], "env": values["env"]},
		"mkdir":           {"path": "made"},
		"rm":              {"path": "g"},
		"mv":              {"path": "moved-from"},
		"extract_archive": {"path": "a.tar", "destination": "out"},
		"write_stdin":     {"chars": values["chars"]},
		"search_text":     {"pattern": "x"},
	}
	var list struct {
		Tools []struct {
			Name        string `json:"name"`
			InputSchema struct {
				Required []string `json:"required"`
			} `json:"inputSchema"`
		} `json:"tools"`
	}
	if err := json.Unmarshal(c.request("tools/list", map[string]any{}).Result, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Tools) < 20 {
		t.Fatalf("only %d tools", len(list.Tools))
	}
	for _, tool := range list.Tools {
		args := map[string]any{}
		for _, name := range tool.InputSchema.Required {
			if args[name] = values[name]; args[name] == nil {
				t.Errorf("%s needs %s, which this test does not know", tool.Name, name)
			}
		}
		for name, v := range perTool[tool.Name] {
			args[name] = v
		}
		c.call(tool.Name, args)
		c.bad("invalid_argument", tool.Name, map[string]any{"dry_run": mark})
	}
	c.call("write_stdin", map[string]any{"session_id": id, "chars": "\u0003"})
	c.stop()

	records, text := auditRecords(t, log)
	if i := strings.Index(text, mark); i >= 0 {
		t.Errorf("content is in the log: ...%s...", text[max(0, i-200):min(len(text), i+100)])
	}
	if fi, err := os.Stat(log); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", fi.Mode(), err)
	}
	open := map[string]auditRecord{}
	done, refused := map[string]bool{}, map[string]bool{}
	for i, r := range records {
		if r.Seq != i+1 {
			t.Fatalf("record %d has number %d", i+1, r.Seq)
		}
		if r.Phase == "start" {
			open[r.Span] = r
			continue
		}
		if open[r.Span].Op != r.Op || r.OK == nil || r.Session == "" {
			t.Errorf("a finish without its start: %+v", r)
		}
		delete(open, r.Span)
		done[r.Op] = true
		refused[r.Op] = refused[r.Op] || r.ErrorCode == "invalid_argument" && !*r.OK
	}
	if len(open) > 0 {
		t.Errorf("starts without a finish: %v", open)
	}
	for _, tool := range list.Tools {
		if !done[tool.Name] || !refused[tool.Name] {
			t.Errorf("%s: recorded %v, its refusal %v", tool.Name, done[tool.Name], refused[tool.Name])
		}
	}
	for _, want := range []string{`"cmd":{`, `"exit_code":0`, `"chars":{"bytes":15}`, `"chars":"\"\\x03\""`, `"path":"a.tar"`, `session.start`, `session.close`} {
		if !strings.Contains(text, want) {
			t.Errorf("the log has no %s", want)
		}
	}
}

// TestAuditOutOfReach: a log that a session could write is refused, and one that
// cannot be written costs nothing unless it must be.
func TestAuditOutOfReach(t *testing.T) {
	dir := t.TempDir()
	openPath(t, dir)
	if err := os.Mkdir(filepath.Join(dir, "w"), 0o755); err != nil {
		t.Fatal(err)
	}
	full := "/dev/full"
	if _, err := os.Stat(full); err != nil {
		t.Skip("no /dev/full")
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--root", filepath.Join(dir, "w"), "--audit-log", filepath.Join(dir, "w", "log")}, "lies where commands"},
		{[]string{"--write", dir, "--audit-log", filepath.Join(dir, "log")}, "lies where commands"},
		{[]string{"--audit-log", full}, "permission_denied"},
		{[]string{"--audit-strict"}, "without --audit-log"},
	} {
		args := append([]string{"exec", "--state-dir", filepath.Join(dir, "state")}, append(tc.args, "--", "true")...)
		out, err := exec.Command(binary, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), tc.want) {
			t.Errorf("%v: %v %s", tc.args, err, out)
		}
	}

	// A collector that is not there.
	down := "http://127.0.0.1:1/audit"
	c := startServer(t, "--audit-log", down)
	c.initialize("2025-06-18")
	if c.sh("echo fine") != "fine\n" {
		t.Error("a call was broken")
	}
	c = startServer(t, "--audit-log", down, "--audit-strict")
	c.initialize("2025-06-18")
	if text := c.bad("internal", "ls", map[string]any{}); !strings.Contains(text, "audit log") {
		t.Errorf("%q", text)
	}
}

// TestExposedPort reaches a server inside a real sandbox, which has a network of
// its own, and no longer when the session is over.
func TestExposedPort(t *testing.T) {
	c := startServer(t, "--expose", "18080")
	c.initialize("2025-06-18")
	c.bad("port_not_exposed", "expose_port", map[string]any{"port": 18081})
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		c.bad("confinement_unavailable", "expose_port", map[string]any{"port": 18080})
		return
	}
	if strings.TrimSpace(c.sh("command -v perl || true")) == "" {
		t.Skip("no perl inside to serve with")
	}
	type answer struct {
		URL       string `json:"url"`
		Listening bool   `json:"listening"`
	}
	expose := func() (a answer) {
		r := c.ok("expose_port", map[string]any{"port": 18080})
		if err := json.Unmarshal(r.Structured, &a); err != nil {
			t.Fatal(err)
		}
		if a.Listening == strings.Contains(r.text(), "Nothing listens") {
			t.Errorf("%+v: %s", a, r.text())
		}
		return a
	}
	if a := expose(); a.Listening {
		t.Errorf("%+v", a)
	}
	c.exec(map[string]any{"yield_time_ms": 250, "cmd": `exec perl -MIO::Socket -e '$SIG{PIPE}="IGNORE"; $l=IO::Socket::INET->new(Listen=>9,LocalAddr=>"127.0.0.1",LocalPort=>18080,ReuseAddr=>1) or die $!; while($c=$l->accept){ while(<$c>){last if /^\r?\n$/} print $c "HTTP/1.0 200 OK\r\n\r\nfrom inside"; close $c }'`})
	var a answer
	waitFor(t, "the server inside", func() bool { a = expose(); return a.Listening })
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(a.URL)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil || string(b) != "from inside" {
		t.Errorf("%q, %v", b, err)
	}
	if text := c.ok("session_info", map[string]any{}).text(); !strings.Contains(text, "exposed_ports: [18080]") {
		t.Errorf("session_info: %s", text)
	}
	c.stop()
	if r, err := client.Get(a.URL); err == nil {
		r.Body.Close()
		t.Errorf("%s answers after the end", a.URL)
	}
}
