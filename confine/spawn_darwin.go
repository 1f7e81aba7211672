package confine

import (
	"context"
	"errors"
	"io/fs"
	"mcp-sandbox/sandbox"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Spawn starts a command under a profile of its own. Errors are as on Linux:
// exec_failed, not_found or not_a_directory for Dir, cancelled.
func (s *Sandbox) Spawn(ctx context.Context, c sandbox.Command) (sandbox.Process, error) {
	p, err := s.spawn(ctx, c)
	if err != nil {
		return nil, err // not a nil *Process, which would be a Process
	}
	return p, nil
}

func (s *Sandbox) spawn(ctx context.Context, c sandbox.Command) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, errorf("cancelled", err, "the call was cancelled before the command started")
	}
	if err := checkCommand(c); err != nil {
		return nil, err
	}
	// sandbox-exec tells a missing program only by its exit status, so look first.
	program, err := findProgram(c)
	if err != nil {
		return nil, err
	}
	io, err := openCommandIO(c)
	if err != nil {
		return nil, errorf("limit_reached", err, "the server has no descriptors or terminals left; end other commands first")
	}
	defer io.closeTheirs()

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		io.closeOurs()
		return nil, errSandboxGone()
	}
	argv, err := s.commandLine(append([]string{program}, c.Argv[1:]...), io.tty)
	if err != nil {
		io.closeOurs()
		return nil, err
	}
	attr := &syscall.SysProcAttr{Setsid: true, Credential: s.cred}
	if c.TTY {
		attr.Setctty, attr.Ctty = true, 0
	}
	leader, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Dir: c.Dir, Env: c.Env, Files: io.files(), Sys: attr})
	if err != nil {
		io.closeOurs()
		if errors.Is(err, unix.E2BIG) {
			return nil, errTooLong(c)
		}
		return nil, errorf("exec_failed", err, "the command cannot be started (%s); check its name and permissions", errnoText(err))
	}
	p := &Process{s: s, leader: leader, stdin: io.stdin, stdout: io.stdout, stderr: io.stderr, done: make(chan struct{}),
		tree: newProcessTree(leader.Pid)}
	s.procs[p] = struct{}{}
	go p.reap()
	return p, nil
}

// commandLine puts argv under the profile. Between the two a shell sets the
// limits, for Go has no hook between fork and exec. It must stand inside the
// profile: it reads the command's environment, and an exported function in there
// is code (CVE-2014-6271). RLIMIT_NPROC is left alone, since macOS counts all processes
// of the user; a limit that is lower already stays.
func (s *Sandbox) commandLine(argv []string, tty string) ([]string, error) {
	const blocks = 512 // of ulimit -f
	limits := "ulimit -c 0; ulimit -f " + strconv.FormatInt(max(s.lim.FileSize/blocks, 1), 10) +
		" 2>/dev/null; ulimit -n " + strconv.Itoa(s.lim.OpenFiles) + ` 2>/dev/null; exec "$@"`
	argv = append([]string{"/bin/sh", "-c", limits, "sh"}, argv...)
	if s.level == sandbox.LevelNone {
		return argv, nil
	}
	spec := s.spec
	spec.TTY = tty
	profile, params, err := seatbeltProfile(spec)
	if err != nil {
		return nil, err
	}
	return seatbeltArgs(profile, params, argv), nil
}

// check refuses what no kernel would take, before anything is made.
func checkCommand(c sandbox.Command) error {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return errorf("invalid_argument", nil, "the command is empty; name a program")
	}
	for _, ss := range [][]string{c.Argv, c.Env, {c.Dir}} {
		for _, v := range ss {
			if strings.IndexByte(v, 0) >= 0 {
				return errorf("invalid_argument", nil, "the command, its environment or its directory holds a NUL byte; remove it")
			}
		}
	}
	if !filepath.IsAbs(c.Dir) {
		return errorf("invalid_argument", nil, "the working directory is not absolute; give its whole path")
	}
	fi, err := os.Stat(c.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errorf("not_found", err, "the working directory does not exist; make it first")
	case err != nil:
		return errorf("permission_denied", err, "the working directory cannot be entered (%s); choose one inside the workspace", errnoText(err))
	case !fi.IsDir():
		return errorf("not_a_directory", nil, "the working directory is not a directory; name one")
	}
	return nil
}

// findProgram searches PATH of the command's own environment, as execvp(3).
func findProgram(c sandbox.Command) (string, error) {
	name := c.Argv[0]
	candidates := []string{name}
	if !strings.Contains(name, "/") {
		candidates = nil
		for _, e := range c.Env {
			if v, ok := strings.CutPrefix(e, "PATH="); ok {
				for dir := range strings.SplitSeq(v, ":") {
					candidates = append(candidates, filepath.Join(c.Dir, relativeTo(dir), name))
					if filepath.IsAbs(dir) {
						candidates[len(candidates)-1] = filepath.Join(dir, name)
					}
				}
			}
		}
	}
	var last error = syscall.ENOENT
	for _, p := range candidates {
		look := p
		if !filepath.IsAbs(look) {
			look = filepath.Join(c.Dir, look)
		}
		fi, err := os.Stat(look)
		switch {
		case err != nil:
			if !errors.Is(err, fs.ErrNotExist) {
				last = err
			}
		case fi.IsDir() || fi.Mode()&0o111 == 0:
			last = syscall.EACCES
		default:
			return p, nil
		}
	}
	return "", errorf("exec_failed", last, "the program cannot be run (%s); check its name and PATH", errnoText(last))
}

func relativeTo(dir string) string {
	if dir == "" {
		return "."
	}
	return dir
}
