package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mcp-sandbox/gitstage"
	"mcp-sandbox/ptyproc"
	"mcp-sandbox/sandbox"
)

// gitSeen puts back what a session changed of the files that git outside obeys, at
// the levels whose commands write git directories where they are. It looks after
// each command, while something runs in the background, and at the end; what the
// user changes while nothing of the session runs is the state to come back to.
type gitSeen struct {
	mu      sync.Mutex
	seen    map[string]gitPrint
	was     map[string]*gitFile
	running []sandbox.Process // commands that may still have processes
	kept    string            // where changes are kept, in the state directory
	count   int
	// unjudged says that a command has run since the last look that found none
	// running: what is there may be its work, and is not a state to come back to.
	unjudged bool
	// unsure are files that changed while a command ran. One that has them mapped
	// or writes within a tick of the clock changes them further and their time not
	// (mmap(2)), so their content is compared until a look finds nothing running.
	unsure map[string]bool
	// dirs are git directories that are looked at however many others there are,
	// true for those of bare repositories with another name than .git.
	dirs map[string]bool
	// made are .git files and configurations with core.worktree that were accepted
	// of the session: what they lead through can become a link.
	made map[string]bool
}

// gitFile is what a file was.
type gitFile struct {
	mode fs.FileMode
	text string // of a file, or where a link leads
	safe bool   // of an index: nothing it names is in a git directory
}

// maxGitFile bounds a file that can be put back, in bytes. A larger one is taken
// away when it changes.
const maxGitFile = 1 << 20

// watchGit remembers how the repositories are at the start.
func (s *Session) watchGit() {
	g := &gitSeen{kept: filepath.Join(s.state.dir, "put-back", s.id), unsure: map[string]bool{}, dirs: map[string]bool{}, made: map[string]bool{}}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.begin(s) {
		s.gitSeen = g
		s.watching.Go(s.watchGitBehind)
	}
}

// begin takes what is there for the state to come back to.
func (g *gitSeen) begin(s *Session) bool {
	most, deepest := maxGitLook, gitLookDepth
	if g.was == nil {
		most, deepest = maxLastGitLook, lastGitLookDepth // so that the last look finds what was there
		g.was = map[string]*gitFile{}
	}
	l, err := s.lookAtGit(g.dirs, most, deepest)
	if err != nil {
		s.log.Warn("the git directories could not be looked at", "error", err)
		return false
	}
	defer l.close()
	l.outOfView(g.seen)
	for _, p := range l.changedFrom(g.seen) {
		g.remember(l, p)
	}
	g.seen = l.files
	for dir := range l.dirs {
		if len(g.dirs) < maxLastGitLook {
			g.dirs[dir] = l.bare[dir]
		}
	}
	return true
}

func (g *gitSeen) remember(l *gitLook, p string) {
	if f := readGitFile(l.root, p); f != nil {
		g.was[p] = f
	} else {
		delete(g.was, p)
	}
}

// readGitFile is nil for what is neither a file nor a link.
func readGitFile(root *os.Root, p string) *gitFile {
	fi, err := root.Lstat(p)
	if err != nil {
		return nil
	}
	f := &gitFile{mode: fi.Mode()}
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		f.text, err = root.Readlink(p)
	case !fi.Mode().IsRegular():
		return nil
	case path.Base(p) == "index":
		b, err := readSmall(root, p, maxGitIndex)
		f.safe = err == nil && gitstage.SafeIndex(b)
	default:
		var b []byte
		b, err = readSmall(root, p, maxGitFile)
		f.text = string(b)
	}
	if err != nil {
		return nil
	}
	return f
}

// readSmall reads a regular file of at most max bytes.
func readSmall(root *os.Root, p string, max int64) ([]byte, error) {
	f, err := root.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() || fi.Size() > max {
		return nil, errors.Join(err, fs.ErrInvalid)
	}
	return io.ReadAll(io.LimitReader(f, max))
}

// watchedSandbox starts commands after a look at what the user has changed.
type watchedSandbox struct {
	sandbox.Sandbox
	s *Session
}

func (b *watchedSandbox) Spawn(ctx context.Context, c sandbox.Command) (sandbox.Process, error) {
	g := b.s.gitSeen
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.busy(ctx) {
		if g.unjudged {
			if text := g.judgeAll(b.s, false); text != "" {
				b.s.tell(text)
			}
		}
		if !g.unjudged {
			g.begin(b.s)
		}
	}
	g.unjudged = true
	p, err := b.Sandbox.Spawn(ctx, c)
	if err == nil {
		g.running = append(g.running, p)
	}
	return p, err
}

// busy says whether a process of the session may live.
func (g *gitSeen) busy(ctx context.Context) bool {
	g.running = slices.DeleteFunc(g.running, func(p sandbox.Process) bool {
		if f, ok := p.(ptyproc.FamilyChild); ok {
			all, err := f.Family(ctx)
			return err == nil && len(all) == 0
		}
		select {
		case <-p.Done():
		default:
			return false
		}
		n, err := p.TreeAlive()
		return err == nil && n == 0
	})
	return len(g.running) > 0
}

// gitBehind is how often the directories are looked at while something runs that no
// call waits for, and until one look has found that nothing does.
const gitBehind = 500 * time.Millisecond

func (s *Session) watchGitBehind() {
	t := time.NewTicker(gitBehind)
	defer t.Stop()
	for {
		select {
		case <-s.closed:
			return
		case <-t.C:
		}
		g := s.gitSeen
		g.mu.Lock()
		look := g.unjudged || g.busy(context.Background())
		g.mu.Unlock()
		if look {
			if text := s.putGitBack(false); text != "" {
				s.tell(text)
			}
		}
	}
}

// putGitBack judges what changed since the last look, and is a sentence on what was
// put back, "" if nothing was.
func (s *Session) putGitBack(last bool) string {
	g := s.gitSeen
	if g == nil {
		return ""
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.judgeAll(s, last)
}

// judgeAll is putGitBack for a caller that holds g.mu.
func (g *gitSeen) judgeAll(s *Session, last bool) string {
	idle := !g.busy(context.Background())
	most, deepest := maxGitLook, gitLookDepth
	if last {
		most, deepest = maxLastGitLook, lastGitLookDepth
	}
	var told []string
	// What is put back can bring a change to light that lay behind it.
	for range 4 {
		what, err := g.putBack(s, most, deepest)
		if err != nil {
			s.log.Warn("the git directories could not be looked at", "error", err)
			break
		}
		if len(what) == 0 {
			if idle {
				g.unjudged = false
				clear(g.unsure)
			}
			break
		}
		told = append(told, what...)
	}
	if len(told) == 0 {
		return ""
	}
	slices.Sort(told)
	told = slices.Compact(told)
	s.log.Warn("files that git outside obeys were put back", "paths", told, "kept", g.kept)
	more := ""
	if n := len(told) - maxKeptNames; n > 0 {
		told, more = told[:maxKeptNames], fmt.Sprintf(" and %d more", n)
	}
	return "put back, as git outside could run something because of them: " + sandbox.OneLine(strings.Join(told, ", ")) + more + "; the operator finds the changes in the server's state directory"
}

// putBack looks once, and names what it put back.
func (g *gitSeen) putBack(s *Session, most, deepest int) (told []string, err error) {
	l, err := s.lookAtGit(g.dirs, most, deepest)
	if err != nil {
		return nil, err
	}
	defer l.close()
	l.outOfView(g.seen)
	states := map[string]bool{}
	changed := l.changedFrom(g.seen)
	changed = append(changed, g.ledAway(s, l)...)
	for p := range g.unsure {
		if _, there := l.files[p]; !there && g.was[p] == nil {
			delete(g.unsure, p)
		} else if !slices.Contains(changed, p) && g.differs(l, p) {
			changed = append(changed, p)
		}
	}
	for _, p := range changed {
		what, err := "", error(nil)
		if unit := gitStateDir(p); unit != "" {
			if states[unit] {
				continue
			}
			states[unit] = true
			what, err = g.judgeState(s, l, unit)
		} else {
			what, err = g.judge(s, l, p)
		}
		if err != nil {
			s.log.Warn("what git obeys could not be put back", "path", p, "error", err)
			what = p + ", which could not be put back"
			delete(g.unsure, p) // told once
		} else {
			g.unsure[p] = true
		}
		if what != "" {
			told = append(told, what)
		}
		if print, ok := printFile(l.root, p); ok {
			l.files[p] = print
		} else {
			delete(l.files, p)
		}
	}
	g.seen = l.files
	return told, nil
}

// differs says whether a file is another than the one that was accepted.
func (g *gitSeen) differs(l *gitLook, p string) bool {
	if gitStateDir(p) != "" {
		return true // judged with the rest of its directory
	}
	was, now := g.was[p], readGitFile(l.root, p)
	return (was == nil) != (now == nil) || was != nil && *was != *now
}

// gitStateDir is the directory of a rebase or of picks that a path lies in.
func gitStateDir(p string) string {
	for _, u := range gitstage.States() {
		if dir := path.Dir(p); path.Base(dir) == u {
			return dir
		}
	}
	return ""
}

// judge accepts one change or takes it back, and names what it took back.
func (g *gitSeen) judge(s *Session, l *gitLook, p string) (string, error) {
	was, now := g.was[p], readGitFile(l.root, p)
	dir, name := path.Split(p)
	dir = path.Clean(dir)
	_, err := l.root.Lstat(p)
	switch {
	case err != nil && was == nil, err != nil && (name == ".git" || name == backLink), err != nil && !l.isGitDir(gitDirOfFile(p)):
		return "", nil // it went with its repository
	case name == "index":
		if err != nil || now != nil && now.safe || was != nil && !was.safe {
			g.remember(l, p)
			return "", nil
		}
	case name == "config" && now != nil && now.mode.IsRegular():
		before := ""
		// A look may come while git still makes the repository.
		g.made[p] = g.made[p] || was == nil
		if was != nil {
			before = was.text
		}
		text, left, err := gitstage.MergeConfig(before, now.text, s.gitConfigOptions(l, dir, g.made[p]))
		if err != nil {
			return "", err
		}
		if len(left) == 0 && (was == nil || was.mode == now.mode) {
			g.was[p] = now
			return "", nil
		}
		g.keep(l, p)
		f := gitFile{mode: now.mode, text: text}
		if was != nil {
			f.mode = was.mode
		}
		if err := s.replaceGit(l, p, &f); err != nil {
			return "", err
		}
		g.was[p] = &f
		return p + " (" + strings.Join(left, ", ") + ")", nil
	case name == "commondir" && now != nil && was == nil && path.Base(path.Dir(dir)) == "worktrees" && strings.TrimSpace(now.text) == "../..",
		was != nil && now != nil && *was == *now:
		g.was[p] = now
		return "", nil
	}
	if name == backLink && now != nil && now.mode.IsRegular() && path.Base(path.Dir(dir)) == "worktrees" && s.leadsBack(l, dir, now.text) {
		g.was[p], g.made[p] = now, true
		return "", nil
	}
	if name == ".git" && now != nil && was == nil {
		if text := s.leadsToSeen(l, p, now); text != "" {
			f := gitFile{mode: now.mode, text: text}
			g.was[p], g.made[p] = &f, true
			if text != now.text {
				return "", s.replaceGit(l, p, &f)
			}
			return "", nil
		}
	}
	g.keep(l, p)
	if was != nil && (was.mode.IsRegular() || was.mode&fs.ModeSymlink != 0) {
		return p, s.replaceGit(l, p, was)
	}
	return p, s.replaceGit(l, p, nil)
}

// gitDirOfFile is the git directory of a file that git obeys.
func gitDirOfFile(p string) string {
	dir := path.Dir(p)
	if b := path.Base(dir); b == "hooks" || b == "info" || b == "remotes" || b == "branches" {
		return path.Dir(dir)
	}
	return dir
}

// judgeState accepts the state of a rebase or of picks, or takes it away whole.
func (g *gitSeen) judgeState(s *Session, l *gitLook, unit string) (string, error) {
	files := map[string]string{}
	entries, err := fs.ReadDir(l.root.FS(), unit)
	if err != nil {
		return "", nil // it has ended
	}
	safe := true
	for _, e := range entries {
		b, err := readSmall(l.root, path.Join(unit, e.Name()), maxGitFile)
		safe = safe && err == nil && e.Type().IsRegular()
		files[e.Name()] = string(b)
	}
	if safe && gitstage.SafeState(path.Base(unit), files) {
		return "", nil
	}
	for _, e := range entries {
		g.keep(l, path.Join(unit, e.Name()))
	}
	for p := range l.files {
		if path.Dir(p) == unit {
			delete(l.files, p)
		}
	}
	return unit, s.asOwner(func() error { return l.root.RemoveAll(unit) })
}
