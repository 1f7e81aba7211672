package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/gitstage"
	"mcp-sandbox/sandbox"
)

// GitRenewer is a sandbox whose git directories are overlays, see
// sandbox.Policy.GitStage. RenewGit takes them away, or puts them back over what
// the directories are now; it fails while a process lives.
type GitRenewer interface {
	RenewGit(ctx context.Context, again bool) error
}

// gitStage is what commands wrote to git directories, on its way outside.
type gitStage struct {
	renewer   GitRenewer
	publisher *gitstage.Publisher
	lock      *os.File // the directory of the stage
	session   *Session
	log       *slog.Logger

	// spawning keeps commands from starting while the overlays are away.
	spawning sync.Mutex
	looked   bool

	reporting sync.Mutex // one reply at a time, so that each notice is in one
	kept      string     // what is kept for a review, as gitstage.Left.ID
}

// makeGitStage makes the directory that commands' changes of git directories go
// to. Only a caller's directory needs one: no other program reads an owned
// workspace.
func (s *Session) makeGitStage() (string, error) {
	if s.owned || s.scratch == "" || s.config.ReadOnlyRoot {
		return "", nil
	}
	dir := filepath.Join(s.scratch, "git")
	err := os.Mkdir(dir, 0o700)
	if os.IsExist(err) {
		err = nil
	}
	if err != nil {
		return "", errorf("internal", err, "the session's directory for git could not be made; check --state-dir")
	}
	return dir, nil
}

// openGitStage begins to publish what comes to be in the stage, where the level
// has one.
func (s *Session) openGitStage(dir string) error {
	renewer, ok := s.sandbox.(GitRenewer)
	level := s.sandbox.Report().Level
	if dir != "" && (level == sandbox.LevelLandlock || level == sandbox.LevelSeatbelt) {
		s.watchGit()
	}
	if dir == "" || !ok || level != sandbox.LevelNamespaces && level != sandbox.LevelNamespacesNoProc {
		return nil
	}
	stage, err := s.gitStageDir(dir)
	if err != nil {
		return errorf("internal", err, "the session's directory for git could not be opened; check --state-dir")
	}
	defer stage.Close()
	p, err := openPublisher(s.rootFD, stage, s.config.Write, s.gitAt.own, s.log)
	if err != nil {
		return errorf("internal", err, "the session's directory for git could not be opened; check --state-dir")
	}
	lock, err := openAgain(stage)
	if err != nil {
		p.Close()
		return errorf("internal", err, "the session's directory for git could not be opened; check --state-dir")
	}
	s.staged = &gitStage{renewer: renewer, publisher: p, lock: lock, session: s, log: s.log}
	return nil
}

// openAgain opens a directory by its descriptor, for a lock of its own.
func openAgain(dir *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), dir.Name()), nil
}

// HoldNames keeps the session's commands from making a directory a bare repository while
// a file tool looks at names and changes them; init has the lock for each name that
// could. The caller calls release.
func (s *Session) HoldNames(ctx context.Context) (release func(), err error) {
	if s.staged == nil {
		return func() {}, nil
	}
	f, err := openAgain(s.staged.lock)
	if err != nil {
		return nil, errorf("internal", err, "the session's directory for git could not be opened; call again")
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { f.Close() }, nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			f.Close()
			return nil, errorf("internal", err, "the session's directory for git could not be locked; call again")
		}
		select {
		case <-time.After(askForNames):
		case <-ctx.Done():
			f.Close()
			return nil, errorf("cancelled", ctx.Err(), "the call was cancelled while a command made names that this call could change; nothing was done")
		}
	}
}

// askForNames is the pause between two tries to get the lock of names, which init holds
// for one call of a command.
const askForNames = 2 * time.Millisecond

// gitStageDir is the stage: a directory that init has made, or the one it was given.
func (s *Session) gitStageDir(dir string) (*os.File, error) {
	if m, ok := s.sandbox.(interface{ GitStage() (*os.File, error) }); ok {
		if f, err := m.GitStage(); err == nil {
			return f, nil
		}
	}
	return os.Open(dir)
}

func openPublisher(root, stage *os.File, write, gitDirs []string, log *slog.Logger) (_ *gitstage.Publisher, err error) {
	outside := map[string]*os.File{}
	for _, p := range gitDirs {
		if within(p, root.Name()) {
			continue
		}
		f, err := openRoot(p)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		outside[p] = f
	}
	uid, gid := -1, -1
	if os.Geteuid() == 0 {
		if uid, gid, err = ownerOf(root); err != nil {
			return nil, err
		}
	}
	writable := append([]string{root.Name()}, write...)
	return gitstage.New(root, stage, gitstage.Options{UID: uid, GID: gid, Log: log, Outside: outside, Writable: func(path string) bool {
		return leadsInto(path, writable)
	}})
}

// spawner starts commands that see the git directories as they are outside.
func (s *Session) spawner() sandbox.Sandbox {
	if s.gitSeen != nil {
		return &watchedSandbox{s.sandbox, s}
	}
	if s.staged == nil {
		return s.sandbox
	}
	return &stagedSandbox{s.sandbox, s}
}

type stagedSandbox struct {
	sandbox.Sandbox
	s *Session
}

func (b *stagedSandbox) Spawn(ctx context.Context, c sandbox.Command) (sandbox.Process, error) {
	g := b.s.staged
	g.spawning.Lock()
	defer g.spawning.Unlock()
	if err := g.refresh(ctx, b.s.tell); err != nil {
		return nil, errorf("internal", err, "the git directories could not be shown as they are; call session_close and start a new session")
	}
	return b.Sandbox.Spawn(ctx, c)
}

// refresh renews the overlays when something outside has changed a git directory
// and no process of the session could have half of it.
func (g *gitStage) refresh(ctx context.Context, tell func(string)) error {
	if !g.looked {
		g.looked = true
		if err := g.publisher.Look(); err != nil {
			g.log.Warn("a git directory could not be looked at", "error", err)
		}
		return nil
	}
	if !g.publisher.Changed() && !g.publisher.Crowded() {
		return nil
	}
	for _, n := range g.publish() {
		tell(n)
	}
	if err := g.renewer.RenewGit(ctx, false); err != nil {
		return nil // something runs, and keeps what it has
	}
	err := g.publisher.Prune()
	if err != nil {
		g.log.Warn("the git stage could not be renewed", "error", err)
	}
	return g.renewer.RenewGit(ctx, true)
}

// publishGit publishes what commands have written to git directories, and says
// what a person should know of it.
func (s *Session) publishGit() []string {
	if s.staged == nil {
		return nil
	}
	return s.staged.publish()
}

// maxKeptNames bounds the names in one notice.
const maxKeptNames = 8

func (g *gitStage) publish() (notices []string) {
	g.reporting.Lock()
	defer g.reporting.Unlock()
	r, err := g.publisher.Publish()
	if err != nil {
		g.log.Warn("git data could not be published", "error", err)
		notices = append(notices, "some of what git wrote is in this session alone ("+firstLine(sandbox.OneLine(err.Error()))+"); it is published with a later call")
	}
	reviewed := g.session.keepGitLeft()
	if n := len(r.Kept); n > 0 {
		names, what, they := r.Kept, "git settings or files stay", "they are"
		if n == 1 {
			what, they = "git setting or file stays", "it is"
		}
		more := ""
		if n > maxKeptNames {
			names, more = names[:maxKeptNames], fmt.Sprintf(" and %d more", n-maxKeptNames)
		}
		notice := fmt.Sprintf("%d %s in this session, as %s not on the list of plain data for git outside: %s%s", n, what, they, sandbox.OneLine(strings.Join(names, ", ")), more)
		if reviewed {
			notice += "; a person can see why, and apply what can be: " + g.session.reviewCommand()
		}
		notices = append(notices, notice)
	}
	for _, c := range r.Conflicts {
		notices = append(notices, "git: "+sandbox.OneLine(c))
	}
	return notices
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// closeGitStage publishes what is left when all processes have ended, or puts back
// what they changed last.
func (s *Session) closeGitStage() {
	s.putGitBack(true)
	if s.staged == nil {
		return
	}
	for _, n := range s.staged.publish() {
		s.log.Warn("git", "notice", n)
	}
	s.staged.publisher.Close()
	_ = s.uses.close(s.staged.lock.Close)
	if err := leftsOf(s.state.dir).ended(s.root, s.config.Name, s.id, s.config.now()); err != nil {
		s.log.Warn("what was decided of git settings is not forgotten", "error", err)
	}
}

// recoverGit publishes what a killed server had not, and keeps for a review what stays.
func (s *state) recoverGit(d recordData, id string) error {
	dir := filepath.Join(s.dir, "sessions", id+".d", "git")
	if d.Owned || d.Ino == 0 {
		return nil
	}
	if _, err := os.Lstat(dir); err != nil {
		return nil
	}
	root, err := openRoot(d.Workspace)
	if err != nil {
		return nil // gone, and with it what was in it
	}
	defer root.Close()
	if fi, err := root.Stat(); err != nil {
		return err
	} else if dev, ino := identity(fi); dev != d.Dev || ino != d.Ino {
		return nil
	}
	stage, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer stage.Close()
	p, err := openPublisher(root, stage, nil, gitDirsOf(d.Workspace, nil).own, slog.New(slog.DiscardHandler))
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	_, err = p.Publish()
	if left := p.Left(); len(left) > 0 && !d.Kept {
		err = errors.Join(err, leftsOf(s.dir).keep(d.Workspace, "", id, left, time.Now()))
	}
	return errors.Join(err, leftsOf(s.dir).ended(d.Workspace, "", id, time.Now()))
}
