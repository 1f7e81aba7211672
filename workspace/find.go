package workspace

import (
	"container/heap"
	"context"
	"path"
	"sort"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Limits of Find.
const (
	defaultFindMax = 200
	maxFindMax     = 10000
)

// FindRequest is the input of Find.
type FindRequest struct {
	// Pattern is a glob with ** (doublestar). Without a slash it is compared
	// with names at any depth, with one it is compared with the path below
	// Path. A final slash asks for directories; otherwise files and links are
	// found.
	Pattern string
	Path    string // where to start; "" is "."
	Max     int    // most results; 0 is defaultFindMax
	// All finds what ignore files and version control directories hide, too.
	All bool
}

// FindResult holds the newest matches first.
type FindResult struct {
	Entries   []Entry
	Total     int  // matches in all
	Truncated bool // more matched than are in Entries, or the tree was too large
	Denied    int  // names passed over because policy hides them
	Unread    Unread
	Ignored   Ignored // files that match and directories, left out by ignore files
}

// Find finds files by name. Names that start with a dot count like others.
func (f *FS) Find(ctx context.Context, req FindRequest) (FindResult, error) {
	if req.Path == "" {
		req.Path = "."
	}
	if req.Max < 0 {
		return FindResult{}, fail(codeInvalid, "the number of results is negative; give one above 0")
	}
	if req.Max == 0 {
		req.Max = defaultFindMax
	}
	req.Max = min(req.Max, maxFindMax)
	m, err := compileGlob(req.Pattern)
	if err != nil {
		return FindResult{}, err
	}
	start := req.Path
	if base, _ := doublestar.SplitPattern(m.pattern); m.slash && base != "." && !m.negate && !strings.Contains(m.pattern, "\\") {
		// Only the part of the tree the pattern can match is read.
		start, m.base = path.Join(req.Path, base), base+"/"
	}
	var res FindResult
	err = f.at(start, walkOptions{follow: true}, func(p *resolved) error {
		res = FindResult{}
		st, err := p.stat()
		if err != nil {
			return err
		}
		if kindOf(st) != KindDirectory {
			return fail(codeNotDirectory, "%s is not a directory; name a directory to search in", quote(start))
		}
		var found newest
		t := &tour{ctx: ctx, all: req.All}
		t.counts = func(rel, name string, kind Kind) bool { return !m.dirs && m.match(rel, name) }
		display := p.display()
		t.visit = func(v visited) error {
			isDir := v.kind == KindDirectory
			if isDir != m.dirs || !m.match(v.rel, v.name) {
				return nil
			}
			st, err := statAt(v.dir.fd, v.name)
			if err != nil {
				return nil // gone
			}
			if t.hidden.has(st) {
				t.left++
				return nil
			}
			res.Total++
			heap.Push(&found, entryOf(v.dir.fd, v.name, joinDisplay(display, v.rel), st))
			if len(found) > req.Max {
				heap.Pop(&found)
			}
			return nil
		}
		if err := t.run(f, p); err != nil {
			return err
		}
		sort.Slice(found, func(i, j int) bool { return found.Less(j, i) })
		res.Entries, res.Truncated, res.Denied = found, t.truncated || res.Total > len(found), t.left
		res.Unread, res.Ignored = t.unread.below(display), t.ignored
		return nil
	})
	return res, err
}

// glob is a compiled file pattern.
type glob struct {
	pattern string
	slash   bool   // compare the path, not the name
	dirs    bool   // a final slash was given
	negate  bool   // "!" in front
	base    string // leading directories already walked
}

func compileGlob(pattern string) (*glob, error) {
	if pattern == "" || strings.ContainsRune(pattern, 0) || len(pattern) > maxPath {
		return nil, fail(codeInvalid, "the file pattern is empty, too long or holds a NUL byte; give a glob such as **/*.go")
	}
	g := &glob{pattern: strings.TrimPrefix(pattern, "./")}
	g.pattern, g.negate = strings.CutPrefix(g.pattern, "!")
	g.pattern, g.dirs = strings.CutSuffix(g.pattern, "/")
	g.slash = strings.Contains(g.pattern, "/")
	if strings.HasPrefix(g.pattern, "/") {
		return nil, fail(codeInvalid, "the file pattern %s is absolute; give the directory as path and a pattern below it", quote(pattern))
	}
	if g.pattern == "" || !doublestar.ValidatePattern(g.pattern) {
		return nil, fail(codeInvalid, "the file pattern %s is not a valid glob; check its brackets and braces", quote(pattern))
	}
	if alternatives(g.pattern) > maxAlternatives {
		return nil, fail(codeInvalid, "the file pattern has more than %d combinations of its braces; search for fewer at a time", maxAlternatives)
	}
	return g, nil
}

// maxAlternatives bounds the ways to read a pattern: every one of them may be
// tried for every name.
const maxAlternatives = 4096

// alternatives is how many patterns without braces p stands for, or more.
func alternatives(p string) int {
	n, choices := 1, []int(nil)
	for i := 0; i < len(p) && n <= maxAlternatives; i++ {
		switch p[i] {
		case '\\':
			i++
		case '{':
			choices = append(choices, 1)
		case ',':
			if k := len(choices); k > 0 {
				choices[k-1]++
			}
		case '}':
			if k := len(choices); k > 0 {
				n *= choices[k-1]
				choices = choices[:k-1]
			}
		}
	}
	return n
}

func (g *glob) match(rel, name string) bool {
	s := name
	if g.slash {
		s = g.base + rel
	}
	return doublestar.MatchUnvalidated(g.pattern, s) != g.negate
}

// newest is a heap with the oldest entry on top, to be dropped first.
type newest []Entry

func (n newest) Len() int      { return len(n) }
func (n newest) Swap(i, j int) { n[i], n[j] = n[j], n[i] }
func (n newest) Less(i, j int) bool {
	if !n[i].ModTime.Equal(n[j].ModTime) {
		return n[i].ModTime.Before(n[j].ModTime)
	}
	return n[i].Path > n[j].Path
}
func (n *newest) Push(x any) { *n = append(*n, x.(Entry)) }
func (n *newest) Pop() any {
	old := *n
	x := old[len(old)-1]
	*n = old[:len(old)-1]
	return x
}
