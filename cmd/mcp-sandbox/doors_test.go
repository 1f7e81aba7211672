package main

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The matrix: every policy at every door. It is the table of docs/security.md
// and what TestPolicyMatrix walks with the built binary.

// secret is what a hidden file holds.
const secret = "CANARY-7f3a"

// policyRow is one promise about a file.
type policyRow struct {
	name string
	args func(w policyWorld) []string
	file func(w policyWorld) string // what the promise is about
	hide bool                       // may not be read; else it may not be changed
	// landlock says how commands are kept from it there: "refused" is a session
	// that does not start, "" the file tools alone.
	landlock string
}

// policyWorld is a workspace, a write grant and a read grant.
type policyWorld struct{ ws, grant, read, state string }

const (
	refused = "refused at the start"
	held    = "held"
)

// The doors as the table groups them.
const (
	doorCommands  = "Commands at namespaces, namespaces-noproc"
	doorLandlock  = "Commands at landlock"
	doorFiles     = "File tools, resources, snapshot tools"
	doorLater     = "A later session"
	doorManifest  = "Manifest entries"
	doorFrom      = "`--from`"
	doorSnapshots = "`mcp-sandbox snapshots`"
	doorSessions  = "`mcp-sandbox sessions get`, `put`"
)

var doorGroups = []string{doorCommands, doorLandlock, doorFiles, doorLater, doorManifest, doorFrom, doorSnapshots, doorSessions}

func inWorkspace(rel string) func(policyWorld) string {
	return func(w policyWorld) string { return w.ws + "/" + rel }
}

func withArgs(args ...string) func(policyWorld) []string {
	return func(policyWorld) []string { return args }
}

var policyRows = []policyRow{
	{"--deny-read, a path", withArgs("--deny-read", "sub/key"), inWorkspace("sub/key"), true, refused},
	{"--deny-read, a pattern", withArgs("--deny-read", "**/*.hid"), inWorkspace("sub/a.hid"), true, refused},
	{"--deny-read, a hard link", withArgs("--deny-read", "**/*.hid"), inWorkspace("hardlink"), true, refused},
	{"--deny-read, a hard link to a path", withArgs("--deny-read", "sub/key"), inWorkspace("keylink"), true, refused},
	{"--deny-read, a hard link from outside", func(w policyWorld) []string { return []string{"--deny-read", w.read + "/key"} }, inWorkspace("outlink"), true, refused},
	{"--deny-read, in a grant", func(w policyWorld) []string { return []string{"--deny-read", w.grant + "/key", "--write", w.grant} }, func(w policyWorld) string { return w.grant + "/key" }, true, refused},
	{"--deny-secrets", withArgs("--deny-secrets"), inWorkspace("sub/.env"), true, refused},
	{"state directory below a grant", func(w policyWorld) []string { return []string{"--read", filepath.Dir(w.state)} }, func(w policyWorld) string { return w.state + "/secretfile" }, true, refused},
	{"--protect and the default list", withArgs("--protect", "sub/own"), inWorkspace("sub/own"), false, ""},
	{"--read grant", func(w policyWorld) []string { return []string{"--read", w.read} }, func(w policyWorld) string { return w.read + "/f" }, false, held},
}

// policyDoor tries to read and to change a file; the reply is searched for the
// secret, and the file compared afterwards.
type policyDoor struct {
	name string
	try  func(c *client, p string)
}

// replies collects everything a client was told.
func say(c *client, out *strings.Builder, tool string, args map[string]any) {
	r := c.call(tool, args)
	out.WriteString(r.text())
	out.Write(r.Structured)
}

func policyDoors(out *strings.Builder) []policyDoor {
	one := func(tool string, args func(p string) map[string]any) func(*client, string) {
		return func(c *client, p string) { say(c, out, tool, args(p)) }
	}
	patch := func(body string) func(p string) map[string]any {
		return func(p string) map[string]any { return map[string]any{"patch": fmt.Sprintf(body, p)} }
	}
	return []policyDoor{
		{"commands", func(c *client, p string) {
			q := "'" + p + "'"
			for _, cmd := range []string{"cat " + q, "cp " + q + " copied; cat copied", "ln " + q + " linked; cat linked", "mv " + q + " moved; cat moved", "head -c 99 < " + q, "echo x >> " + q, "rm -f " + q, "mv \"$(dirname " + q + ")\" elsewhere; cat elsewhere/*"} {
				say(c, out, "exec_command", map[string]any{"cmd": cmd})
			}
			say(c, out, "raw_exec", map[string]any{"argv": []string{"cat", p}})
		}},
		{"read_file", func(c *client, p string) {
			say(c, out, "read_file", map[string]any{"path": p})
			say(c, out, "read_file", map[string]any{"path": p, "encoding": "base64"})
		}},
		{"resources/read", func(c *client, p string) {
			for _, uri := range []string{"file://" + p, "file://" + filepath.Dir(p) + "/./" + filepath.Base(p), "file:///" + filepath.Base(p)} {
				r, why := readURI(c, uri)
				b, err := json.Marshal(r)
				if err != nil {
					c.t.Fatal(err)
				}
				out.Write(b)
				out.WriteString(why)
			}
		}},
		{"images", func(c *client, p string) {
			// A picture is not text to be searched for: that there is one tells.
			was, err := os.ReadFile(p)
			if err != nil {
				c.t.Fatal(err)
			}
			put(c.t, p, tinyPNG(c.t))
			for _, part := range c.call("read_file", map[string]any{"path": p}).Content {
				if part.Type == "image" {
					out.WriteString(secret)
				}
			}
			put(c.t, p, string(was))
		}},
		{"search_text", one("search_text", func(p string) map[string]any { return map[string]any{"pattern": "CANARY", "path": filepath.Dir(p)} })},
		{"find_files, ls", func(c *client, p string) {
			say(c, out, "find_files", map[string]any{"pattern": "**", "path": filepath.Dir(p)})
			say(c, out, "ls", map[string]any{"path": filepath.Dir(p), "all": true})
		}},
		{"write_file", func(c *client, p string) {
			for _, mode := range []string{"overwrite", "append", "create"} {
				say(c, out, "write_file", map[string]any{"path": p, "content": "x", "mode": mode})
			}
		}},
		{"edit_file", one("edit_file", func(p string) map[string]any { return map[string]any{"path": p, "old_text": "CANARY", "new_text": "x"} })},
		{"apply_patch", one("apply_patch", patch("*** Begin Patch\n*** Delete File: %s\n*** End Patch\n"))},
		{"mv", func(c *client, p string) {
			say(c, out, "mv", map[string]any{"path": p, "destination": "moved2"})
			say(c, out, "mv", map[string]any{"path": filepath.Dir(p), "destination": "moved3"})
			say(c, out, "mv", map[string]any{"path": "plain", "destination": p})
		}},
		{"rm", func(c *client, p string) {
			say(c, out, "rm", map[string]any{"path": p})
			say(c, out, "rm", map[string]any{"path": filepath.Dir(p), "recursive": true})
		}},
		{"mkdir", one("mkdir", func(p string) map[string]any { return map[string]any{"path": p + "/d"} })},
		{"extract_archive", func(c *client, p string) {
			say(c, out, "extract_archive", map[string]any{"path": p, "destination": "out"})
			say(c, out, "extract_archive", map[string]any{"path": filepath.Base(p) + ".tar", "destination": filepath.Dir(p)})
		}},
		{"raw_read, raw_stat", func(c *client, p string) {
			sayDecoded(c, out, "raw_read", map[string]any{"path": p})
			sayDecoded(c, out, "raw_read", map[string]any{"path": p, "offset": -5})
			say(c, out, "raw_stat", map[string]any{"path": p})
			say(c, out, "raw_stat", map[string]any{"path": filepath.Dir(p), "list": true})
		}},
		{"raw_export", func(c *client, p string) { sayDecoded(c, out, "raw_export", map[string]any{}) }},
		{"raw_import", func(c *client, p string) {
			data := tarOf(c.t, filepath.Base(p), "x")
			for _, more := range []map[string]any{{}, {"replace": true}, {"exact": true}} {
				more["data"], more["destination"] = data, filepath.Dir(p)
				say(c, out, "raw_import", more)
			}
			say(c, out, "raw_import", map[string]any{"data": tarOf(c.t, "sub", "x"), "destination": filepath.Dir(filepath.Dir(p)), "replace": true})
		}},
		{"snapshots", func(c *client, p string) {
			var made struct {
				ID string `json:"id"`
			}
			r := c.call("snapshot_create", map[string]any{"label": "x"})
			out.WriteString(r.text())
			if f := strings.Fields(r.text()); len(f) > 0 {
				for _, w := range f {
					if len(w) == 12 {
						made.ID = strings.Trim(w, ",:.")
					}
				}
			}
			say(c, out, "snapshot_diff", map[string]any{"snapshot_id": made.ID})
			say(c, out, "snapshot_restore", map[string]any{"snapshot_id": made.ID})
		}},
	}
}

// sayDecoded is say for a reply with data in base64.
func sayDecoded(c *client, out *strings.Builder, tool string, args map[string]any) {
	c.t.Helper()
	r := c.call(tool, args)
	out.WriteString(r.text())
	var s struct{ Data []byte }
	if len(r.Structured) > 0 {
		if err := json.Unmarshal(r.Structured, &s); err != nil {
			c.t.Fatal(err)
		}
	}
	out.Write(s.Data)
}

// tarOf is an archive of one file, in base64.
func tarOf(t testing.TB, name, content string) string {
	t.Helper()
	var b bytes.Buffer
	a := tar.NewWriter(&b)
	if err := a.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// tinyPNG is a picture of one pixel.
func tinyPNG(t testing.TB) string {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func newPolicyWorld(t *testing.T) policyWorld {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	openPath(t, top)
	w := policyWorld{top + "/ws", top + "/grant", top + "/read", top + "/holds/state"}
	for _, d := range []string{w.ws + "/sub", w.grant, w.read, w.state} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(w.state, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{w.ws + "/sub/key", w.ws + "/sub/a.hid", w.ws + "/sub/.env", w.ws + "/sub/own", w.grant + "/key", w.read + "/f", w.read + "/key", w.state + "/secretfile"} {
		put(t, f, "other")
	}
	put(t, w.ws+"/plain", "plain")
	for link, file := range map[string]string{"hardlink": w.ws + "/sub/a.hid", "keylink": w.ws + "/sub/key", "outlink": w.read + "/key"} {
		if err := os.Link(file, w.ws+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"key", "a.hid", "hardlink", "keylink", "outlink", ".env", "secretfile", "own", "f"} {
		f, err := os.Create(w.ws + "/" + name + ".tar")
		if err != nil {
			t.Fatal(err)
		}
		a := tar.NewWriter(f)
		_ = a.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 1, Typeflag: tar.TypeReg})
		_, _ = a.Write([]byte("x"))
		_ = a.Close()
		_ = f.Close()
	}
	return w
}

// levelArgs are the arguments of a server at the level the tests run at.
func levelArgs() []string {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		return atLandlock()
	}
	return nil
}

func TestPolicyMatrix(t *testing.T) {
	lower := os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock"
	for _, row := range policyRows {
		t.Run(row.name, func(t *testing.T) {
			w := newPolicyWorld(t)
			args := append([]string{"--state-dir", w.state, "--root", w.ws}, row.args(w)...)
			if lower {
				args = append(args, atLandlock()...)
			}
			file := row.file(w)
			put(t, file, secret)
			var told strings.Builder
			doors := policyDoors(&told)
			levels := make([]string, len(doors))
			if !lower {
				// Commands alone meet another kernel there.
				doors, levels = append(doors, doors[0]), append(levels, "namespaces-noproc")
			}
			// What commands leave running or move is not there for the file tools.
			var c *client
			for i, d := range doors {
				if lower && d.name == "commands" && row.landlock == "" {
					continue
				}
				told.Reset()
				at := args
				if levels[i] != "" {
					at = append(slices.Clone(args), "--confine", levels[i])
				}
				if c == nil {
					c = startServer(t, at...)
					c.initializeRaw()
				}
				d.try(c, file)
				if d.name == "commands" || i+1 < len(doors) && levels[i+1] != levels[i] {
					c.stop()
					c = nil
				}
				if row.hide && tells(told.String()) {
					t.Errorf("%s tells the secret: %.400s", d.name, told.String())
				}
				// What matches a name at any depth may be moved with its directory.
				if moved := w.ws + "/elsewhere"; row.hide {
					if _, err := os.Stat(w.ws + "/sub"); os.IsNotExist(err) {
						if err := os.Rename(moved, w.ws+"/sub"); err != nil {
							t.Fatal(err)
						}
					}
				}
				if b, err := os.ReadFile(file); string(b) != secret {
					t.Errorf("%s changed the file: %q, %v", d.name, b, err)
					put(t, file, secret)
				}
			}
			if c != nil {
				c.stop()
			}
			h := newHost(t)
			h.state = w.state
			// A session at landlock is refused with what hides: the doors that start none
			// are tried with the policy all the same.
			d := &doorTry{host: h, w: w, file: file, args: args[2:], bare: []string{"--root", w.ws}}
			if lower {
				d.bare = append(d.bare, atLandlock()...)
			}
			if rel, err := filepath.Rel(w.ws, file); err == nil && filepath.IsLocal(rel) {
				d.rel = rel
			}
			for _, door := range hostDoors {
				if lower && row.landlock == "" && door.group == doorLater {
					continue
				}
				if out := door.try(d); row.hide && tells(out) {
					t.Errorf("%s (%s) tells the secret: %.600s", door.group, door.name, out)
				}
				if b, err := os.ReadFile(file); string(b) != secret {
					t.Errorf("%s (%s) changed the file: %q, %v", door.group, door.name, b, err)
					put(t, file, secret)
				}
			}
		})
	}
}

// TestPolicyMatrixDoc: the tables of docs/security.md are those of these tests.
func TestPolicyMatrixDoc(t *testing.T) {
	var b strings.Builder
	b.WriteString("| Policy | " + strings.Join(doorGroups, " | ") + " |\n" + strings.Repeat("|---", len(doorGroups)+1) + "|\n")
	for _, row := range policyRows {
		fmt.Fprintf(&b, "| %s |", row.name)
		for _, group := range doorGroups {
			what := held
			if group == doorLandlock {
				if what = row.landlock; what == "" {
					what = "not held, the session says so"
				}
			}
			fmt.Fprintf(&b, " %s |", what)
		}
		b.WriteString("\n")
	}
	inSecurityDoc(t, "policy matrix", b.String())
	inSecurityDoc(t, "limit matrix", limitTable())
}

// inSecurityDoc holds docs/security.md to the table of that name.
func inSecurityDoc(t *testing.T, name, table string) {
	t.Helper()
	const file = "../../docs/security.md"
	begin, end := "<!-- "+name+" -->\n", "<!-- end of the "+name+" -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("docs/security.md has no marks of the %s", name)
	}
	want := before + begin + table + end + after
	if want == string(text) {
		return
	}
	if os.Getenv("MCP_SANDBOX_TEST_UPDATE") != "" {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("docs/security.md: the %s is not current: run MCP_SANDBOX_TEST_UPDATE=1 go test ./cmd/mcp-sandbox -run TestPolicyMatrixDoc", name)
}
