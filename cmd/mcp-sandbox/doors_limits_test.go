package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The matrix of limits: which one holds at which door. It is a table of
// docs/security.md, and TestLimitMatrix tries each cell.

// limitDoor tries to make n bytes, more than the limit.
type limitDoor struct {
	name string
	try  func(c *client, root string, n int)
}

var limitDoors = []limitDoor{
	{"Commands", func(c *client, root string, n int) {
		c.call("exec_command", map[string]any{"cmd": fmt.Sprintf("head -c %d /dev/zero > big; sleep 6", n), "yield_time_ms": 7000})
	}},
	{"`write_file`", func(c *client, root string, n int) {
		c.call("write_file", map[string]any{"path": "big", "content": strings.Repeat("x", n)})
	}},
	{"`write_file`, append", func(c *client, root string, n int) {
		for range 4 {
			c.call("write_file", map[string]any{"path": "big", "content": strings.Repeat("x", n/4), "mode": "append"})
		}
	}},
	{"`edit_file`", func(c *client, root string, n int) {
		c.ok("write_file", map[string]any{"path": "big", "content": "a"})
		c.call("edit_file", map[string]any{"path": "big", "old_text": "a", "new_text": strings.Repeat("x", n)})
	}},
	{"`apply_patch`", func(c *client, root string, n int) {
		c.call("apply_patch", map[string]any{"patch": "*** Begin Patch\n*** Add File: big\n+" + strings.Repeat("x", n) + "\n*** End Patch\n"})
	}},
	{"`extract_archive`", func(c *client, root string, n int) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		a := tar.NewWriter(z)
		_ = a.WriteHeader(&tar.Header{Name: "big", Mode: 0o644, Size: int64(n), Typeflag: tar.TypeReg})
		_, _ = a.Write(make([]byte, n))
		_ = a.Close()
		_ = z.Close()
		c.ok("write_file", map[string]any{"path": "a.tgz", "content": base64.StdEncoding.EncodeToString(b.Bytes()), "encoding": "base64"})
		c.call("extract_archive", map[string]any{"path": "a.tgz"})
	}},
	{"`raw_import`", func(c *client, root string, n int) {
		c.call("raw_import", map[string]any{"data": tarOf(c.t, "big", strings.Repeat("x", n))})
	}},
	{"`mv`, `rm`, `mkdir`", func(c *client, root string, n int) {
		// Nothing of these makes a file larger.
		c.ok("write_file", map[string]any{"path": "small", "content": "a"})
		c.ok("mv", map[string]any{"path": "small", "destination": "big"})
		c.ok("mkdir", map[string]any{"path": "d"})
		c.ok("rm", map[string]any{"path": "big"})
	}},
	{"`snapshot_restore`", func(c *client, root string, n int) {
		// As large as it was once, by somebody outside.
		put(c.t, filepath.Join(root, "big"), strings.Repeat("x", n))
		c.ok("snapshot_create", map[string]any{"label": "large"})
		if err := os.Remove(filepath.Join(root, "big")); err != nil {
			c.t.Fatal(err)
		}
		c.call("snapshot_restore", map[string]any{"snapshot_id": "large"})
	}},
}

const (
	manifestDoor    = "Manifest, `--from`"
	sessionsPutDoor = "`sessions put`"
)

// limitRow says by door what holds; "" is held.
type limitRow struct {
	flag string
	n    int // tried; the limit is a half of it
	root bool
	not  map[string]string
}

var limitRows = []limitRow{
	{"--limit-file-size", 512 << 10, true, map[string]string{
		"`snapshot_restore`": "what was there comes back",
		manifestDoor:         "not bounded, the operator's own",
	}},
	{"--limit-workspace", 2 << 20, false, map[string]string{
		"Commands":           "their processes end in seconds",
		"`snapshot_restore`": "refused when full already; what was there comes back",
		manifestDoor:         "not bounded, the operator's own; counted from the first call on",
		sessionsPutDoor:      "not bounded, the operator's own",
	}},
}

// holdsBytes are those of the largest file of a tree and of all.
func holdsBytes(root string) (largest, all int64) {
	_ = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if fi, err := d.Info(); err == nil && fi.Mode().IsRegular() {
			largest, all = max(largest, fi.Size()), all+fi.Size()
		}
		return nil
	})
	return largest, all
}

func (row limitRow) over(root string) bool {
	largest, all := holdsBytes(root)
	if row.root {
		return largest > int64(row.n/2)
	}
	return all > int64(row.n/2)
}

func TestLimitMatrix(t *testing.T) {
	for _, row := range limitRows {
		t.Run(row.flag+"/tools", func(t *testing.T) {
			t.Parallel()
			args := []string{row.flag, fmt.Sprint(row.n / 2)}
			if row.root {
				root := t.TempDir()
				openPath(t, root)
				args = append(args, "--root", root)
			}
			c := startServer(t, append(args, levelArgs()...)...)
			c.initializeRaw()
			var info struct{ Workspace struct{ Path string } }
			if err := json.Unmarshal(c.ok("session_info", nil).Structured, &info); err != nil || info.Workspace.Path == "" {
				t.Fatalf("%v %+v", err, info)
			}
			root := info.Workspace.Path
			for _, door := range limitDoors {
				door.try(c, root, row.n)
				over := row.over(root)
				if want := row.not[door.name] != ""; over != want {
					t.Errorf("%s: over the limit: %t", door.name, over)
				}
				if over && !row.root {
					c.bad("limit_reached", "write_file", map[string]any{"path": "more", "content": "x"})
				}
				c.call("rm", map[string]any{"path": "big"})
				c.call("rm", map[string]any{"path": "a.tgz"})
			}
		})
		t.Run(row.flag+"/operator", func(t *testing.T) {
			t.Parallel()
			h, dir := newHost(t), t.TempDir()
			openPath(t, dir)
			put(t, dir+"/in", strings.Repeat("x", row.n))
			put(t, dir+"/m.json", `{"entries": {"big": {"type": "local_file", "src": "in"}}}`)
			limit := []string{row.flag, fmt.Sprint(row.n / 2)}
			args := append(slices.Clone(limit), levelArgs()...)
			if out := h.run(append(append([]string{"exec", "--manifest", dir + "/m.json"}, args...), "--", "wc -c < big")...); strings.TrimSpace(out) != fmt.Sprint(row.n) {
				t.Errorf("a manifest's file has %q bytes", out)
			}
			h.run(append(append([]string{"exec", "--session", "saved"}, args...), "--", "true")...)
			out, err := h.try(append([]string{"sessions", "put", "saved", "big", dir + "/in"}, limit...)...)
			want := "too_large: "
			if row.not[sessionsPutDoor] != "" {
				want = "has no effect with this command"
			}
			if err == nil || !strings.Contains(out, want) {
				t.Errorf("sessions put, want %q: %v %s", want, err, out)
			}
		})
	}
}

// TestLimitOfTemporaryFiles: the size of /tmp holds where it is the session's own,
// and is not claimed where it is not.
func TestLimitOfTemporaryFiles(t *testing.T) {
	c := startServer(t, append([]string{"--limit-tmp", "1M"}, levelArgs()...)...)
	c.initialize("2025-06-18")
	out := c.sh(`head -c 3000000 /dev/zero > "${TMPDIR:-/tmp}/x" 2>/dev/null; wc -c < "${TMPDIR:-/tmp}/x"`)
	info := c.ok("session_info", nil).text()
	if claims := !strings.Contains(info, "temporary files as large as the disk allows"); claims == (strings.TrimSpace(out) == "3000000") {
		t.Errorf("%s bytes in /tmp, and session_info says: %s", out, info)
	}
	c.bad("path_outside_workspace", "write_file", map[string]any{"path": "/tmp/x", "content": "x"})
}

func limitTable() string {
	var b strings.Builder
	names := []string{}
	for _, d := range limitDoors {
		names = append(names, d.name)
	}
	names = append(names, manifestDoor, sessionsPutDoor)
	b.WriteString("| Door |")
	for _, row := range limitRows {
		fmt.Fprintf(&b, " %s |", row.flag)
	}
	b.WriteString("\n|" + strings.Repeat("---|", len(limitRows)+1) + "\n")
	for _, name := range names {
		fmt.Fprintf(&b, "| %s |", name)
		for _, row := range limitRows {
			what := row.not[name]
			if what == "" {
				what = held
			}
			fmt.Fprintf(&b, " %s |", what)
		}
		b.WriteString("\n")
	}
	return b.String()
}
