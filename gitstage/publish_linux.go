package gitstage

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
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
	// Writable says whether the session can write a path of the host.
	Writable func(path string) bool
	Log      *slog.Logger
	Now      func() time.Time
}

// Publisher publishes the stage of one session. Its methods are safe for
// concurrent use.
type Publisher struct {
	root, stage tree
	o           Options
	mu          sync.Mutex
	repos       map[string]*repo // by path in the workspace
	reported    map[string]bool
}

// New opens the workspace and the stage by their descriptors, of which it keeps
// copies until Close.
func New(root, stage *os.File, o Options) (*Publisher, error) {
	p := &Publisher{o: o, repos: map[string]*repo{}, reported: map[string]bool{}}
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

// Close closes the descriptors.
func (p *Publisher) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.root.close()
	p.stage.close()
}

func (p *Publisher) now() time.Time {
	if p.o.Now != nil {
		return p.o.Now()
	}
	return time.Now()
}

// Publish copies what is new in the stage to the real directories. A failure for one
// of them does not stop the others; the next call retries it.
func (p *Publisher) Publish() (Report, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out Report
	err := p.each(func(r *repo) error {
		report, err := r.publish()
		out.add(report)
		return err
	})
	out.Kept = slices.DeleteFunc(out.Kept, func(s string) bool {
		old := p.reported[s]
		p.reported[s] = true
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
	return changed
}

// Prune removes from the stage what has been published, so that the session sees
// what is outside. Nothing may use the overlays meanwhile.
func (p *Publisher) Prune() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.each(func(r *repo) error { return r.prune() })
}

// Look notes what the real directories are now: what a session starts from.
func (p *Publisher) Look() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.each(func(r *repo) error {
		r.expireUndo()
		return r.look()
	})
}

// each runs f for every git directory of the stage that is there, as its owner.
func (p *Publisher) each(f func(*repo) error) error {
	return asOwner(p.o.UID, p.o.GID, func() error {
		names, err := p.stage.names(".")
		if err != nil {
			return err
		}
		slices.Sort(names)
		var errs []error
		for _, n := range names {
			rel := unescape(n)
			r := p.repos[rel]
			if r == nil {
				r = &repo{p: p, rel: rel, seen: map[string]sig{}}
				p.repos[rel] = r
			}
			if err := r.run(n, f); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", rel, err))
			}
		}
		return errors.Join(errs...)
	})
}

// run opens both sides of a repository for f.
func (r *repo) run(stage string, f func(*repo) error) error {
	var err error
	if r.upper, err = r.p.stage.sub(stage + "/upper"); err != nil {
		return nil // not yet made
	}
	defer r.upper.close()
	if r.real, err = r.p.root.sub(r.rel); err != nil {
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
	title string // of a module or worktree in it

	upper, real tree // while run
	linked      bool // of a linked worktree: its objects, refs and settings are elsewhere
	seen        map[string]sig
	subs        map[string]*repo

	known     bool // the fields below are
	stale     bool // something outside has changed it, and the overlay is older
	mounted   refs // as the overlay was mounted over
	fresh     bool // there was no configuration outside
	hexLen    int
	refs      refs              // as the session knows them
	after     refs              // as they will be, while published
	heads     map[string]string // HEAD and the like
	index     []indexEntry
	config    map[string]variable
	sig       string
	conflicts map[string]string // the session's side of refs in conflict
	blocked   map[string]bool   // states that stay in the session
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
	_ = r.real.walk("refs", 0, func(p string, e entry) {
		if e.kind == kindDir && !strings.HasPrefix(p+"/", RefPrefix) {
			fmt.Fprintf(&b, "%s %d %d\n", p, e.sig.ino, e.sig.mtime)
		}
	})
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
