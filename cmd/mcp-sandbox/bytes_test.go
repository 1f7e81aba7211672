package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// anyBytes are reproducible bytes that are not text.
func anyBytes(n int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, n)
	_, _ = r.Read(b)
	copy(b, "%PDF-1.7\n")
	return b
}

var bytesHead = regexp.MustCompile(`^bytes (\d+)-(\d+) of (\d+)(?:, go on with offset (\d+))?, ([a-z/+-]+), version ([0-9a-f]{12})\n`)

// large is the size of a file that is large for the server under test: with the
// race detector, there or here, everything that looks at each byte takes 15 times as
// long.
func large(t testing.TB) int {
	if raceBuilt(t) || raceEnabled {
		return 2 << 20
	}
	return 20 << 20
}

// TestBytesOut: what a session holds comes out exactly, by every door.
func TestBytesOut(t *testing.T) {
	root := t.TempDir()
	openPath(t, root)
	giveToSandbox(t, root)
	c := startServer(t, "--root", root)
	c.initialize("2025-11-25")
	want := anyBytes(large(t))
	c.ok("write_file", map[string]any{"path": "a report.pdf", "content": base64.StdEncoding.EncodeToString(want), "encoding": "base64"})
	if got, _ := os.ReadFile(filepath.Join(root, "a report.pdf")); !bytes.Equal(got, want) {
		t.Fatal("the file is not what was written")
	}

	// In one read, in parts, and from the end.
	part := func(args map[string]any) (b []byte, head []string) {
		t.Helper()
		args["path"], args["encoding"] = "a report.pdf", "base64"
		text := c.ok("read_file", args).text()
		head = bytesHead.FindStringSubmatch(text)
		if head == nil {
			t.Fatalf("%.200q", text)
		}
		b, err := base64.StdEncoding.DecodeString(text[len(head[0]):])
		if err != nil {
			t.Fatal(err)
		}
		return b, head
	}
	if b, _ := part(map[string]any{"limit": len(want)}); sha256.Sum256(b) != sha256.Sum256(want) {
		t.Error("one read is not exact")
	}
	var all []byte
	for offset := 0; ; {
		b, head := part(map[string]any{"offset": offset, "limit": len(want)/3 + 1})
		all = append(all, b...)
		offset += len(b)
		if fmt.Sprint(offset-1) != head[2] || head[3] != fmt.Sprint(len(want)) || head[5] != "application/pdf" {
			t.Fatalf("%q", head[0])
		}
		if offset == len(want) {
			break
		}
	}
	if !bytes.Equal(all, want) {
		t.Error("the parts are not exact")
	}
	if b, _ := part(map[string]any{"offset": -10}); !bytes.Equal(b, want[len(want)-10:]) {
		t.Error("the end is not exact")
	}
	// Without a limit, as much as the result may have, and where to go on.
	b, head := part(map[string]any{})
	if len(b) < 4000 || len(b) > 60_000 || !bytes.Equal(b, want[:len(b)]) || head[4] != fmt.Sprint(len(b)) {
		t.Errorf("%d bytes, %q", len(b), head[0])
	}
	if b, head := part(map[string]any{"limit": 100_000, "max_output_tokens": 500}); len(b) > 2000 || head[4] != fmt.Sprint(len(b)) {
		t.Errorf("%d bytes, %q", len(b), head[0])
	}

	// As a resource: the link of the description leads to it.
	r := c.ok("read_file", map[string]any{"path": "a report.pdf"})
	var link struct{ URI, MIMEType, Type string }
	for _, raw := range contents(t, c, "read_file", map[string]any{"path": "a report.pdf"}) {
		if err := json.Unmarshal(raw, &link); err != nil {
			t.Fatal(err)
		}
	}
	if link.Type != "resource_link" || link.MIMEType != "application/pdf" || !strings.Contains(r.text(), "resource "+link.URI) {
		t.Fatalf("%+v %s", link, r.text())
	}
	for _, uri := range []string{link.URI, "file:///a%20report.pdf"} {
		got, err := readURI(c, uri)
		if err != "" || got.MIMEType != "application/pdf" || !bytes.Equal(got.bytes(), want) {
			t.Errorf("%s: %d bytes of %s, %s", uri, len(got.bytes()), got.MIMEType, err)
		}
	}
	c.ok("write_file", map[string]any{"path": "dir/ü.txt", "content": "text\n"})
	if got, err := readURI(c, "file:///dir/%C3%BC.txt"); got.Text != "text\n" || got.MIMEType != "text/plain" {
		t.Errorf("%+v %s", got, err)
	}
	for uri, want := range map[string]string{
		"file:///etc/passwd": "path_outside_workspace", "file:///none": "path_outside_workspace", "file://" + root + "/none": "not_found", "file:///dir": "is_a_directory",
		"file:///..%2f..%2fetc/passwd": "path_outside_workspace", "file://host/x": "", "http://x/y": "", "file:///x?y=z": "invalid_argument", "file:///x%00": "invalid_argument",
	} {
		got, err := readURI(c, uri)
		if err == "" || !strings.Contains(err, want) || len(got.bytes()) > 0 {
			t.Errorf("%s: %q", uri, err)
		}
	}
	if text := string(c.request("resources/templates/list", map[string]any{}).Result); !strings.Contains(text, `file:///{+path}`) {
		t.Errorf("%s", text)
	}
}

// contents are the blocks of a result as they came.
func contents(t *testing.T, c *client, tool string, args map[string]any) []json.RawMessage {
	t.Helper()
	_, ch := c.sendCall(tool, args)
	var r struct{ Content []json.RawMessage }
	if err := json.Unmarshal(c.await(ch).Result, &r); err != nil {
		t.Fatal(err)
	}
	return r.Content
}

type resource struct{ URI, MIMEType, Text, Blob string }

func (r resource) bytes() []byte {
	b, _ := base64.StdEncoding.DecodeString(r.Blob)
	return append(b, r.Text...)
}

// readURI reads a resource, or tells why not.
func readURI(c *client, uri string) (resource, string) {
	_, ch := c.send("resources/read", map[string]any{"uri": uri})
	m := c.await(ch)
	if m.Error != nil {
		return resource{}, m.Error.Message
	}
	var r struct{ Contents []resource }
	if err := json.Unmarshal(m.Result, &r); err != nil || len(r.Contents) != 1 {
		return resource{}, fmt.Sprintf("%v %.200s", err, m.Result)
	}
	return r.Contents[0], ""
}

// TestResourcesUnderPolicy: a resource is read as by read_file: hidden files are
// not, the audit log tells of it, and where the tool is not offered there are none.
func TestResourcesUnderPolicy(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		t.Skip("nothing in the workspace can be hidden at this level")
	}
	root, log := t.TempDir(), filepath.Join(t.TempDir(), "audit.jsonl")
	openPath(t, root)
	put(t, filepath.Join(root, ".env"), "secret")
	put(t, filepath.Join(root, "f"), "seen")
	giveToSandbox(t, root)
	c := startServer(t, "--root", root, "--deny-read", "**/.env", "--audit-log", log, "--read-only-tools")
	c.initialize("2025-11-25")
	if _, err := readURI(c, "file:///.env"); !strings.Contains(err, "permission_denied") && !strings.Contains(err, "path_outside_workspace") {
		t.Errorf("%s", err)
	}
	if got, err := readURI(c, "file://"+root+"/.env"); !strings.Contains(err, "permission_denied") {
		t.Errorf("%+v %s", got, err)
	}
	if got, err := readURI(c, "file:///f"); got.Text != "seen" {
		t.Errorf("%s", err)
	}
	b, _ := os.ReadFile(log)
	if n := strings.Count(string(b), `"read_file"`); n < 3 {
		t.Errorf("the audit log tells of %d reads:\n%s", n, b)
	}
	c = startServer(t, "--root", root, "--toolset", "snapshot")
	c.initialize("2025-11-25")
	if got, err := readURI(c, "file:///f"); err == "" {
		t.Errorf("%+v", got)
	}
}

// TestSessionFiles: an operator copies files into and out of a named session.
func TestSessionFiles(t *testing.T) {
	h, dir := newHost(t), t.TempDir()
	want := anyBytes(large(t))
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, want, 0o600); err != nil {
		t.Fatal(err)
	}
	h.run("exec", "--session", "work", "--", "echo made > made; ln -s /etc/passwd out")
	h.run("sessions", "put", "work", "deep/er/in.bin", in)
	h.run("sessions", "get", "work", "deep/er/in.bin", out)
	if got, _ := os.ReadFile(out); !bytes.Equal(got, want) {
		t.Error("the round trip is not exact")
	}
	if text := h.run("sessions", "get", "work", "made"); text != "made\n" {
		t.Errorf("%q", text)
	}
	if text := h.run("exec", "--session", "work", "--", "echo more >> deep/er/in.bin; wc -c < deep/er/in.bin"); strings.TrimSpace(text) != fmt.Sprint(len(want)+5) {
		t.Errorf("the session sees %q", text)
	}
	for _, tc := range []struct {
		want string
		args []string
	}{
		{"exists", []string{"get", "work", "made", out}},
		{"not_found", []string{"get", "work", "none"}},
		{"path_outside_workspace", []string{"get", "work", "out"}},
		{"path_outside_workspace", []string{"put", "work", "out", in}},
		{"path_outside_workspace", []string{"get", "work", "/etc/passwd"}},
		{"session_not_found", []string{"get", "none", "made"}},
		{"cannot be read", []string{"put", "work", "x", filepath.Join(dir, "none")}},
	} {
		if text, err := h.try(append([]string{"sessions"}, tc.args...)...); err == nil || !strings.Contains(text, tc.want) {
			t.Errorf("%q: %v %.300s", tc.args, err, text)
		}
	}
}
