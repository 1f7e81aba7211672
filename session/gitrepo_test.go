package session

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// gitServer serves one repository, o/n, over https with git's own backend, and
// gives its host and the file with its authority.
func gitServer(t *testing.T) (host, ca, commit string, hits *atomic.Int64) {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not installed")
	}
	dir := t.TempDir()
	bare := filepath.Join(dir, "o", "n.git")
	work := filepath.Join(dir, "work")
	script := `set -e
git init -q -b main work; cd work
mkdir sub; echo top > top; echo in > sub/in; printf '#!/bin/sh\n' > tool; chmod 755 tool; ln -s top link
git add .; git commit -q -m one; git branch side; git tag v1
echo later >> top; git commit -q -a -m two
git clone -q --bare . ` + bare + `
git -C ` + bare + ` config uploadpack.allowReachableSHA1InWant true
git rev-parse HEAD~1`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = filepath.Dir(work)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	core, err := exec.Command(git, "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := filepath.Join(strings.TrimSpace(string(core)), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		t.Skip("git has no http backend here")
	}
	hits = &atomic.Int64{}
	handler := &cgi.Handler{Path: backend, Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null"}, Stderr: io.Discard}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		if strings.HasPrefix(r.URL.Path, "/moved/") {
			http.Redirect(w, r, "https://elsewhere.invalid"+r.URL.Path, http.StatusFound)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	ca = filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	return srv.Listener.Addr().String(), ca, strings.TrimSpace(string(out)), hits
}

func TestGitRepo(t *testing.T) {
	host, ca, commit, _ := gitServer(t)
	manifest := func(fields string) string {
		return fmt.Sprintf(`{"environment": {"GIT_SSL_CAINFO": %q}, "entries": {"other": {"type": "file"}, "r": {"type": "git_repo", "host": %q, %s}}}`, ca, host, fields)
	}
	for name, tc := range map[string]struct {
		fields, code, mention string
		want                  map[string]string
	}{
		"default":     {`"repo": "o/n"`, "", "", map[string]string{"top": "top\nlater\n", "sub/in": "in\n", "link": "top\nlater\n"}},
		"branch":      {`"repo": "o/n.git", "ref": "side"`, "", "", map[string]string{"top": "top\n"}},
		"tag":         {`"repo": "o/n", "ref": "v1"`, "", "", map[string]string{"top": "top\n"}},
		"commit":      {`"repo": "o/n", "ref": "` + commit + `"`, "", "", map[string]string{"top": "top\n"}},
		"subpath":     {`"repo": "o/n", "subpath": "sub"`, "", "", map[string]string{"in": "in\n"}},
		"no repo":     {`"repo": "o/none"`, "exec_failed", "could not fetch", nil},
		"no ref":      {`"repo": "o/n", "ref": "none"`, "exec_failed", "could not fetch", nil},
		"no commit":   {`"repo": "o/n", "ref": "0123456789abcdef"`, "exec_failed", "could not fetch", nil},
		"no subpath":  {`"repo": "o/n", "subpath": "none"`, "not_found", "none", nil},
		"file path":   {`"repo": "o/n", "subpath": "top"`, "not_found", "top", nil},
		"link path":   {`"repo": "o/n", "subpath": "link"`, "not_found", "link", nil},
		"other place": {`"repo": "moved/n"`, "exec_failed", "could not fetch", nil},
	} {
		t.Run(name, func(t *testing.T) {
			w, m, s, err := applied(t, manifest(tc.fields), t.TempDir(), Config{})
			if tc.code != "" {
				wantCode(t, err, tc.code)
				if !strings.Contains(fmt.Sprint(err), tc.mention) || strings.Contains(fmt.Sprint(err), w.temp) {
					t.Errorf("%v", err)
				}
				w.empty(w.temp)
				return
			}
			if err != nil {
				t.Fatal(err, errors.Unwrap(err))
			}
			for p, want := range tc.want {
				if b, err := os.ReadFile(filepath.Join(s.Root(), "r", p)); err != nil || string(b) != want {
					t.Errorf("%s: %q, %v", p, b, err)
				}
			}
			if name == "default" {
				if fi, err := os.Stat(filepath.Join(s.Root(), "r", "tool")); err != nil || fi.Mode().Perm() != 0o755 {
					t.Errorf("tool: %v, %v", fi, err)
				}
				if got := run(t, s, "git -c safe.directory='*' -C r log --oneline | wc -l; ls r/.git/hooks 2>&1 || true"); !strings.HasPrefix(strings.TrimSpace(got), "1") {
					t.Errorf("not shallow, or no repository: %q", got)
				}
				// The clone ran in a sandbox of its own, without the session's grants to write.
				if c := w.launcher.seen[0]; c.Workspace == s.Root() || c.Network != "loopback" || len(c.Write) != 0 {
					t.Errorf("the clone's confinement: %+v", c)
				}
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			w.empty(w.temp)
		})
	}
}

// TestGitTunnel: nothing but CONNECT to the named host and port.
func TestGitTunnel(t *testing.T) {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("reached")) }))
	defer target.Close()
	addr := target.Listener.Addr().String()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tun := newTunnel(l, addr)
	defer tun.close()
	ask := func(request string) string {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).CloseWrite()
		return readTail(c, 1<<16)
	}
	get := "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	if got := ask("CONNECT " + addr + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n" + get); !strings.Contains(got, "reached") {
		t.Errorf("the named host is not reached: %q", got)
	}
	_, port, _ := net.SplitHostPort(addr)
	for _, request := range []string{
		get,
		"GET http://" + addr + "/ HTTP/1.1\r\nHost: " + addr + "\r\n\r\n",
		"CONNECT 127.0.0.2:" + port + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n" + get,
		"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: " + addr + "\r\n\r\n" + get,
		"CONNECT " + addr + ".evil HTTP/1.1\r\nHost: " + addr + "\r\n\r\n" + get,
		"CONNECT x@" + addr + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n" + get,
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
		"\x05\x01\x00",
		strings.Repeat("A", 1<<17),
	} {
		if got := ask(request); strings.Contains(got, "reached") || strings.Contains(got, " 200 ") {
			t.Errorf("%.60q went through: %q", request, got)
		}
	}
}
