package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// conversations are whole talks over stdio, one line sent at a time and, where
// an answer is due, one line read. Their goldens show any change of what goes
// over the wire, byte for byte, but for what changes from run to run.
var conversations = []struct {
	name  string
	args  []string
	lines []string
}{
	{"start", nil, []string{
		hello("2025-11-25"), initialized,
		`{"jsonrpc":"2.0","id":2,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":3,"method":"tools/list"}`,
	}},
	{"read_only", []string{"--read-only-tools"}, []string{
		hello("2025-06-18"), initialized,
		`{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{}}`,
		`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"exec_command","arguments":{"cmd":"true"}}}`,
	}},
	{"exec_ok", nil, []string{
		hello("2025-11-25"), initialized,
		`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"exec_command","arguments":{"cmd":"echo out; echo err >&2"}}}`,
		`{"jsonrpc":"2.0","id":"3","method":"tools/call","params":{"name":"exec_command","arguments":{"cmd":"cat","stdin":"text\n","yield_time_ms":"20000"}}}`,
	}},
	{"exec_fail", []string{"--structured", "off"}, []string{
		hello("2024-11-05"), initialized,
		`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"exec_command","arguments":{"cmd":"echo no >&2; exit 3"}}}`,
		`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"exec_command","arguments":{"cmd":"kill -9 $$"}}}`,
		`{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"exec_command","arguments":{"cmd":"true","workdir":"absent"}}}`,
	}},
	{"files", nil, []string{
		hello("2025-11-25"), initialized,
		`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"write_file","arguments":{"path":"a/b.txt","content":"one\ntwo\n"}}}`,
		`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"read_file","arguments":{"path":"a/b.txt"}}}`,
		`{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"read_file","arguments":{"path":"../../etc/passwd"}}}`,
		`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"read_file","arguments":{"path":"absent"}}}`,
	}},
	{"bad_arguments", nil, []string{
		hello("2025-11-25"), initialized,
		`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"exec_command","arguments":{"cmdd":"true"}}}`,
		`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"exec_command","arguments":{}}}`,
		`{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"exec_command","arguments":{"cmd":"true","cols":"wide"}}}`,
		`{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"exec_command","arguments":[]}}`,
		`{"jsonrpc":"2.0","id":6,"method":"tools/call","params":{"name":"read_file","arguments":{"path":"a\u0000b"}}}`,
	}},
	{"unknown", nil, []string{
		hello("2025-11-25"), initialized,
		`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"no_such_tool","arguments":{}}}`,
		`{"jsonrpc":"2.0","id":3,"method":"no/such/method"}`,
	}},
	{"protocol_errors", nil, []string{
		`not JSON`,
		`[]`,
		`{"jsonrpc":"1.0","id":1,"method":"ping"}`,
		`{"jsonrpc":"2.0","id":{},"method":"ping"}`,
		`{"jsonrpc":"2.0","id":1,"Method":"ping"}`,
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`,
		hello("2099-01-01"),
	}},
}

const initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`

func hello(version string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"` + version + `","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`
}

// TestTranscripts: MCP_SANDBOX_TEST_UPDATE=1 writes the goldens anew.
func TestTranscripts(t *testing.T) {
	for _, c := range conversations {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			checkDoc(t, filepath.Join("testdata", "transcripts", c.name+".txt"), converse(t, c.args, c.lines))
		})
	}
}

// converse gives the talk with "> " before what was sent and "< " before the
// answers, and fails on output nobody asked for.
func converse(t *testing.T, args, lines []string) string {
	t.Helper()
	temp := t.TempDir()
	openPath(t, temp)
	cmd := exec.Command(binary, append([]string{"serve", "--state-dir", filepath.Join(t.TempDir(), "state")}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer watchdog.Stop()
	var b strings.Builder
	answers := bufio.NewReader(out)
	for _, line := range lines {
		b.WriteString("> " + line + "\n")
		if _, err := in.Write([]byte(line + "\n")); err != nil {
			t.Fatal(err)
		}
		if line == initialized {
			continue
		}
		answer, err := answers.ReadString('\n')
		if err != nil {
			t.Fatalf("no answer to %s: %v\n%s", line, err, &stderr)
		}
		b.WriteString("< " + normalise(t, answer))
	}
	_ = in.Close()
	if rest, _ := answers.ReadString(0); rest != "" {
		t.Errorf("more than was asked for: %q", rest)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the server: %v\n%s", err, &stderr)
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	waitFor(t, "processes of the server to end", func() bool { return len(processesWith(temp)) == 0 })
	return b.String()
}

// normalise blanks what changes from run to run, and of tools/list keeps the
// names: the schemas have goldens of their own in package tools.
func normalise(t *testing.T, line string) string {
	t.Helper()
	if !json.Valid([]byte(line)) || strings.Count(line, "\n") != 1 {
		t.Fatalf("no single line of JSON: %q", line)
	}
	for _, r := range [][2]string{
		{`Wall time: [0-9.]+ seconds`, `Wall time: T seconds`},
		{`"wall_time_seconds":[0-9.e-]+`, `"wall_time_seconds":T`},
		{`("serverInfo":\{"name":"mcp-sandbox","version":)"[^"]*"`, `$1"V"`},
		{`"modified":"[^"]*"`, `"modified":"T"`},
	} {
		line = regexp.MustCompile(r[0]).ReplaceAllString(line, r[1])
	}
	var m struct {
		Result struct {
			Tools []struct{ Name string }
		}
	}
	if json.Unmarshal([]byte(line), &m) == nil && len(m.Result.Tools) > 0 {
		start := strings.Index(line, `"tools":[`)
		var names []string
		for _, tool := range m.Result.Tools {
			names = append(names, tool.Name)
		}
		var rest struct{ Result map[string]json.RawMessage }
		_ = json.Unmarshal([]byte(line), &rest)
		delete(rest.Result, "tools")
		if start < 0 || len(rest.Result) > 0 {
			t.Fatalf("a tool list of an unknown form: %q", line)
		}
		return line[:start] + `"tools":[` + strings.Join(names, ", ") + "]}}\n"
	}
	return line
}
