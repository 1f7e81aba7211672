package session

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"mcp-sandbox/audit"
	"mcp-sandbox/manifest"
	"mcp-sandbox/sandbox"
)

// InnerListener is what a Sandbox also offers when the server may listen
// inside the session's network.
type InnerListener interface {
	Listen(network, addr string) (net.Listener, error)
}

// commitForm tells a commit's name from a branch's.
var commitForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-fA-F]{7,64}$`) })

const (
	// gitTimeout bounds one repository.
	gitTimeout = 5 * time.Minute
	// gitOutput bounds the end of git's output that is kept for the error, in bytes.
	gitOutput = 4 << 10
)

// passedToGit are the settings of the manifest's environment that git gets: the
// authorities it trusts. Their files must be granted to be seen inside.
var passedToGit = []string{"GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// cloneRepo fetches a repository in a sandbox of its own, whose only way out is
// a tunnel to the named host, and names the directory it is in. What git wrote
// is hostile. Codes: exec_failed (no git), exec_timeout, confinement_unavailable,
// internal.
func (s *Session) cloneRepo(ctx context.Context, entry string, e manifest.Entry) (checkout string, done func(), err error) {
	dir := s.temp + "-git-" + randomHex(4)
	fd, err := makeOwnedAt(dir)
	if err != nil {
		return "", nil, errorf("internal", err, "the entry %q: no temporary directory could be made; check that the temporary directory exists and has room", entry)
	}
	clean := func() {
		if err := removeOwned(dir, fd); err != nil {
			s.log.Warn("the directory of a clone was not removed", "error", err)
		}
		fd.Close()
	}
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	if err := s.runGit(ctx, entry, e, dir, fd); err != nil {
		clean()
		return "", nil, err
	}
	return filepath.Join(dir, "repo"), clean, nil
}

func (s *Session) runGit(ctx context.Context, entry string, e manifest.Entry, dir string, fd *os.File) error {
	host := e.Host
	if host == "" {
		host = "github.com"
	}
	target := host
	if !strings.Contains(host, ":") {
		target = host + ":443"
	}
	c := s.config
	sb, err := s.launcher.Start(ctx, sandbox.Policy{
		Workspace: dir, WorkspaceFile: fd, UID: -1, GID: -1, Path: c.Path, Read: c.Read, DenyRead: c.hidden(),
		StateDirs: s.state.dirs(), TempDir: dir + "-tmp", Network: "loopback", Limits: c.Limits, Level: c.Level, MinLevel: c.MinLevel, Log: s.log,
	}, Callbacks{})
	if err != nil {
		return err
	}
	defer sb.Close()
	inner, ok := sb.(InnerListener)
	if !ok {
		return errorf("confinement_unavailable", nil, "the entry %q: this confinement has no network that can be limited to %s; fetch the repository yourself and use local_dir", entry, host)
	}
	l, err := inner.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errorf("confinement_unavailable", err, "the entry %q: this confinement has no network that can be limited to %s; fetch the repository yourself and use local_dir", entry, host)
	}
	tunnel := newTunnel(l, target)
	defer tunnel.close()

	env := append(slices.Clone(sb.Environ()), "TERM=dumb", "LANG=C.UTF-8",
		// No prompt, no configuration but this, no protocol but https, no program
		// of the repository's choice (CVE-2024-32002).
		"GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ALLOW_PROTOCOL=https",
		"GIT_LFS_SKIP_SMUDGE=1", "GIT_ADVICE=0",
		"https_proxy=http://"+l.Addr().String(), "HTTPS_PROXY=http://"+l.Addr().String())
	for _, kv := range s.env {
		if name, _, _ := strings.Cut(kv, "="); slices.Contains(passedToGit, name) {
			env = append(env, kv)
		}
	}
	url := "https://" + host + "/" + strings.TrimSuffix(e.Repo, ".git") + ".git"
	git := func(args ...string) (string, error) { return s.git(ctx, sb, dir, env, args) }
	out, err := fetchRef(git, url, e.Ref)
	if err == nil {
		return nil
	}
	var coded *sandbox.Error
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errorf("exec_timeout", err, "the entry %q: git took over %v and was ended; fetch the repository yourself and use local_dir", entry, gitTimeout)
	case ctx.Err() != nil:
		return errorf("cancelled", ctx.Err(), "the call was cancelled while %s was fetched; nothing was changed", e.Repo)
	case errors.As(err, &coded):
		return coded
	}
	return errorf("exec_failed", err, "the entry %q: git could not fetch %s from %s (%s); check host, repo and ref", entry, e.Repo, host, lastLine(out))
}

// fetchRef takes a commit by its name where the server lets it, and otherwise a
// branch or tag, which may be called like one.
func fetchRef(git func(...string) (string, error), url, ref string) (string, error) {
	if commitForm().MatchString(ref) {
		for _, args := range [][]string{
			{"init", "-q", "--template=", "repo"},
			{"-C", "repo", "remote", "add", "origin", url},
			{"-C", "repo", "fetch", "-q", "--depth", "1", "--no-tags", "origin", ref},
			{"-C", "repo", "checkout", "-q", "--detach", "FETCH_HEAD"},
		} {
			out, err := git(args...)
			if err == nil {
				continue
			}
			if args[2] != "fetch" {
				return out, err
			}
			if out, err := git("-C", "repo", "fetch", "-q", "--depth", "1", "--no-tags", "origin", "refs/heads/"+ref); err != nil {
				if out2, err := git("-C", "repo", "fetch", "-q", "--depth", "1", "--no-tags", "origin", "refs/tags/"+ref); err != nil {
					return out + out2, err
				}
			}
		}
		return "", nil
	}
	args := []string{"clone", "-q", "--template=", "--depth", "1", "--single-branch", "--no-tags", "--no-recurse-submodules"}
	if ref != "" {
		args = append(args, "--branch="+ref)
	}
	return git(append(args, "--", url, "repo")...)
}

var errGit = errors.New("git failed")

// git runs one command and gives the end of what it said.
func (s *Session) git(ctx context.Context, sb sandbox.Sandbox, dir string, env, args []string) (string, error) {
	p, err := sb.Spawn(ctx, sandbox.Command{Argv: append([]string{"git"}, args...), Env: env, Dir: dir})
	if err != nil {
		if sandbox.CodeOf(err) == "exec_failed" {
			return "", errorf("exec_failed", err, "git could not be started in the sandbox; install git or use local_dir")
		}
		return "", err
	}
	defer p.Stdout().Close()
	stop := context.AfterFunc(ctx, func() { _ = p.SignalTree(9) })
	defer stop()
	tail := make(chan string, 1)
	go func() { tail <- readTail(p.Stdout(), gitOutput) }()
	st := p.Wait()
	// What git left in the background must not hold the answer.
	_ = p.Stdout().SetReadDeadline(time.Now().Add(time.Second))
	out := <-tail
	if st.Code != 0 {
		return out, errGit
	}
	return out, nil
}

func readTail(r io.Reader, n int) string {
	var keep []byte
	buf := make([]byte, 4096)
	for {
		k, err := r.Read(buf)
		keep = append(keep, buf[:k]...)
		if len(keep) > n {
			keep = append(keep[:0], keep[len(keep)-n:]...)
		}
		if err != nil {
			return string(keep)
		}
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(s, "?")), "\n")
	line := sandbox.OneLine(strings.TrimSpace(lines[len(lines)-1]))
	if line == "" {
		return "it said nothing"
	}
	return audit.Clip(line)
}

// makeOwnedAt makes a private directory at a path of the server, for commands as those of
// an owned workspace.
func makeOwnedAt(dir string) (*os.File, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if _, _, err := chownToSandbox(dir); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	f, err := openRoot(dir)
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	return f, nil
}

// sweepClones removes the clone directories of a session that was killed. Their
// names hold its random id.
func sweepClones(temp string) error {
	dirs, _ := filepath.Glob(temp + "-git-*")
	var errs []error
	for _, d := range dirs {
		openDirs(d)
		errs = append(errs, os.RemoveAll(d))
	}
	return errors.Join(errs...)
}
