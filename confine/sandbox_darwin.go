package confine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"mcp-sandbox/sandbox"
)

// MaybeRunChild does nothing on macOS: no re-executed child is needed. It must
// be called first all the same, as on Linux.
func MaybeRunChild() {}

// Sandbox on macOS is a policy under which each command starts, and the set of
// commands started. There is no init: commands are children of the server, and
// orphans are found by the process table.
type Sandbox struct {
	level sandbox.Level
	gaps  []Gap
	log   *slog.Logger
	env   []string
	dir   string // the session's own directory: home and tmp
	cred  *syscall.Credential
	lim   sandbox.Limits

	mu       sync.Mutex
	spec     seatbeltSpec
	procs    map[*Process]struct{}
	held     []io.Closer
	closed   bool
	done     chan struct{}
	closeErr error
}

// start makes a sandbox. See the package documentation for what macOS cannot
// give: processes of the host stay visible, and there is no private loopback.
func start(ctx context.Context, p sandbox.Policy) (*Sandbox, error) {
	if err := ctx.Err(); err != nil {
		return nil, errorf("cancelled", err, "the call was cancelled before the sandbox started")
	}
	if err := CheckLimits(p.Limits, p.Level); err != nil {
		return nil, err
	}
	pl, gaps, err := plan(p, Probe(ctx))
	if err != nil {
		return nil, err
	}
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	s := &Sandbox{level: pl.Level, gaps: gaps, log: p.Log, lim: p.Limits.WithDefaults(),
		procs: map[*Process]struct{}{}, done: make(chan struct{})}
	if err := s.prepare(p, pl); err != nil {
		if s.dir != "" {
			os.RemoveAll(s.dir)
		}
		return nil, err
	}
	return s, nil
}

// prepare resolves the policy's paths, since Seatbelt compares resolved ones,
// and makes the session's own directory.
func (s *Sandbox) prepare(p sandbox.Policy, pl Plan) error {
	workspace, err := resolveGrant("workspace", p.Workspace)
	if err != nil {
		return err
	}
	if workspace != filepath.Clean(p.Workspace) {
		return errorf("invalid_argument", nil, "the workspace path goes through a link; give the path it leads to")
	}
	if p.WorkspaceFile != nil {
		held, err1 := p.WorkspaceFile.Stat()
		found, err2 := os.Stat(workspace)
		if err1 != nil || err2 != nil || !os.SameFile(held, found) {
			return errorf("invalid_argument", errors.Join(err1, err2), "the workspace was replaced by another directory; start the session again")
		}
	}
	uid, gid := identityOf(p, workspace)
	if os.Geteuid() == 0 && uid == 0 && !p.AllowRoot {
		return refuseRoot("the workspace", "macOS cannot show its files as another user's")
	}
	if s.dir, err = newTempDir(p.TempDir); err != nil {
		return err
	}
	tmp, home := filepath.Join(s.dir, "tmp"), filepath.Join(s.dir, "home")
	for _, d := range []string{tmp, home} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return errorf("internal", err, "the session's temporary directory cannot be made (%s); free some space", errnoText(err))
		}
	}
	if os.Geteuid() == 0 && uid != 0 {
		for _, d := range []string{s.dir, tmp, home} {
			if err := os.Chown(d, uid, gid); err != nil {
				return errorf("internal", err, "the session's temporary directory cannot be given to its user (%s); start the server as that user", errnoText(err))
			}
		}
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	if p.Home != "" {
		if home, err = resolveGrant("home", p.Home); err != nil {
			return err
		}
	}
	s.spec = seatbeltSpec{Workspace: workspace, ReadOnly: p.ReadOnly, Home: home, Tmp: tmp, Network: pl.Network}
	for _, list := range []struct {
		what string
		in   []string
		out  *[]string
	}{{"read grant", p.Read, &s.spec.Read}, {"write grant", p.Write, &s.spec.Write}} {
		for _, v := range list.in {
			r, err := resolveGrant(list.what, v)
			if err != nil {
				return err
			}
			*list.out = append(*list.out, r)
		}
	}
	// What must be hidden is hidden under both names, and whether it is there yet
	// or not.
	list, err := denyList(&p)
	if err != nil {
		return err
	}
	s.spec.DenyRead = list.Paths()
	found, err := list.Scan(context.Background())
	if err != nil || found.Partial {
		return errorf("confinement_unavailable", err, "the files that --deny-read patterns match are too many to hide; name directories instead")
	}
	for _, m := range found.Matches {
		s.spec.DenyRead = append(s.spec.DenyRead, m.Path)
	}
	if list.Wild() {
		s.gaps = append(s.gaps, Gap{layerFiles, "files that come to match a --deny-read pattern after the start can be read by commands, only the file tools and snapshots leave them out", "name directories with --deny-read"})
	}
	s.spec.StateDirs = bothNames(p.StateDirs)
	for _, rel := range p.Protect {
		if !filepath.IsLocal(rel) || filepath.Clean(rel) == "." {
			return errorf("invalid_argument", nil, "a protected path leaves the workspace; give it relative to the workspace")
		}
		s.spec.Protect = append(s.spec.Protect, filepath.Join(workspace, rel))
	}
	var homes []string
	name, shell := "user", "/bin/zsh"
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		name = u.Username
		if h, err := filepath.EvalSymlinks(u.HomeDir); err == nil {
			homes = append(homes, h)
		}
	}
	toolchains := toolchainDirs(viewOf(&p, nil), p.Path, homes)
	s.spec.DenyRead = append(s.spec.DenyRead, secretPaths(toolchains, workspace)...)
	s.spec.Toolchains = append(toolchains, systemToolchains(osView{}, p.Path)...)
	in := installsIn(home, nil)
	s.env = []string{"PATH=" + in.searched(searchPath(p.Path)), "HOME=" + home, "USER=" + name, "LOGNAME=" + name, "SHELL=" + shell, "TMPDIR=" + tmp, "TMPPREFIX=" + tmp + "/zsh"}
	s.env = slices.Concat(s.env, toolchainEnviron(osView{}, homes, toolchains), in.env)
	files, env := settingFiles(&p, home, tmp)
	for _, f := range files {
		err := os.MkdirAll(filepath.Dir(f.Path), 0o755)
		if err == nil {
			err = os.WriteFile(f.Path, []byte(f.Content), 0o644)
		}
		for at := f.Path; err == nil && s.cred != nil && at != home && at != tmp; at = filepath.Dir(at) {
			err = os.Chown(at, uid, gid)
		}
		if err != nil {
			return errorf("internal", err, "the session's git configuration cannot be written (%s); free some space", errnoText(err))
		}
	}
	s.env = append(s.env, env...)
	_, _, err = seatbeltProfile(s.spec)
	return err
}

// closePatience bounds the wait for killed processes.
const closePatience = 5 * time.Second

// searchPath keeps the absolute entries and adds the system's own at the end.
func searchPath(p string) string {
	var dirs []string
	for _, d := range append(strings.Split(p, ":"), "/usr/bin", "/bin", "/usr/sbin", "/sbin") {
		if filepath.IsAbs(d) && !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	return strings.Join(dirs, ":")
}

// resolveGrant gives the path behind all links of a directory or file that must
// be there.
func resolveGrant(what, p string) (string, error) {
	if !filepath.IsAbs(p) {
		return "", errorf("invalid_argument", nil, "a %s is not an absolute path; give the whole path", what)
	}
	r, err := filepath.EvalSymlinks(p)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errorf("not_found", err, "a %s does not exist; make it first or leave it out", what)
	}
	if err != nil {
		return "", errorf("permission_denied", err, "a %s cannot be looked up (%s); check its path and rights", what, errnoText(err))
	}
	if r == "/" {
		return "", errorf("invalid_argument", nil, "a %s is the whole file system; name a directory", what)
	}
	return r, nil
}

// bothNames gives each path as named and as resolved.
func bothNames(paths []string) []string {
	var out []string
	for _, p := range paths {
		p = filepath.Clean(p)
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
		if r, err := filepath.EvalSymlinks(p); err == nil && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// identityOf is who runs the commands: the policy's word, else the server
// itself, else under a root server the owner of the workspace.
func identityOf(p sandbox.Policy, workspace string) (uid, gid int) {
	uid, gid = p.UID, p.GID
	if os.Geteuid() != 0 {
		return os.Geteuid(), os.Getegid()
	}
	if fi, err := os.Stat(workspace); err == nil {
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			if uid < 0 {
				uid = int(st.Uid)
			}
			if gid < 0 {
				gid = int(st.Gid)
			}
		}
	}
	return max(uid, 0), max(gid, 0)
}

// CheckOwner refuses, before any session is started, a workspace whose commands
// would be root.
func CheckOwner(p sandbox.Policy) error {
	if uid, _ := identityOf(p, p.Workspace); os.Geteuid() == 0 && uid == 0 && !p.AllowRoot {
		return refuseRoot("the workspace", "macOS cannot show its files as another user's")
	}
	return nil
}

// Report says which confinement the sandbox has.
func (s *Sandbox) Report() sandbox.Report {
	r := sandbox.Report{Level: s.level}
	state := sandbox.StateOn
	if s.level == sandbox.LevelNone {
		state = sandbox.StateOff
	}
	r.Layers = append(r.Layers, sandbox.Layer{Name: layerSeatbelt, State: state, Detail: "a profile for each command, denying by default"})
	if s.level != sandbox.LevelNone {
		r.Layers = append(r.Layers, sandbox.Layer{Name: "git directories", State: sandbox.StateOff, Detail: "put back: commands write them where they are; after each command, and at the end, hooks and configuration are put back as they were"})
	}
	for _, g := range s.gaps {
		r.Layers = append(r.Layers, sandbox.Layer{Name: g.Layer, State: sandbox.StateOff, Detail: g.Reason, Remedy: g.Remedy})
	}
	return r
}

// Environ is the part of the environment that is true inside.
func (s *Sandbox) Environ() []string { return slices.Clone(s.env) }

// Listen listens on this host's loopback, the only one macOS has, and lets
// commands started from now on connect to that port. addr must name 127.0.0.1,
// ::1 or localhost.
func (s *Sandbox) Listen(network, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return nil, errorf("invalid_argument", err, "%q %q is not a TCP address; use host:port", network, addr)
	}
	if !slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, host) {
		return nil, errorf("invalid_argument", nil, "a listener of the session must be on the loopback; use 127.0.0.1")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errSandboxGone()
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return nil, errorf("internal", err, "the address cannot be listened on (%s); choose another port", errnoText(err))
	}
	s.held = append(s.held, l)
	s.spec.Ports = append(s.spec.Ports, l.Addr().(*net.TCPAddr).Port)
	return l, nil
}

// Dial connects to a port on the loopback. On macOS that is the host's: any
// program of the host can answer.
func (s *Sandbox) Dial(ctx context.Context, port int) (net.Conn, error) {
	if port < 1 || port > 65535 {
		return nil, errorf("invalid_argument", nil, "%d is not a port; use 1 to 65535", port)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, errorf("port_not_exposed", err, "nothing answers on port %d (%s); start the server first", port, errnoText(err))
	}
	return c, nil
}

// Done is closed when the sandbox is closed and its processes are dead.
func (s *Sandbox) Done() <-chan struct{} { return s.done }

// Close kills all processes, waits for them and removes the session's own
// directory. It is idempotent.
func (s *Sandbox) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.done
		return s.closeErr
	}
	s.closed = true
	procs := make([]*Process, 0, len(s.procs))
	for p := range s.procs {
		procs = append(procs, p)
	}
	held := s.held
	s.mu.Unlock()
	for _, c := range held {
		c.Close()
	}
	for _, p := range procs {
		p.SignalTree(syscall.SIGKILL)
	}
	deadline := time.After(closePatience)
	for _, p := range procs {
		select {
		case <-p.tree.gone:
		case <-deadline:
			s.closeErr = errorf("internal", nil, "a process of the session does not die; look for it in the process list")
		}
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.closeErr = errorf("internal", err, "the session's temporary directory cannot be removed (%s); remove it by hand", errnoText(err))
	}
	close(s.done)
	return s.closeErr
}

func errSandboxGone() error {
	return errorf("session_not_found", nil, "the sandbox has ended; start a new session")
}
