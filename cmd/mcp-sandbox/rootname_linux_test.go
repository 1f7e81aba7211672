package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPathAsWritten: a workspace or a grant that is named through links is found
// inside under that name, by commands and by the file tools.
func TestPathAsWritten(t *testing.T) {
	for _, tc := range []struct {
		name string
		// links are pairs of a name and what the link says, below one directory.
		links [][2]string
		root  string
	}{
		{"a link to it", [][2]string{{"link", "real/ws"}}, "link"},
		{"an absolute link", [][2]string{{"link", "{top}/real/ws"}}, "link"},
		{"a link on the way", [][2]string{{"link", "real"}}, "link/ws"},
		{"link to link to link", [][2]string{{"c", "real/ws"}, {"deep/er/b", "../../c"}, {"a", "{top}/deep/er/b"}}, "a"},
		{"links one after the other", [][2]string{{"x", "deep"}, {"deep/y", "../real"}}, "x/y/ws"},
		{"a link beside the workspace", [][2]string{{"real/link", "ws"}}, "real/link"},
	} {
		for _, flag := range []string{"--root", "--read", "--write"} {
			t.Run(tc.name+" "+flag, func(t *testing.T) {
				top, err := filepath.EvalSymlinks(t.TempDir())
				if err != nil {
					t.Fatal(err)
				}
				openPath(t, top)
				for _, d := range []string{"real/ws/sub", "deep/er", "other"} {
					if err := os.MkdirAll(filepath.Join(top, d), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				for _, l := range tc.links {
					if err := os.Symlink(strings.ReplaceAll(l[1], "{top}", top), filepath.Join(top, l[0])); err != nil {
						t.Fatal(err)
					}
				}
				put(t, top+"/real/ws/sub/f", "found\n")
				giveToSandbox(t, top+"/real/ws")
				giveToSandbox(t, top+"/other")
				given := filepath.Join(top, tc.root)
				args := []string{"--root", given}
				if flag != "--root" {
					args = []string{"--root", top + "/other", flag, given}
				}
				c := startServer(t, args...)
				c.initialize("2025-11-25")
				if o := c.exec(map[string]any{"cmd": "cat " + given + "/sub/f && cd " + given + " && cat sub/f"}); o.Output != "found\nfound\n" {
					t.Errorf("a command: %+v", o)
				}
				if flag != "--read" {
					if o := c.exec(map[string]any{"cmd": "echo more >> " + given + "/sub/f", "workdir": given + "/sub"}); o.ExitCode == nil || *o.ExitCode != 0 {
						t.Errorf("a command writes: %+v", o)
					}
					expect(t, top+"/real/ws/sub/f", "found\nmore\n")
				}
				if r := c.call("read_file", map[string]any{"path": given + "/sub/f"}); r.IsError {
					t.Errorf("read_file: %s", r.text())
				}
			})
		}
	}
}
