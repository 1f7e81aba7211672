package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"mcp-sandbox/session"
)

// The admin socket of a network server lies in its state directory, which is
// closed to others and hidden from commands, and answers its own user and root
// alone: GET /sessions lists the running sessions, POST /end ends a principal's.

// adminPattern names the sockets of this machine's servers; a state directory may
// be shared with others.
func adminPattern() string {
	host, _ := os.Hostname()
	host = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(host))
	return "admin-" + host[:min(len(host), 32)] + "-"
}

// shortPath names a file of an open directory in less than the 108 bytes of a
// socket's address (unix(7)).
func shortPath(dir *os.File, name string) string {
	if runtime.GOOS == "linux" {
		return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
	}
	return filepath.Join(dir.Name(), name)
}

// serveAdmin opens the socket. A server that cannot have one serves all the same.
func serveAdmin(m *session.Manager, s *settings) (stop func() error) {
	none := func() error { return nil }
	dir, err := os.Open(m.Config().StateDir)
	if err != nil {
		s.session.Log.Warn("no admin socket", "error", err)
		return none
	}
	name := fmt.Sprintf("%s%d.sock", adminPattern(), os.Getpid())
	l, err := listenUnix(shortPath(dir, name))
	if err != nil {
		dir.Close()
		s.session.Log.Warn("no admin socket", "error", err)
		return none
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sessions", func(w http.ResponseWriter, r *http.Request) {
		answerAdmin(w, m.LiveSessions(r.URL.Query().Get("principal")))
	})
	mux.HandleFunc("POST /end", func(w http.ResponseWriter, r *http.Request) {
		n, err := m.EndPrincipal(r.URL.Query().Get("principal"))
		if err != nil {
			s.session.Log.Warn("a session did not end cleanly", "error", err)
		}
		answerAdmin(w, map[string]int{"ended": n})
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	return func() error {
		err := srv.Close()
		<-served
		err = errors.Join(err, ignoreMissing(os.Remove(shortPath(dir, name))))
		return errors.Join(err, dir.Close())
	}
}

func ignoreMissing(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

func answerAdmin(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// askServers sends a request to every server of this machine that has the state
// directory, and hands each answer on. Sockets of servers that are gone are
// removed.
func askServers(stateDir, method, path string, query url.Values, each func(json.RawMessage) error) (asked int, err error) {
	dir, err := os.Open(stateDir)
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, badSetting("the state directory cannot be opened (%v); name that of the server with --state-dir", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, adminPattern()) || !strings.HasSuffix(name, ".sock") {
			continue
		}
		socket := shortPath(dir, name)
		client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
		}}
		r, err := http.NewRequest(method, "http://server"+path+"?"+query.Encode(), nil)
		if err != nil {
			return asked, err
		}
		resp, err := client.Do(r)
		if err != nil {
			_ = removeStale(socket)
			continue
		}
		var answer json.RawMessage
		err = json.NewDecoder(resp.Body).Decode(&answer)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return asked, fmt.Errorf("a server answered %s", resp.Status)
		}
		asked++
		if err := each(answer); err != nil {
			return asked, err
		}
	}
	return asked, nil
}
