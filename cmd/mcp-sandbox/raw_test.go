package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rawAnswer is the structured result of a raw tool.
type rawAnswer struct {
	Output    string  `json:"output"`
	Stdout    string  `json:"stdout"`
	Stderr    string  `json:"stderr"`
	Dropped   int64   `json:"dropped_bytes"`
	ExitCode  *int    `json:"exit_code"`
	SessionID *int    `json:"session_id"`
	Data      []byte  `json:"data"`
	Size      int64   `json:"size"`
	Next      *int64  `json:"next_offset"`
	ExportID  string  `json:"export_id"`
	ImportID  string  `json:"import_id"`
	Exists    bool    `json:"exists"`
	Kind      string  `json:"kind"`
	Mode      string  `json:"mode"`
	Files     int     `json:"files"`
	Wall      float64 `json:"wall_time_seconds"`
	Entries   []struct{ Name, Kind string }
}

func (c *client) rawCall(tool string, args map[string]any) rawAnswer {
	c.t.Helper()
	var a rawAnswer
	if err := json.Unmarshal(c.ok(tool, args).Structured, &a); err != nil {
		c.t.Fatal(err)
	}
	return a
}

// TestRawOnlyForThoseWhoAsk: the raw tools are neither listed nor callable without
// the capability, and what an operator left out has no second way in.
func TestRawOnlyForThoseWhoAsk(t *testing.T) {
	listed := func(c *client) (n int) {
		var l struct{ Tools []struct{ Name string } }
		if err := json.Unmarshal(c.request("tools/list", map[string]any{}).Result, &l); err != nil {
			t.Fatal(err)
		}
		for _, tool := range l.Tools {
			if strings.HasPrefix(tool.Name, "raw_") {
				n++
			}
		}
		return n
	}
	call := func(c *client, tool string) bool {
		m := c.request("tools/call", map[string]any{"name": tool, "arguments": map[string]any{"cmd": "true", "path": ".", "data": ""}})
		return m.Error == nil
	}
	for _, tc := range []struct {
		args []string
		raw  bool
		n    int
		exec bool
	}{
		{nil, false, 0, false},
		{nil, true, 7, true},
		{[]string{"--toolset", "files"}, true, 4, false},
		{[]string{"--read-only-tools"}, true, 3, false},
	} {
		c := startServer(t, append(tc.args, levelArgs()...)...)
		if tc.raw {
			c.initializeRaw()
		} else {
			c.initialize("2025-06-18")
		}
		if n := listed(c); n != tc.n {
			t.Errorf("%v, raw %t: %d raw tools, want %d", tc.args, tc.raw, n, tc.n)
		}
		if got := call(c, "raw_exec"); got != tc.exec {
			t.Errorf("%v, raw %t: raw_exec callable: %t", tc.args, tc.raw, got)
		}
	}
}

func TestRawCommands(t *testing.T) {
	c := startServer(t, levelArgs()...)
	c.initializeRaw()
	a := c.rawCall("raw_exec", map[string]any{"cmd": "echo one; sleep 0.2; echo two >&2; sleep 0.2; echo three; exit 7"})
	if a.Stdout != "one\nthree\n" || a.Stderr != "two\n" || a.Output != "one\ntwo\nthree\n" || a.ExitCode == nil || *a.ExitCode != 7 {
		t.Errorf("%+v", a)
	}
	if a := c.rawCall("raw_exec", map[string]any{"argv": []string{"printf", "%s|", "a b", "$HOME", "\x1b[1m"}}); a.Stdout != "a b|$HOME|\x1b[1m|" {
		t.Errorf("argv: %q", a.Stdout)
	}
	if a := c.rawCall("raw_exec", map[string]any{"cmd": "for i in 1 2 3; do echo o$i; echo e$i >&2; done", "separate_stderr": false}); a.Output != "o1\ne1\no2\ne2\no3\ne3\n" || a.Stdout != a.Output {
		t.Errorf("%+v", a)
	}
	// Far above any budget of tokens, and bounded all the same.
	if a := c.rawCall("raw_exec", map[string]any{"cmd": "seq 100000"}); len(a.Stdout) != 588895 || a.Output != a.Stdout {
		t.Errorf("%d bytes of stdout, %d of output", len(a.Stdout), len(a.Output))
	}
	if a := c.rawCall("raw_exec", map[string]any{"cmd": "seq 1000000"}); len(a.Stdout) > 1<<20+100 || !strings.Contains(a.Stdout, "bytes dropped") || !strings.HasSuffix(a.Output, "1000000\n") {
		t.Errorf("%d bytes", len(a.Stdout))
	}
	a = c.rawCall("raw_exec", map[string]any{"cmd": "cat; echo end >&2", "keep_stdin": true, "yield_time_ms": 300})
	if a.SessionID == nil || a.ExitCode != nil {
		t.Fatalf("%+v", a)
	}
	a = c.rawCall("raw_input", map[string]any{"session_id": *a.SessionID, "chars": "typed\n", "close": true})
	if a.Stdout != "typed\n" || a.Stderr != "end\n" || a.ExitCode == nil || *a.ExitCode != 0 {
		t.Errorf("%+v", a)
	}
	// Bytes that are no text, both ways.
	bytes := []byte{0xff, 0, 'a', 0xc3, '\r', '\n', 0xc3, 0xa9, 0xc3}
	in := base64.StdEncoding.EncodeToString(bytes)
	for _, separate := range []bool{true, false} {
		a = c.rawCall("raw_exec", map[string]any{"cmd": "cat", "stdin": in, "encoding": "base64", "separate_stderr": separate})
		if a.Stdout != in || a.Output != in || a.Stderr != "" {
			t.Errorf("separate %v: %q %q %q, want %q", separate, a.Stdout, a.Output, a.Stderr, in)
		}
	}
	a = c.rawCall("raw_exec", map[string]any{"cmd": "cat >&2", "keep_stdin": true, "encoding": "base64", "yield_time_ms": 300})
	if a = c.rawCall("raw_input", map[string]any{"session_id": *a.SessionID, "chars": in, "close": true, "encoding": "base64"}); a.Stderr != in || a.Output != in || a.Stdout != "" {
		t.Errorf("%q %q %q, want %q", a.Stdout, a.Output, a.Stderr, in)
	}
	if a = c.rawCall("raw_exec", map[string]any{"cmd": "seq 1000000"}); a.Dropped == 0 {
		t.Error("nothing is told as dropped")
	}
	c.bad("invalid_argument", "raw_exec", map[string]any{"cmd": "cat", "stdin": "no base64", "encoding": "base64"})
	c.bad("invalid_argument", "raw_exec", map[string]any{"cmd": "cat", "encoding": "hex"})
	c.bad("process_not_found", "raw_input", map[string]any{"session_id": 1})
	c.bad("invalid_argument", "raw_exec", map[string]any{"cmd": "true", "argv": []string{"true"}})
}

func TestRawFiles(t *testing.T) {
	c := startServer(t, levelArgs()...)
	c.initializeRaw()
	whole := make([]byte, 3<<20)
	for i := range whole {
		whole[i] = byte(i * 7)
	}
	c.ok("write_file", map[string]any{"path": "bin", "content": base64.StdEncoding.EncodeToString(whole), "encoding": "base64"})
	if a := c.rawCall("raw_read", map[string]any{"path": "bin"}); string(a.Data) != string(whole) || a.Next != nil {
		t.Errorf("%d bytes", len(a.Data))
	}
	if a := c.rawCall("raw_read", map[string]any{"path": "bin", "offset": 5, "limit": 3}); string(a.Data) != string(whole[5:8]) || a.Next == nil || *a.Next != 8 {
		t.Errorf("%+v", a)
	}
	if a := c.rawCall("raw_read", map[string]any{"path": "bin", "limit": 0}); len(a.Data) != 0 || a.Size != int64(len(whole)) {
		t.Errorf("%+v", a)
	}
	c.bad("not_found", "raw_read", map[string]any{"path": "none"})
	c.bad("path_outside_workspace", "raw_stat", map[string]any{"path": "/etc/passwd"})
	c.sh("mkdir -p d/.hidden; ln -s ../bin d/link; ln -s /nowhere d/dangling; chmod 640 bin")
	if a := c.rawCall("raw_stat", map[string]any{"path": "d/link"}); !a.Exists || a.Kind != "file" || a.Mode != "-rw-r-----" {
		t.Errorf("%+v", a)
	}
	if a := c.rawCall("raw_stat", map[string]any{"path": "bin/x"}); a.Exists {
		t.Errorf("%+v", a)
	}
	if a := c.rawCall("raw_stat", map[string]any{"path": "d", "list": true}); len(a.Entries) != 3 || a.Entries[0].Name != ".hidden" {
		t.Errorf("%+v", a)
	}
}

// TestRawArchive: what raw_export writes comes back whole with raw_import, in parts,
// with the links that a Python environment has.
func TestRawArchive(t *testing.T) {
	c := startServer(t, levelArgs()...)
	c.initializeRaw()
	c.sh(`mkdir -p d/e out; echo hi > d/f; ln d/f d/g; ln -s /usr/bin/env d/py; ln -s ../../up d/e/up; chmod 755 d/f; echo x > 'back\slash'; echo skipped > out/file; head -c 100000 /dev/zero > zeros`)
	see := "find . -mindepth 1 -printf '%p %y %m %l %s\\n' | sort; cat d/g"
	var whole []byte
	part := c.rawCall("raw_export", map[string]any{"skip": []string{"out"}, "limit": 40000})
	for whole = part.Data; part.Next != nil; whole = append(whole, part.Data...) {
		part = c.rawCall("raw_export", map[string]any{"export_id": part.ExportID, "offset": *part.Next, "limit": 40000})
	}
	if int64(len(whole)) != part.Size {
		t.Fatalf("%d bytes of %d", len(whole), part.Size)
	}
	c.sh("rm -rf out")
	want := c.sh(see)
	c.sh("rm -rf d zeros; echo more > added; mkdir -p d/e/deep")
	half := len(whole) / 2
	in := c.rawCall("raw_import", map[string]any{"data": base64.StdEncoding.EncodeToString(whole[:half]), "more": true})
	c.rawCall("raw_import", map[string]any{"import_id": in.ImportID, "data": base64.StdEncoding.EncodeToString(whole[half:]), "replace": true, "exact": true})
	if got := c.sh(see); got != want {
		t.Errorf("came back as\n%s\nwant\n%s", got, want)
	}
	data := base64.StdEncoding.EncodeToString(whole)
	c.bad("not_found", "raw_import", map[string]any{"import_id": in.ImportID, "data": data})
	for code, args := range map[string]map[string]any{
		"unsafe_archive":         {"data": data},
		"too_large":              {"data": data, "exact": true, "max_extracted_bytes": 1000},
		"unsupported_file_type":  {"data": "aGVsbG8="},
		"invalid_argument":       {"data": "not base64"},
		"path_outside_workspace": {"data": data, "exact": true, "destination": "../other"},
	} {
		args["replace"] = true
		c.bad(code, "raw_import", args)
		if got := c.sh(see); got != want {
			t.Errorf("%s changed something:\n%s", code, got)
		}
	}
	c.bad("too_large", "raw_import", map[string]any{"data": data, "max_input_bytes": 10})
	c.bad("too_large", "raw_import", map[string]any{"data": data, "exact": true, "max_members": 2})
}

// TestRawManyArchives: archives whose reply was lost do not keep new ones out, and
// the one left alone for the longest time gives way.
func TestRawManyArchives(t *testing.T) {
	c := startServer(t, levelArgs()...)
	c.initializeRaw()
	var ids []string
	for i := range 9 {
		if i == 8 {
			c.rawCall("raw_import", map[string]any{"import_id": ids[0], "data": "AAAA", "more": true})
		}
		ids = append(ids, c.rawCall("raw_import", map[string]any{"data": "AAAA", "more": true}).ImportID)
	}
	c.bad("not_found", "raw_import", map[string]any{"import_id": ids[1], "data": "AAAA", "more": true})
	for _, id := range []string{ids[0], ids[2], ids[8]} {
		c.rawCall("raw_import", map[string]any{"import_id": id, "data": "AAAA", "more": true})
	}
}

// TestRawClose: a named session that is closed for good leaves nothing to resume.
func TestRawClose(t *testing.T) {
	state, temp := filepath.Join(t.TempDir(), "state"), t.TempDir()
	args := append([]string{"--session", "one"}, levelArgs()...)
	c := launchClient(t, state, temp, args...)
	c.initializeRaw()
	c.sh("echo kept > f")
	c.stop()
	c = launchClient(t, state, temp, args...)
	c.initializeRaw()
	if got := c.sh("cat f"); got != "kept\n" {
		t.Errorf("%q", got)
	}
	c.ok("raw_close", nil)
	c.stop()
	c.assertNothingLeft()
	if left, _ := os.ReadDir(filepath.Join(state, "saved")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestRawOverHTTP: the capability holds for the MCP session, also after a restart of
// the server.
func TestRawOverHTTP(t *testing.T) {
	n := startNetwork(t, nil, append([]string{"--structured", "auto"}, levelArgs()...)...)
	r := n.sessionWith(annsToken, "", `{"experimental":{"mcp-sandbox/raw":{}}}`)
	raw := func(tool string, args map[string]any) (a rawAnswer) {
		t.Helper()
		res := r.call(tool, args)
		if err := json.Unmarshal(res.Structured, &a); err != nil {
			t.Fatalf("%s: %s", tool, res.text())
		}
		return a
	}
	sum := map[string]any{"cmd": "sha256sum < r; echo b >&2"}
	raw("raw_exec", map[string]any{"cmd": "head -c 5000000 /dev/urandom > r"})
	before := raw("raw_exec", sum)
	if before.Stderr != "b\n" {
		t.Fatalf("%+v", before)
	}
	n.stop()
	n = startNetwork(t, n, append([]string{"--structured", "auto"}, levelArgs()...)...)
	r.n = n
	if again := raw("raw_exec", sum); again.Stdout != before.Stdout {
		t.Errorf("%+v", again)
	}
	var whole []byte
	part := raw("raw_export", map[string]any{"limit": 3 << 20})
	for whole = part.Data; part.Next != nil; whole = append(whole, part.Data...) {
		part = raw("raw_export", map[string]any{"export_id": part.ExportID, "offset": *part.Next})
	}
	raw("raw_import", map[string]any{"data": base64.StdEncoding.EncodeToString(whole), "replace": true})
	if again := raw("raw_exec", sum); again.Stdout != before.Stdout {
		t.Errorf("%+v", again)
	}
	if _, body := n.session(annsToken).send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"raw_exec","arguments":{"cmd":"true"}}}`); !strings.Contains(body, "not found") {
		t.Errorf("without the capability: %s", body)
	}
	r.call("raw_close", nil)
	n.assertEmpty()
}

// TestWorkspaceAlias: commands and file tools find the workspace under its second
// name, which a shell tells as its own.
func TestWorkspaceAlias(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		t.Skip("a second path needs a file system of the session's own")
	}
	c := startServer(t, "--workspace-alias", "/workspace")
	c.initializeRaw()
	c.ok("write_file", map[string]any{"path": "/workspace/d/f", "content": "hello\n"})
	if a := c.rawCall("raw_exec", map[string]any{"cmd": "cat /workspace/d/f; pwd", "workdir": "/workspace/d"}); a.Stdout != "hello\n/workspace/d\n" {
		t.Errorf("%+v", a)
	}
	if a := c.rawCall("raw_exec", map[string]any{"cmd": "pwd; ln -s /workspace/d l; echo x > /workspace/l/g"}); a.Output != "/workspace\n" {
		t.Errorf("%+v", a)
	}
	if got := c.ok("read_file", map[string]any{"path": "l/g"}).text(); !strings.Contains(got, "x") {
		t.Errorf("%q", got)
	}
	if info := c.ok("session_info", nil).text(); !strings.Contains(info, "/workspace") {
		t.Error(info)
	}
	h := newHost(t)
	for _, alias := range []string{"/etc", "workspace", "/a/b", "/", "/../x"} {
		if out, err := h.try("exec", "--workspace-alias", alias, "--", "true"); err == nil || !strings.Contains(out, "invalid_argument") {
			t.Errorf("%s: %v %s", alias, err, out)
		}
	}
}
