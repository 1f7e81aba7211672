package main

import (
	"archive/tar"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The doors of the matrix that are commands of the operator, and what starts a
// later session.

// tells says whether text holds the secret, plain or in base64.
func tells(text string) bool {
	return strings.Contains(text, secret) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(secret)))
}

// hostDoor tries to read and to change a file by commands of the operator with
// the settings of the row, and gives back all that was printed.
type hostDoor struct {
	group string
	name  string
	try   func(d *doorTry) string
}

// doorTry is one row at one door.
type doorTry struct {
	*host
	w    policyWorld
	file string
	rel  string   // of file in the workspace, "" when it lies elsewhere
	args []string // --root and the policy
	bare []string // --root alone
}

func (d *doorTry) all(command string, args []string, rest ...string) string {
	out, _ := d.try(append(append([]string{command}, args...), rest...)...)
	return out
}

var hostDoors = []hostDoor{
	{doorLater, "exec", func(d *doorTry) string {
		return d.all("exec", d.args, "--", "cat '"+d.file+"'; cat * */* */.* elsewhere/sub/* 2>/dev/null; grep -rah CANARY . '"+filepath.Dir(d.file)+"'")
	}},
	{doorManifest, "entries that copy it, or what holds it", func(d *doorTry) string {
		src, err := filepath.Rel(filepath.Dir(d.w.ws), d.file)
		if err != nil {
			d.t.Fatal(err)
		}
		return d.manifest("copied-f", `{"type": "local_file", "src": %q}`, src) + d.manifest("copied-d", `{"type": "local_dir", "src": %q}`, filepath.Dir(src))
	}},
	{doorManifest, "entries in its place", func(d *doorTry) string {
		if d.rel == "" {
			return ""
		}
		return d.manifest(d.rel, `{"type": "file", "content": "x"}`) + d.manifest(d.rel, `{"type": "file", "content": "x", "ephemeral": true}`) +
			d.manifest(filepath.Dir(d.rel), `{"type": "dir", "ephemeral": true}`)
	}},
	{doorSnapshots, "create, show, export, import, restore", func(d *doorTry) string {
		out := d.all("snapshots", d.args, "create", "x")
		put(d.t, d.w.ws+"/plain", "changed")
		archive := filepath.Join(d.t.TempDir(), "out.tar")
		out += d.all("snapshots", d.args, "show", "latest") + d.all("snapshots", d.args, "export", archive)
		b, _ := os.ReadFile(archive)
		out += string(b) + d.all("snapshots", d.args, "restore", "latest")
		// An archive that has the name, and one that has all else but not the name.
		for i, names := range [][]string{{d.rel, "plain"}, {"plain"}} {
			imported := filepath.Join(d.t.TempDir(), fmt.Sprint(i, ".tar"))
			writeTar(d.t, imported, names)
			out += d.all("snapshots", d.args, "import", imported, fmt.Sprint("in", i)) + d.all("snapshots", d.args, "restore", fmt.Sprint("in", i)) +
				d.all("snapshots", d.args, "show", fmt.Sprint("in", i))
			if d.rel != "" {
				out += d.all("snapshots", d.args, "restore", "--path", d.rel, fmt.Sprint("in", i)) + d.all("snapshots", d.args, "show", "--path", d.rel, fmt.Sprint("in", i))
			}
		}
		return out
	}},
	{doorFrom, "--from", func(d *doorTry) string {
		out := ""
		if strings.HasPrefix(d.w.state, d.w.ws) {
			return out
		}
		id := strings.TrimSpace(d.all("snapshots", d.args, "create", "start"))
		if f := strings.Fields(id); len(f) > 0 {
			id = f[0]
		}
		fresh := filepath.Join(filepath.Dir(d.w.ws), "fresh")
		for _, from := range []string{d.w.ws + "@" + id, d.file} {
			if err := os.MkdirAll(fresh, 0o755); err != nil {
				d.t.Fatal(err)
			}
			out += d.all("exec", append([]string{"--root", fresh, "--from", from}, d.args[2:]...), "--", "grep -rah CANARY .")
			if err := os.RemoveAll(fresh); err != nil {
				d.t.Fatal(err)
			}
		}
		return out
	}},
	{doorSessions, "sessions get and put", func(d *doorTry) string {
		d.all("exec", append([]string{"--session", "saved"}, d.bare...), "--", "true")
		in := filepath.Join(d.t.TempDir(), "in")
		put(d.t, in, "put")
		out := ""
		for _, p := range []string{d.file, d.rel, "sub/../" + d.rel} {
			for _, verb := range [][]string{{"get", "saved", p}, {"put", "saved", p, in}} {
				out += d.all("sessions", verb, d.args[2:]...)
			}
		}
		return out
	}},
}

// manifest runs a session whose manifest has one entry.
func (d *doorTry) manifest(path, entry string, args ...any) string {
	file := filepath.Dir(d.w.ws) + "/manifest.json"
	put(d.t, file, fmt.Sprintf(`{"entries": {%q: `+entry+`}}`, append([]any{path}, args...)...))
	return d.all("exec", append([]string{"--manifest", file}, d.args...), "--", "cat '"+path+"' '"+path+"'/* '"+path+"'/.*; rm -rf copied-f copied-d")
}

func writeTar(t *testing.T, file string, names []string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a := tar.NewWriter(f)
	for _, name := range names {
		if name == "" {
			continue
		}
		if err := a.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 8, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Write([]byte("imported")); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}
