package snapshot

import (
	"context"
	"slices"
	"strconv"

	"mcp-sandbox/sandbox"
)

// plan is everything a restore will do, found by comparing two manifests
// without touching the workspace. It is as large as the difference.
type plan struct {
	ops   []op     // in walk order; no path of one is below another's
	stage []staged // what to build first, directories before what is in them
	dirs  []dirFix

	added, changed, removed int
	bytes                   int64 // to be written
	kept                    []Skipped
	seen                    bool // the asked-for path is on one side at least
	git                     []*gitDir
}

func (p *plan) empty() bool { return len(p.ops) == 0 && len(p.dirs) == 0 }

// dirFix is a directory that must end up as in the target: because it differs,
// or because what is done in it will change its time.
type dirFix struct {
	from *entry // what it was; nil for one that is put there
	to   *entry
}

// The kinds of op.
const (
	opAdd     = iota // put a staged object where nothing is
	opReplace        // swap a staged object for what is there
	opRemove         // take away what is there
	opMeta           // set mode, times and attributes in place
)

type op struct {
	kind   int
	path   string
	staged string // its name in the private directory
	from   *entry // opMeta: what it was
	to     *entry
}

// staged is one object to build in the private directory.
type staged struct {
	e    *entry
	at   string // path in the private directory
	link string // a staged path to link to instead of writing
	top  bool   // it is swapped in itself, not within a directory
}

// planner joins the two sides.
type planner struct {
	*plan
	r     *Repo
	scope string
	merge bool

	pins    map[string]string   // paths that are there but in no manifest, with why
	pinned  map[string]struct{} // directories that hold such paths
	chain   []dirFix            // unchanged directories above the path at hand
	dirty   map[string]bool     // first paths of hard link groups to rebuild
	heads   map[string]string   // first path -> where it is staged
	taken   string              // the directory being removed or replaced
	inTaken bool
	top     string // the directory being staged whole
	topAt   string
	inTop   bool
	rules   Rules
	leave   map[string]struct{} // ignored today, see scan
	blocked string              // a path of the target that cannot be touched
	isBlock bool
}

// plan compares the workspace (now) with the target.
func (r *Repo) plan(ctx context.Context, now, target *record, scope string, merge bool, walk *scan) (*plan, error) {
	p := &planner{plan: &plan{}, r: r, scope: scope, merge: merge,
		pins: map[string]string{}, pinned: map[string]struct{}{}, dirty: map[string]bool{}, heads: map[string]string{}}
	pin := func(path string, self bool) {
		if self {
			p.pinned[path] = struct{}{}
		}
		for path != "" {
			path, _ = splitPath(path)
			p.pinned[path] = struct{}{}
		}
	}
	for _, s := range walk.skipped {
		if s.Reason == skipChanging {
			continue // it is in the manifest
		}
		p.pins[s.Path] = s.Reason
		pin(s.Path, false)
	}
	for _, dir := range walk.ignoring {
		pin(dir, true)
	}
	for _, path := range walk.protected {
		pin(path, false)
	}
	p.rules, p.leave = r.rules(ctx), walk.leave
	if r.opt.Refs != nil {
		var err error
		if p.git, err = r.gitDirs(ctx, now, target, scope); err != nil {
			return nil, err
		}
		for _, g := range p.git {
			if g.keep {
				pin(g.path+"/objects", true)
				pin(g.path+"/"+ownRefs, true)
			}
		}
	}
	if target.Info.HardLinks > 0 {
		if err := r.joinRecords(ctx, now, target, p.findGroups); err != nil {
			return nil, err
		}
	}
	if err := r.joinRecords(ctx, now, target, p.reconcile); err != nil {
		return nil, err
	}
	slices.SortFunc(p.dirs, func(a, b dirFix) int { return comparePaths(a.to.path, b.to.path) })
	return p.plan, nil
}

func (r *Repo) joinRecords(ctx context.Context, left, right *record, each func(l, r *entry) error) error {
	a, err := r.openManifest(ctx, left)
	if err != nil {
		return err
	}
	defer a.close()
	b, err := r.openManifest(ctx, right)
	if err != nil {
		return err
	}
	defer b.close()
	return (&join{right: b, each: each}).all(a)
}

func same(c, t *entry) bool {
	return c.sameContent(t) && c.sameMode(t) && c.mtime == t.mtime && c.hard == t.hard
}

// findGroups marks the hard link groups of the target that are not as they
// should be. All names of such a group are rebuilt, as one file.
func (p *planner) findGroups(c, t *entry) error {
	if t == nil || t.kind != kindFile || !t.linked && t.hard == "" || !within(t.path, p.scope) {
		return nil
	}
	if c == nil || !same(c, t) {
		head := t.path
		if t.hard != "" {
			head = t.hard
		}
		p.dirty[head] = true
	}
	return nil
}

// reconcile compares what is there, c, with the target t, for one path.
func (p *planner) reconcile(c, t *entry) error {
	path := ""
	if c != nil {
		path = c.path
	} else {
		path = t.path
	}
	above := p.scope != "" && path != p.scope && within(p.scope, path)
	if !within(path, p.scope) && !above {
		return nil
	}
	if path == p.scope {
		p.seen = true
	}
	p.inTaken = p.inTaken && within(path, p.taken)
	p.inTop = p.inTop && within(path, p.top)
	p.isBlock = p.isBlock && within(path, p.blocked)

	for n := len(p.chain); n > 0 && !within(path, p.chain[n-1].to.path); n-- {
		p.chain = p.chain[:n-1]
	}

	if p.isBlock {
		return nil
	}
	if why := p.keeps(path, t); why != "" && !above {
		if c == nil || t == nil || !same(c, t) {
			p.kept = append(p.kept, Skipped{path, why})
		}
		if c == nil || t == nil || c.kind != kindDir || t.kind != kindDir {
			p.blocked, p.isBlock = path, true
		}
		return nil
	}
	if c != nil && p.inTaken && (t == nil || p.inTop) {
		// It goes, or went, with the directory above it.
		p.removed++
		if t == nil {
			return nil
		}
		c = nil
	}
	if p.isBlock {
		return nil
	}
	if t == nil {
		if above {
			return nil // the ways to the scope stay
		}
		return p.remove(c)
	}
	if p.r.skippedDeep(path) {
		p.blocked, p.isBlock = path, true
		return nil
	}
	if _, ok := p.leave[path]; ok {
		p.kept = append(p.kept, Skipped{path, skipIgnored})
		p.blocked, p.isBlock = path, true
		return nil
	}
	if c == nil {
		return p.add(t)
	}
	return p.both(c, t, above)
}

// keeps says why policy has a path left as it is, "" if it does not.
func (p *planner) keeps(path string, t *entry) string {
	switch {
	case p.rules.Protects(path):
		return skipProtected
	case t != nil && p.rules.Hides(path, 0, 0, 0):
		return skipHidden
	}
	return ""
}

func (p *planner) remove(c *entry) error {
	if p.merge || slices.ContainsFunc(p.git, func(g *gitDir) bool { return g.holds(c.path) }) {
		return nil
	}
	if _, ok := p.pinned[c.path]; ok {
		return nil // it holds something to keep; what is in it comes next
	}
	p.do(op{kind: opRemove, path: c.path})
	p.removed++
	if c.kind == kindDir {
		p.taken, p.inTaken = c.path, true
	}
	return nil
}

func (p *planner) add(t *entry) error {
	if p.inTop {
		p.added++
		return p.build(t, p.topAt+t.path[len(p.top):], false)
	}
	kind := opAdd
	if why, ok := p.pins[t.path]; ok {
		if why != skipFIFO && why != skipSocket {
			p.kept = append(p.kept, Skipped{t.path, why})
			p.blocked, p.isBlock = t.path, true
			return nil
		}
		kind = opReplace
	}
	p.added++
	return p.put(kind, t)
}

// put stages t under a number of its own and has it swapped in.
func (p *planner) put(kind int, t *entry) error {
	at := strconv.Itoa(len(p.ops))
	p.do(op{kind: kind, path: t.path, staged: at, to: t})
	if t.kind == kindDir {
		p.top, p.topAt, p.inTop = t.path, at, true
		// A directory is made private and writable to be moved; its own mode and
		// times come last.
		p.dirs = append(p.dirs, dirFix{to: t})
	}
	return p.build(t, at, true)
}

// do adds an operation. It changes the time of the directory it happens in, which
// is put right at the end if the target has that directory.
func (p *planner) do(o op) {
	p.ops = append(p.ops, o)
	dir, _ := splitPath(o.path)
	if n := len(p.chain); n > 0 && p.chain[n-1].to.path == dir {
		p.dirs = append(p.dirs, p.chain[n-1])
		p.chain = p.chain[:n-1]
	}
}

func (p *planner) build(t *entry, at string, top bool) error {
	s := staged{e: t, at: at, top: top}
	if t.hard != "" {
		s.link = p.heads[t.hard]
	}
	if t.linked {
		p.heads[t.path] = at
	}
	if s.link == "" {
		for _, x := range t.pieces {
			if !x.hole() {
				p.bytes += x.n
			}
		}
	}
	p.stage = append(p.stage, s)
	return nil
}

func (p *planner) both(c, t *entry, above bool) error {
	if c.kind != t.kind {
		if _, ok := p.pinned[c.path]; ok && c.kind == kindDir {
			return sandbox.Errorf(codeFailed, nil, "the directory %s must become something else but holds what no snapshot can bring back (ignored, mounted or special files); move that away and try again", quote(c.path))
		}
		p.changed++
		if c.kind == kindDir {
			p.taken, p.inTaken = c.path, true
		}
		return p.put(opReplace, t)
	}
	switch {
	case above:
		return nil
	case t.kind == kindDir:
		if p.merge {
			return nil // a directory that was there before stays as it was
		}
		if !c.sameMode(t) || c.mtime != t.mtime {
			p.dirs = append(p.dirs, dirFix{c, t})
		} else {
			p.chain = append(p.chain, dirFix{c, t})
		}
		return nil
	case !c.sameContent(t), c.hard != t.hard && (t.hard == "" || p.dirty[t.hard]),
		t.hard != "" && p.dirty[t.hard], t.linked && p.dirty[t.path]:
		p.changed++
		return p.put(opReplace, t)
	case c.sameMode(t) && c.mtime == t.mtime:
		return nil
	}
	p.changed++
	if c.linked || c.hard != "" {
		// Its inode may have a name outside, whose mode belongs to others (link(2)).
		return p.put(opReplace, t)
	}
	p.ops = append(p.ops, op{kind: opMeta, path: t.path, from: c, to: t})
	return nil
}
