package workspace

import (
	"context"
	"path"
)

// Rules is the policy of a workspace at one moment, for those who read and write
// its tree by other means: snapshots. Paths are relative to the workspace.
type Rules struct {
	f      *FS
	hidden *hiddenSet
	plain  *plainNames // nil: every path needs the closer look
	// unnamed: nothing in the workspace is hidden by its name.
	unnamed bool
}

// Rules looks at the workspace's policy; ctx bounds the looking.
func (f *FS) Rules(ctx context.Context) *Rules {
	f.learnTargets()
	return &Rules{f: f, hidden: f.hiddenNow(ctx), plain: f.plain(), unnamed: f.opts.Deny.Spares(f.roots[0].real)}
}

// Protects says whether a path may not be changed.
func (r *Rules) Protects(rel string) bool {
	if rel == "" {
		return false
	}
	if r.plain != nil && r.plain.path(rel) {
		if t := r.f.targets.Load(); t == nil || len(*t) == 0 {
			return false
		}
	}
	return r.f.guardsAll(path.Join(r.f.roots[0].real, rel))
}

// Hides says whether a path may not be read. The inode and its number of links,
// 1 for a directory, are those that are there, or 0.
func (r *Rules) Hides(rel string, dev, ino, links uint64) bool {
	if r.hidden == nil || rel == "" {
		return false
	}
	if !r.unnamed && r.f.opts.Deny.Covers(path.Join(r.f.roots[0].real, rel)) {
		return true
	}
	if ino == 0 {
		return false
	}
	return r.hidden.hasID(fileID{dev, ino}, links > 1)
}

// Ignored lists the paths of the workspace that its ignore files (.gitignore,
// .ignore, .git/info/exclude) leave out, a directory for all that is in it.
// Codes: limit_reached, cancelled.
func (f *FS) Ignored(ctx context.Context) ([]string, error) {
	var out []string
	err := f.at(".", walkOptions{}, func(p *resolved) error {
		out = nil
		t := &tour{ctx: ctx, visit: func(visited) error { return nil }, leave: func(path string) { out = append(out, path) }}
		return t.run(f, p)
	})
	return out, err
}
