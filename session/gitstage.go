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
	log       *slog.Logger

	// spawning keeps commands from starting while the overlays are away.
	spawning sync.Mutex
	looked   bool

	reporting sync.Mutex // one reply at a time, so that each notice is in one
}

// makeGitStage makes the directory that commands' changes of git directories go
// to. Only a caller's directory needs one: no other program reads an owned
// workspace.
func (s *Session) makeGitStage() (string, error) {
	if s.owned || s.scratch == "" {
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
	p, err := openPublisher(s.rootFD, dir, s.config.Write, s.log)
	if err != nil {
		return errorf("internal", err, "the session's directory for git could not be opened; check --state-dir")
	}
	s.staged = &gitStage{renewer: renewer, publisher: p, log: s.log}
	return nil
}

func openPublisher(root *os.File, dir string, write []string, log *slog.Logger) (*gitstage.Publisher, error) {
	stage, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer stage.Close()
	uid, gid := -1, -1
	if os.Geteuid() == 0 {
		if uid, gid, err = ownerOf(root); err != nil {
			return nil, err
		}
	}
	writable := append([]string{root.Name()}, write...)
	return gitstage.New(root, stage, gitstage.Options{UID: uid, GID: gid, Log: log, Writable: func(path string) bool {
		for _, w := range writable {
			if path == w || within(path, w) {
				return true
			}
		}
		return false
	}})
}

// spawner starts commands that see the git directories as they are outside.
func (s *Session) spawner() sandbox.Sandbox {
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
	if !g.publisher.Changed() {
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
		notices = append(notices, "some of what git wrote is in this session alone ("+firstLine(oneLine(err.Error()))+"); it is published with a later call")
	}
	if n := len(r.Kept); n > 0 {
		names, what := r.Kept, "git settings or files stay"
		if n == 1 {
			what = "git setting or file stays"
		}
		more := ""
		if n > maxKeptNames {
			names, more = names[:maxKeptNames], fmt.Sprintf(" and %d more", n-maxKeptNames)
		}
		notices = append(notices, fmt.Sprintf("%d %s in this session, as git outside could run something because of them: %s%s", n, what, oneLine(strings.Join(names, ", ")), more))
	}
	for _, c := range r.Conflicts {
		notices = append(notices, "git: "+oneLine(c))
	}
	return notices
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// closeGitStage publishes what is left when all processes have ended.
func (s *Session) closeGitStage() {
	if s.staged == nil {
		return
	}
	for _, n := range s.staged.publish() {
		s.log.Warn("git", "notice", n)
	}
	s.staged.publisher.Close()
}

// recoverGit publishes what a killed server had not.
func recoverGit(d recordData, dir string) error {
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
	p, err := openPublisher(root, dir, nil, slog.New(slog.DiscardHandler))
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	_, err = p.Publish()
	return err
}
