package snapshot

import (
	"context"
	"path"
	"slices"
	"strings"
)

// A restore that rewinds a git directory would take commits out of every branch
// and their objects with them. So a git directory whose refs the restore moves,
// or that holds refs below refs/mcp-sandbox already, keeps its objects, and Options.Refs can
// keep what the refs pointed to.

// RefMove is a ref of a git directory, or HEAD, that a restore moves.
type RefMove struct {
	Name     string
	From, To string // an object id or "ref: NAME"; "" is no such ref
}

const (
	// ownRefs is where the refs lie that keep what others pointed to; a restore
	// never removes any.
	ownRefs    = "refs/mcp-sandbox"
	maxRefSize = 4 << 10
	maxPacked  = 64 << 20
)

// gitDir is what a restore does to one git directory.
type gitDir struct {
	path   string
	moves  []RefMove
	keep   bool // its objects
	now    map[string]*entry
	target map[string]*entry
	differ bool
}

// holds says whether the restore leaves path of the directory, which the target
// does not have.
func (g *gitDir) holds(p string) bool {
	rel, ok := strings.CutPrefix(p, g.path+"/")
	if !ok {
		return false
	}
	return within(rel, ownRefs) || g.keep && within(rel, "objects")
}

// refCandidates are the directories whose HEAD, packed refs or loose ref a path
// could be.
func refCandidates(p string, each func(dir, name string)) {
	switch dir, base := splitPath(p); base {
	case "HEAD", "packed-refs":
		if dir != "" {
			each(dir, base)
		}
	}
	for i := 0; ; {
		n := strings.Index(p[i:], "/refs/")
		if n < 0 {
			return
		}
		i += n
		each(p[:i], p[i+1:])
		i++
	}
}

// gitDirs finds the git directories that both states have and that a restore
// within scope has something to keep in.
func (r *Repo) gitDirs(ctx context.Context, now, target *record, scope string) ([]*gitDir, error) {
	found := map[string]*gitDir{}
	objects := map[string]bool{}
	rules := r.rules(ctx)
	each := func(c, t *entry) error {
		e := c
		if e == nil {
			e = t
		}
		if e.kind == kindDir {
			if dir, base := splitPath(e.path); base == "objects" && c != nil {
				objects[dir] = true
			}
			return nil
		}
		refCandidates(e.path, func(dir, name string) {
			g := found[dir]
			if g == nil {
				g = &gitDir{path: dir, now: map[string]*entry{}, target: map[string]*entry{}}
				found[dir] = g
			}
			g.keep = g.keep || c != nil && within(name, ownRefs)
			if within(name, ownRefs) {
				return
			}
			if !within(e.path, scope) || rules.Protects(e.path) {
				t = c // it stays
			}
			g.differ = g.differ || c == nil || t == nil || !c.sameContent(t)
			if c != nil {
				g.now[name] = c.clone()
			}
			if t != nil {
				g.target[name] = t.clone()
			}
		})
		return nil
	}
	if err := r.joinRecords(ctx, now, target, each); err != nil {
		return nil, err
	}
	var out []*gitDir
	for _, g := range found {
		if !objects[g.path] || g.now["HEAD"] == nil || g.target["HEAD"] == nil || !g.differ && !g.keep {
			continue
		}
		if g.differ {
			if err := r.findMoves(ctx, g); err != nil {
				return nil, err
			}
		}
		g.keep = g.keep || len(g.moves) > 0
		g.now, g.target = nil, nil
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b *gitDir) int { return strings.Compare(a.path, b.path) })
	return out, nil
}

// findMoves compares the refs of both states.
func (r *Repo) findMoves(ctx context.Context, g *gitDir) error {
	from, err := r.refValues(ctx, g.now)
	if err != nil {
		return err
	}
	to, err := r.refValues(ctx, g.target)
	if err != nil {
		return err
	}
	for name, v := range from {
		if to[name] != v {
			g.moves = append(g.moves, RefMove{name, v, to[name]})
		}
	}
	for name, v := range to {
		if from[name] == "" {
			g.moves = append(g.moves, RefMove{name, "", v})
		}
	}
	slices.SortFunc(g.moves, func(a, b RefMove) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// refValues reads the refs among the files of a git directory.
func (r *Repo) refValues(ctx context.Context, files map[string]*entry) (map[string]string, error) {
	out := map[string]string{}
	if e := files["packed-refs"]; e != nil && e.kind == kindFile && e.size <= maxPacked {
		b, err := r.content(ctx, e, false)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			if id, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok && isObjectID(id) && strings.HasPrefix(name, "refs/") && !within(name, ownRefs) {
				out[name] = id
			}
		}
	}
	for name, e := range files {
		if name == "packed-refs" || e.kind != kindFile || e.size > maxRefSize || path.Ext(name) == ".lock" {
			continue
		}
		b, err := r.content(ctx, e, false)
		if err != nil {
			return nil, err
		}
		if v := strings.TrimSpace(string(b)); isObjectID(v) || strings.HasPrefix(v, "ref: ") {
			out[name] = v
		}
	}
	return out, nil
}

func isObjectID(s string) bool {
	if len(s) != 40 && len(s) != 64 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
