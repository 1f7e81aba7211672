package confine

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mcp-sandbox/sandbox"
)

// A server's token file in /etc, which every level opens, is hidden at each: without
// mounts by opening what lies next to it.
func TestHiddenInEtc(t *testing.T) {
	eachLevel(t, func(t *testing.T, p sandbox.Policy) {
		if os.Geteuid() == 0 && p.Level == sandbox.LevelLandlock && strings.HasSuffix(t.Name(), "/self") {
			return // commands that are root are opened single files of /etc, whatever lies next to them
		}
		top, in, next := filesInEtc(t)
		// The third is made for each session.
		p.StateDirs = []string{top, in, "/etc/hostname"}
		s := start(t, p)
		want(t, s, p.Workspace, "cat "+top+" "+in+" /etc/hostname 2>/dev/null; grep -c ^root: /etc/passwd; ls "+next+" >/dev/null && echo next", "1\nnext\n")
	})
}

// filesInEtc are a file of /etc that everybody can read, one in a directory there, and
// what lies next to that.
func filesInEtc(t *testing.T) (top, in, next string) {
	t.Helper()
	word := regexp.MustCompile(`^[a-z0-9._-]+$`)
	readable := func(dir string) (files, all []string) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			fi, err := e.Info()
			if err != nil || !word.MatchString(e.Name()) || !e.IsDir() && !e.Type().IsRegular() || fi.Mode().Perm()&0o004 == 0 || e.IsDir() && fi.Mode().Perm()&0o001 == 0 {
				continue
			}
			all = append(all, filepath.Join(dir, e.Name()))
			if e.Type().IsRegular() && fi.Size() > 0 {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
		return files, all
	}
	// These are made for each session, are hidden, or are needed.
	own := []string{"/etc/passwd", "/etc/group", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/mtab",
		"/etc/ssh", "/etc/sudoers.d", "/etc/alternatives", "/etc/ssl", "/etc/ld.so.conf.d", "/etc/ld.so.conf", "/etc/ld.so.cache", "/etc/ld.so.preload"}
	files, all := readable("/etc")
	for _, f := range files {
		if top == "" && !slices.Contains(own, f) {
			top = f
		}
	}
	for _, dir := range all {
		if files, all := readable(dir); in == "" && len(files) > 0 && len(all) > 1 && !slices.Contains(own, dir) {
			in = files[0]
			next = all[slices.IndexFunc(all, func(p string) bool { return p != in })]
		}
	}
	if top == "" || in == "" {
		t.Fatalf("/etc has no file and directory for this test: %q, %q", top, in)
	}
	return top, in, next
}
