package main

import (
	"strings"
	"testing"
)

// TestBadInput: every kind of bad input gets an error that names it, and the
// next call works.
func TestBadInput(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	c.sh("mkdir dir; echo x > file; mkfifo pipe; ln -s /etc/passwd out; chmod 700 dir")
	for _, tc := range []struct {
		code, tool string
		args       any
		mentions   string
	}{
		{"invalid_argument", "exec_command", map[string]any{}, "cmd"},
		{"invalid_argument", "exec_command", map[string]any{"cmd": ""}, "cmd"},
		{"invalid_argument", "exec_command", map[string]any{"cmd": nil}, "cmd"},
		{"invalid_argument", "exec_command", map[string]any{"cmd": 5}, "cmd is a number"},
		{"invalid_argument", "exec_command", map[string]any{"cmd": []any{"ls"}}, "cmd is an array"},
		{"invalid_argument", "exec_command", map[string]any{"cmd": "echo \x00"}, "NUL"},
		{"invalid_argument", "exec_command", map[string]any{"cmd": "true", "workdirr": "x"}, `"workdirr"`},
		{"invalid_argument", "exec_command", map[string]any{"cmd": "true", "yield_time_ms": "soon"}, "yield_time_ms"},
		{"invalid_argument", "exec_command", map[string]any{"cmd": "true", "yield_time_ms": 1.5}, "yield_time_ms"},
		{"invalid_argument", "exec_command", map[string]any{"cmd": "true", "yield_time_ms": -1}, "yield_time_ms"},
		{"invalid_argument", "exec_command", map[string]any{"cmd": "true", "tty": "maybe"}, "tty"},
		{"invalid_argument", "exec_command", map[string]any{"cmd": "true", "max_output_tokens": 0}, "max_output_tokens"},
		{"invalid_argument", "exec_command", map[string]any{"cmd": "true", "env": []any{"A"}}, "env"},
		{"invalid_argument", "exec_command", map[string]any{"cmd": "true", "env": map[string]any{"A=B": "1"}}, "A=B"},
		{"invalid_argument", "exec_command", map[string]any{"cmd": "true", "env": map[string]any{"A": "\x00"}}, "NUL"},
		{"invalid_argument", "exec_command", map[string]any{"cmd": "true", "workdir": "a\x00b"}, "NUL"},
		{"not_found", "exec_command", map[string]any{"cmd": "true", "workdir": "missing"}, "missing"},
		{"not_a_directory", "exec_command", map[string]any{"cmd": "true", "workdir": "file"}, "file"},
		{"path_outside_workspace", "exec_command", map[string]any{"cmd": "true", "workdir": "/"}, ""},
		{"path_outside_workspace", "exec_command", map[string]any{"cmd": "true", "workdir": "../.."}, ""},
		{"exec_failed", "exec_command", map[string]any{"cmd": "true", "shell": "no-such-shell"}, `"no-such-shell" was not found`},
		{"exec_failed", "exec_command", map[string]any{"argv": []any{"./file"}}, `"./file" cannot be executed`},
		{"invalid_argument", "write_stdin", map[string]any{"chars": "x"}, "session_id"},
		{"invalid_argument", "write_stdin", map[string]any{"session_id": "abc"}, "session_id"},
		{"process_not_found", "write_stdin", map[string]any{"session_id": 12345, "chars": "x"}, "12345"},
		{"process_not_found", "write_stdin", map[string]any{"session_id": -1}, ""},
		{"process_not_found", "kill_process", map[string]any{"session_id": 99999}, "99999"},
		{"invalid_argument", "kill_process", map[string]any{"session_id": 99999, "signal": "BOOM"}, "BOOM"},
		{"invalid_argument", "read_file", map[string]any{}, "path"},
		{"invalid_argument", "read_file", map[string]any{"path": ""}, "path"},
		{"invalid_argument", "read_file", map[string]any{"path": "fi\x00le"}, "NUL"},
		{"invalid_argument", "read_file", map[string]any{"path": map[string]any{}}, "path is an object"},
		{"not_found", "read_file", map[string]any{"path": "missing"}, "missing"},
		{"is_a_directory", "read_file", map[string]any{"path": "dir"}, "dir"},
		{"unsupported_file_type", "read_file", map[string]any{"path": "pipe"}, "pipe"},
		{"path_outside_workspace", "read_file", map[string]any{"path": "/etc/passwd"}, ""},
		{"path_outside_workspace", "read_file", map[string]any{"path": "out"}, ""},
		{"path_outside_workspace", "read_file", map[string]any{"path": "../x"}, ""},
		{"invalid_argument", "write_file", map[string]any{"path": "new"}, "content"},
		{"is_a_directory", "write_file", map[string]any{"path": "dir", "content": ""}, "dir"},
		{"already_exists", "write_file", map[string]any{"path": "file", "content": "", "mode": "create"}, "file"},
		{"invalid_argument", "write_file", map[string]any{"path": "new", "content": "", "mode": "erase"}, "erase"},
		{"invalid_argument", "write_file", map[string]any{"path": "new", "content": "%%", "encoding": "base64"}, "base64"},
		{"path_outside_workspace", "write_file", map[string]any{"path": "/tmp/x", "content": ""}, ""},
		{"not_found", "ls", map[string]any{"path": "missing"}, "missing"},
		{"invalid_argument", "ls", map[string]any{"depth": 0}, "depth"},
		{"invalid_argument", "list_processes", map[string]any{"all": true}, `"all"`},
		{"invalid_argument", "session_info", []any{}, "arguments"},
	} {
		text := c.bad(tc.code, tc.tool, tc.args)
		if !strings.Contains(text, tc.mentions) {
			t.Errorf("%s(%v): %q does not mention %q", tc.tool, tc.args, text, tc.mentions)
		}
		if strings.Contains(text, c.state) {
			t.Errorf("%s(%v): %q shows a path of the host", tc.tool, tc.args, text)
		}
		if got := c.sh("cat file"); got != "x\n" {
			t.Fatalf("after %s(%v): %q", tc.tool, tc.args, got)
		}
	}
	if m := c.request("tools/call", map[string]any{"name": "no_such_tool"}); m.Error == nil {
		t.Error("an unknown tool was not a protocol error")
	}
	if m := c.request("no/such/method", nil); m.Error == nil || m.Error.Code != -32601 {
		t.Errorf("unknown method: %+v", m.Error)
	}
}

// TestLenientInput: the shapes models really send are taken.
func TestLenientInput(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	o := c.exec(map[string]any{
		"cmd": "echo $A $B", "workdir": nil, "tty": "false", "yield_time_ms": "10000", "max_output_tokens": "100",
		"login": nil, "stdin": nil, "env": map[string]any{"A": 1, "B": true}, "cols": 80.0,
	})
	if o.Output != "1 true\n" {
		t.Fatalf("got %q", o.Output)
	}
	if r := c.ok("ls", nil); r.text() == "" {
		t.Fatal("no arguments at all")
	}
}

// TestMalformedMessages: garbage draws an error of its own and the stream goes on.
func TestMalformedMessages(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	null := make(chan message, 16)
	for _, tc := range []struct {
		line string
		code int
	}{
		{"garbage", -32700},
		{`{"jsonrpc":"2.0","id":1`, -32700},
		{`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, -32600},
		{`{"jsonrpc":"1.0","id":null,"method":"ping"}`, -32600},
		{`{"jsonrpc":"2.0","id":null,"method":"ping"}`, -32600},
		{`{"jsonrpc":"2.0","id":{},"method":"ping"}`, -32600},
		{`{"jsonrpc":"2.0"}`, -32600},
	} {
		c.mu.Lock()
		c.waiting["null"] = null
		c.mu.Unlock()
		c.raw(tc.line + "\n\n")
		m := c.await(null)
		if m.Error == nil || m.Error.Code != tc.code {
			t.Errorf("%s: %+v", tc.line, m.Error)
		}
	}
	// Keys in another case are nobody's keys (CVE-2026-27896).
	ch := make(chan message, 1)
	c.mu.Lock()
	c.waiting["77"] = ch
	c.mu.Unlock()
	c.raw(`{"jsonrpc":"2.0","id":77,"Method":"ping"}` + "\n")
	if m := c.await(ch); m.Error == nil || m.Error.Code != -32600 {
		t.Errorf("Method: %+v", m)
	}
	if m := c.request("ping", nil); m.Error != nil {
		t.Errorf("ping: %+v", m.Error)
	}
}
