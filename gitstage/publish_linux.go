package gitstage

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/fsuser"
)

// Options of a Publisher.
type Options struct {
	// UID and GID own the workspace, when a root server publishes for them; -1
	// for the server's own.
	UID, GID int
	// Outside are git directories that are not in the workspace, by their path.
	Outside map[string]*os.File
	// Writable says whether the session can write a path of the host.
	Writable func(path string) bool
	Log      *slog.Logger
	Now      func() time.Time
}

// Publisher publishes the stage of one session. Its methods are safe for
// concurrent use.
type Publisher struct {
	root, stage tree
	path        string          // of the workspace
	outside     map[string]tree // by path
	o           Options
	mu          sync.Mutex
	closed      bool
	repos       map[string]*repo // by path in the workspace
	reported    map[string]bool
	bases       map[string]base      // of a Layer
	shown       map[string]string    // by directory, while a Layer publishes: what identifies what was looked at
	wrote       map[string][2]string // by path: configurations that a Layer's last Publish wrote, before and after
	listed      *listing             // see inStage
}

// New opens the workspace and the stage by their descriptors, of which it keeps
// copies until Close.
func New(root, stage *os.File, o Options) (*Publisher, error) {
	p := &Publisher{o: o, path: root.Name(), repos: map[string]*repo{}, reported: map[string]bool{}, outside: map[string]tree{}}
	for at, f := range o.Outside {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		p.outside[at] = tree{fd}
	}
	var err error
	if p.root.fd, err = unix.FcntlInt(root.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return nil, err
	}
	if p.stage.fd, err = unix.FcntlInt(stage.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		p.root.close()
		return nil, err
	}
	return p, nil
}

// Close removes the .git files that lead to nothing that is published, which are in
// nobody's way while the session lives, and closes the descriptors.
func (p *Publisher) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	if err := asOwner(p.o.UID, p.o.GID, p.dropFiles); err != nil {
		p.o.Log.Warn("a .git file of a session was not removed", "error", err)
	}
	p.root.close()
	p.stage.close()
	for _, t := range p.outside {
		t.close()
	}
}

func (p *Publisher) now() time.Time {
	if p.o.Now != nil {
		return p.o.Now()
	}
	return time.Now()
}

// maxReported bounds the names of which it is known that they were told.
const maxReported = 10_000

// Publish copies what is new in the stage to the real directories. A failure for one
// of them does not stop the others; the next call retries it. After Close there is
// nothing to publish.
func (p *Publisher) Publish() (Report, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out Report
	err := p.each(func(r *repo) error {
		report, err := r.publish()
		out.add(report)
		return err
	})
	// What they lead to has been published.
	err = errors.Join(err, p.asOwner(func() error {
		return errors.Join(p.publishFiles(&out), p.publishBare(&out))
	}))
	out.Kept = slices.DeleteFunc(out.Kept, func(s string) bool {
		old := p.reported[s]
		if len(p.reported) < maxReported {
			p.reported[s] = true
		}
		return old
	})
	return out, err
}

// Changed says whether something outside has changed a real directory since it
// was last looked at, so that the overlays should be renewed.
func (p *Publisher) Changed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := false
	_ = p.each(func(r *repo) error {
		changed = changed || r.known && (r.stale || r.signature() != r.sig)
		return nil
	})
	_ = p.asOwner(func() error { changed = p.bareChanged() || changed; return nil })
	return changed
}

// Prune removes from the stage what has been published, so that the session sees
// what is outside. Nothing may use the overlays meanwhile.
func (p *Publisher) Prune() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.each(func(r *repo) error { return r.prune() }), p.asOwner(p.pruneBare))
}

// Look notes what the real directories are now: what a session starts from.
func (p *Publisher) Look() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.each(func(r *repo) error {
		r.expireUndo()
		return r.look()
	}), p.asOwner(func() error {
		return p.bare(func(r *repo, _ objectTree) error { r.expireUndo(); return nil })
	}))
}

// each runs f for every git directory of the stage that is there, as its owner.
func (p *Publisher) each(f func(*repo) error) error {
	return p.asOwner(func() error {
		names, err := p.inStage()
		if err != nil {
			return err
		}
		var errs []error
		for _, n := range names {
			rel := unescape(n)
			if _, err := p.stage.stat(n + "/made"); err == nil || rel == bareObjects || rel == bareConfig || p.isPart(n) {
				continue // a .git file, or see bare
			}
			r := p.repos[rel]
			if r == nil || r.bare {
				r = &repo{p: p, rel: rel, title: titleOf(rel), seen: map[string]sig{}}
				p.repos[rel] = r
			}
			if err := r.run(n+"/upper", f); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", rel, err))
			}
		}
		return errors.Join(errs...)
	})
}

// titleOf is what stands before the names of a git directory's settings and files in
// results: nothing for the one of the workspace, which can lie outside.
func titleOf(rel string) string {
	if rel == ".git" || path.IsAbs(rel) {
		return ""
	}
	return rel
}

// gitDir opens a git directory of the workspace, or one outside.
func (p *Publisher) gitDir(rel string) (tree, error) {
	if t, ok := p.outside[rel]; ok {
		return t.sub(".")
	}
	return p.root.sub(rel)
}

// at is the whole path of what lies at rel.
func (p *Publisher) at(rel string) string {
	if path.IsAbs(rel) {
		return rel
	}
	return path.Join(p.path, rel)
}

// run opens both sides of a repository for f; upper is where the session's is in the
// stage.
func (r *repo) run(upper string, f func(*repo) error) error {
	var err error
	if r.upper, err = r.p.stage.sub(upper); err != nil {
		return nil // not yet made
	}
	defer r.upper.close()
	if r.real, err = r.p.gitDir(r.rel); err != nil {
		return nil // removed by its user
	}
	defer r.real.close()
	if !r.known {
		if err := r.look(); err != nil {
			return err
		}
	}
	return f(r)
}

// repo is one git directory with its stage.
type repo struct {
	p     *Publisher
	rel   string
	title string // what names it in results, see titleOf

	upper, real tree              // while run
	undos       map[string]string // refs of this package, where a session could remove them
	plainRefs   bool              // its refs were a directory, and not a link of its user
	bare        bool              // of which parts alone are staged, in the stages that begin with stage
	stage       string
	linked      bool  // of a linked worktree: its objects, refs and settings are elsewhere
	common      *repo // where that is, while published
	made        bool  // a module or worktree that this session made
	seen        map[string]sig
	sent        map[string]bool // objects and packs that this session published
	subs        map[string]*repo

	known     bool // the fields below are
	stale     bool // something outside has changed it, and the overlay is older
	mounted   refs // as the overlay was mounted over
	fresh     bool // there was no configuration outside
	hexLen    int
	refs      refs              // as the session knows them
	after     refs              // as they will be, while published
	heads     map[string]string // HEAD and the like
	index     string            // of its entries, see sumOf
	config    map[string]variable
	sig       string
	conflicts map[string]string // the session's side of refs in conflict
	blocked   map[string]bool   // states that stay in the session

	// What stays, by kind and name, of which state in the stage; unmade are modules and
	// worktrees that are not published.
	left     map[string]Left
	leftSigs map[string]sig
	leftSize int // bytes of left
	leftMore int // of what stays, not in left
	unmade   map[string]bool
	unfit    map[string]string // files that are data and not published, with the reason

	// In a Layer: check is asked about what is about to be published, and a ref that
	// was moved outside may go on to what has it as an ancestor.
	check    func(*job) error
	forwards bool
	// Of a Layer's base, see there, and what check saw; settled are items that were in
	// conflict and are kept in the project.
	prints  map[string]string
	sure    bool
	was     []Item
	settled map[string]string
}

// signature tells of any change that git makes outside: it renames a file into
// place or makes one, and so changes the time of a directory.
func (r *repo) signature() string {
	var b strings.Builder
	note := func(p string) {
		if e, err := r.real.stat(p); err == nil {
			fmt.Fprintf(&b, "%s %d %d\n", p, e.sig.ino, e.sig.mtime)
		}
	}
	for _, p := range []string{".", "info", "objects/pack", "refs", "modules", "worktrees"} {
		note(p)
	}
	for _, p := range r.real.dirs("refs", 0) {
		if !strings.HasPrefix(p+"/", RefPrefix) {
			note(p)
		}
	}
	for _, top := range []string{"modules", "worktrees"} {
		names, _ := r.real.names(top)
		slices.Sort(names)
		for _, n := range names {
			note(top + "/" + n)
			note(top + "/" + n + "/refs/heads")
		}
	}
	return b.String()
}

// asOwner runs f with the file rights of the owner, so that a root server neither
// leaves files of root behind nor reaches what the owner could not. What belongs to
// root is published as root: the stage is another user's then, and only regular
// files of it are read.
func asOwner(uid, gid int, f func() error) error {
	if os.Geteuid() != 0 || uid <= 0 {
		return f()
	}
	user, err := fsuser.New(uid, gid)
	if err != nil {
		return err
	}
	leave, err := user.Enter()
	if err != nil {
		return err
	}
	defer leave()
	return f()
}
