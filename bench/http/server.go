package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"mcp-sandbox/bench/internal/build"
	"mcp-sandbox/bench/internal/proctree"
)

// server is the real binary with a state and a temporary directory of its own.
type server struct {
	cmd     *exec.Cmd
	version string
	state   string
	temp    string
	tokens  []string // of the honest principals
	hostile string   // of the one that attacks
	address string
	stderr  tail
	ended   chan struct{}
}

const (
	// clientsPerPrincipal stays under the default of 16 sessions of a principal,
	// which the attacker has too.
	clientsPerPrincipal = 10
	sessionsPerAttacker = 16
	patience            = 60 * time.Second
)

func startServer(ctx context.Context, dir string, clients int) (*server, error) {
	if err := proctree.AdoptOrphans(); err != nil {
		return nil, err
	}
	s := &server{
		state: filepath.Join(dir, "state"), temp: filepath.Join(dir, "tmp"),
		hostile: rand.Text(), version: version(ctx), ended: make(chan struct{}),
	}
	bin := filepath.Join(dir, "mcp-sandbox")
	if err := build.Server(ctx, "..", bin); err != nil {
		return nil, err
	}
	if err := os.Mkdir(s.temp, 0o700); err != nil {
		return nil, err
	}
	file := "attacker:" + s.hostile + "\n"
	for i := 0; i*clientsPerPrincipal < clients; i++ {
		s.tokens = append(s.tokens, rand.Text())
		file += fmt.Sprintf("principal-%d:%s\n", i, s.tokens[i])
	}
	tokens := filepath.Join(dir, "tokens")
	if err := os.WriteFile(tokens, []byte(file), 0o600); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(bin, "serve", "--transport", "http", "--listen", "127.0.0.1:0", "--token-file", tokens,
		"--state-dir", s.state, "--max-sessions", strconv.Itoa(clients+sessionsPerAttacker), "--structured", "on", "--default-sandbox", "off")
	s.cmd.Env = append(os.Environ(), "TMPDIR="+s.temp)
	s.cmd.Stderr = &s.stderr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = s.cmd.Wait(); close(s.ended) }()
	if err := s.ready(ctx); err != nil {
		s.kill()
		return nil, fmt.Errorf("%w%s", err, s.said())
	}
	return s, nil
}

// ready waits until the server listens and has tried a sandbox.
func (s *server) ready(ctx context.Context) error {
	listens := regexp.MustCompile(`serves http on (?:http://)?([^\s/]+)`)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for ; ; pause(ctx, 10*time.Millisecond) {
		select {
		case <-s.ended:
			return errors.New("the server ended at once")
		case <-ctx.Done():
			return errors.New("the server is not ready")
		default:
		}
		if m := listens.FindStringSubmatch(s.stderr.String()); m != nil {
			s.address = m[1]
			if ready(ctx, s.address) {
				return nil
			}
		}
	}
}

func ready(ctx context.Context, address string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return false
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (s *server) pid() int { return s.cmd.Process.Pid }

func (s *server) target() target { return target{address: s.address, token: s.hostile} }

// said is what the server wrote last, for an error.
func (s *server) said() string {
	if text := strings.TrimSpace(s.stderr.String()); text != "" {
		return "\nthe server said:\n" + text
	}
	return ""
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.ended
	proctree.EndOrphans()
}

// stop ends the server as an operator does and looks for what is left of it.
func (s *server) stop() (took time.Duration, left []string) {
	begin := time.Now()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
		if code := s.cmd.ProcessState.ExitCode(); code != 0 {
			left = append(left, fmt.Sprintf("exit status %d", code))
		}
	case <-time.After(patience):
		left = append(left, "the server, which did not stop")
	}
	took = time.Since(begin)
	// What it killed may still be on its way out.
	for limit := time.Now().Add(5 * time.Second); len(proctree.Descendants(os.Getpid())) > 0 && time.Now().Before(limit); {
		time.Sleep(20 * time.Millisecond)
		proctree.Reap()
	}
	if n := proctree.EndOrphans(); n > 0 {
		left = append(left, fmt.Sprintf("%d processes", n))
	}
	return took, append(left, s.remains()...)
}

// remains are files, mounts and control groups of the server.
func (s *server) remains() (left []string) {
	entries, _ := filepath.Glob(filepath.Join(s.temp, "*"))
	for _, pattern := range []string{"sessions", "saved"} {
		more, _ := filepath.Glob(filepath.Join(s.state, pattern, "*"))
		entries = append(entries, more...)
	}
	for _, path := range entries {
		// A mark that a session was deleted stays, empty, so that its id never
		// comes alive again.
		if filepath.Ext(path) != ".gone" {
			left = append(left, filepath.Base(path))
		}
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		if n := bytes.Count(mounts, []byte(s.temp)); n > 0 {
			left = append(left, fmt.Sprintf("%d mounts", n))
		}
	}
	group := fmt.Sprintf("mcp-sandbox-%d-", s.pid())
	_ = filepath.WalkDir("/sys/fs/cgroup", func(_ string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fs.SkipDir
		case d.IsDir() && strings.HasPrefix(d.Name(), group):
			left = append(left, "control group "+d.Name())
		}
		return nil
	})
	return left
}

// usage is what the server takes at a moment.
type usage struct {
	server    int64 // resident bytes of the server process itself
	tree      int64 // proportional bytes of it and all its descendants
	files     int   // its open descriptors
	processes int   // it and its descendants
}

func (u usage) most(o usage) usage {
	return usage{max(u.server, o.server), max(u.tree, o.tree), max(u.files, o.files), max(u.processes, o.processes)}
}

func (s *server) usage() usage {
	pid := s.pid()
	pids := proctree.Tree(pid)
	return usage{server: proctree.RSS(pid), tree: proctree.PSS(pids), files: proctree.OpenFiles(pid), processes: len(pids)}
}

// settled is the usage after the start: it waits until a second brings no process
// and no descriptor more.
func (s *server) settled(ctx context.Context) usage {
	u := s.usage()
	for range 10 {
		pause(ctx, time.Second)
		before := u
		if u = s.usage(); u.processes == before.processes && u.files == before.files {
			break
		}
	}
	return u
}

// usageOnce waits a while for the server to get as low as low wants; what it
// gives is the last that was seen.
func (s *server) usageOnce(low func(usage) bool) usage {
	u := s.usage()
	for limit := time.Now().Add(10 * time.Second); !low(u) && time.Now().Before(limit); u = s.usage() {
		time.Sleep(100 * time.Millisecond)
	}
	return u
}

func version(ctx context.Context) string {
	commit, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "this source"
	}
	return "commit " + strings.TrimSpace(string(commit))
}

// machine tells what the figures depend on and nothing that names a place.
func machine() string {
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	kernel, _, _ := strings.Cut(strings.TrimSpace(string(release)), "-")
	return fmt.Sprintf("%s/%s, %d cores, Linux %s, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), kernel, runtime.Version())
}

// tail keeps the last part of what the server says.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - 1<<16; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
