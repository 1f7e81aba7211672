package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff"
	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// The kinds of a [Change].
const (
	Added    = "added"
	Removed  = "removed"
	Modified = "modified" // the content, or where a link points
	Mode     = "mode"     // permissions or attributes only
	Type     = "type"     // a file became a directory, a directory a link, ...
)

// Change is one path that differs. Different times alone are not a change.
type Change struct {
	Path       string `json:"path"`
	Kind       string `json:"kind"`
	Dir        bool   `json:"dir,omitempty"` // it is a directory, after if there is one
	SizeBefore int64  `json:"size_before"`   // bytes; 0 for what is not a file
	SizeAfter  int64  `json:"size_after"`
}

// Diff tells what changed from one snapshot to another, sorted as a walk meets
// it. An empty id stands for the workspace as it is now. path limits it to one
// file or directory. Unreadable paths of the workspace count as removed.
func (r *Repo) Diff(ctx context.Context, from, to, path string) ([]Change, error) {
	out, _, err := r.Compare(ctx, from, to, path)
	return out, err
}

// Compare is Diff that also names the file systems mounted below the workspace:
// what changed on them is not known.
func (r *Repo) Compare(ctx context.Context, from, to, path string) (changes []Change, mounted []Skipped, err error) {
	if path, err = cleanPath(path); err != nil {
		return nil, nil, err
	}
	s := &scan{r: r}
	err = r.compare(ctx, from, to, path, s, func(a, b *entry) error {
		if c, ok := changeOf(a, b); ok {
			changes = append(changes, c)
		}
		return nil
	})
	for _, k := range s.skipped {
		if k.Reason == skipMount && (within(k.Path, path) || within(path, k.Path)) && len(mounted) < maxSkipped {
			mounted = append(mounted, Skipped{printable(k.Path), k.Reason})
		}
	}
	return changes, mounted, err
}

func changeOf(a, b *entry) (Change, bool) {
	var c Change
	switch {
	case a == nil:
		c = Change{Path: b.path, Kind: Added}
	case b == nil:
		c = Change{Path: a.path, Kind: Removed, Dir: a.kind == kindDir}
	case a.kind != b.kind:
		c = Change{Path: b.path, Kind: Type}
	case !a.sameContent(b):
		c = Change{Path: b.path, Kind: Modified}
	case !a.sameMode(b):
		c = Change{Path: b.path, Kind: Mode}
	default:
		return c, false
	}
	if a != nil {
		c.SizeBefore = a.size
	}
	if b != nil {
		c.SizeAfter = b.size
		c.Dir = b.kind == kindDir
	}
	return c, true
}

// compare joins two states; "" is the workspace now, which s looks at.
func (r *Repo) compare(ctx context.Context, from, to, path string, s *scan, each func(a, b *entry) error) error {
	path, err := cleanPath(path)
	if err != nil {
		return err
	}
	if from == to {
		if from == "" {
			return invalid("both sides of the comparison are the workspace; name a snapshot")
		}
		_, err := r.load(ctx, from)
		return err
	}
	done, err := r.share(ctx)
	if err != nil {
		return err
	}
	defer done()
	rules := r.rules(ctx)
	pick := func(a, b *entry) error {
		e := a
		if e == nil {
			e = b
		}
		// A snapshot may be older than the rule.
		if !within(e.path, path) || rules.Hides(e.path, 0, 0, 0) {
			return nil
		}
		return each(a, b)
	}
	if from == "" {
		return r.compareNow(ctx, to, s, func(now, snap *entry) error { return pick(now, snap) })
	}
	if to == "" {
		return r.compareNow(ctx, from, s, func(now, snap *entry) error { return pick(snap, now) })
	}
	a, err := r.manifest(ctx, from)
	if err != nil {
		return err
	}
	defer a.close()
	b, err := r.manifest(ctx, to)
	if err != nil {
		return err
	}
	defer b.close()
	if err := (&join{right: b, each: pick}).all(a); err != nil {
		return fail(err, "the snapshots could not be compared")
	}
	return nil
}

// compareNow joins the workspace with a snapshot. Files that the newest
// snapshot knows are not read.
func (r *Repo) compareNow(ctx context.Context, id string, s *scan, each func(now, snap *entry) error) error {
	rec, err := r.load(ctx, id)
	if err != nil {
		return err
	}
	m, err := r.openManifest(ctx, rec)
	if err != nil {
		return fail(err, "snapshot %s could not be read", id)
	}
	defer m.close()
	if rec.Info.WithoutIgnored {
		if s.leave, err = r.ignored(ctx); err != nil {
			return err
		}
	}
	j := &join{right: m, each: func(now, snap *entry) error {
		if now == nil && (r.skippedDeep(snap.path) || leftOut(s.leave, snap.path)) {
			return nil // left out today by configuration, not removed
		}
		return each(now, snap)
	}}
	s.sink = j.left
	prev, _, err := r.newest(ctx)
	if err != nil {
		return fail(err, "the snapshots could not be compared")
	}
	if prev != nil {
		if p, err := r.openManifest(ctx, prev); err == nil {
			defer p.close()
			s.prev = p
		}
	}
	if err := s.run(ctx); err != nil {
		return fail(err, "the workspace could not be compared")
	}
	if err := j.finish(); err != nil {
		return fail(err, "the workspace could not be compared")
	}
	return nil
}

// leftOut tells whether leave names the path or a directory above it.
func leftOut(leave map[string]struct{}, path string) bool {
	if len(leave) == 0 {
		return false
	}
	for i := 1; i <= len(path); i++ {
		if i == len(path) || path[i] == '/' {
			if _, ok := leave[path[:i]]; ok {
				return true
			}
		}
	}
	return false
}

func (r *Repo) manifest(ctx context.Context, id string) (*manifestReader, error) {
	rec, err := r.load(ctx, id)
	if err != nil {
		return nil, err
	}
	m, err := r.openManifest(ctx, rec)
	if err != nil {
		return nil, fail(err, "snapshot %s could not be read", id)
	}
	return m, nil
}

// maxTextDiff is the largest file, in bytes, that is compared line by line.
const maxTextDiff = 256 << 10

// DiffText writes the changes as a unified diff of at most limit bytes (0: no
// limit), cut at a line with a last line that says so. Binary files, large
// ones (over 256 KiB) and links are named in one line.
func (r *Repo) DiffText(ctx context.Context, from, to, path string, limit int) (string, error) {
	type pair struct{ a, b *entry }
	var list []pair
	err := r.compare(ctx, from, to, path, &scan{r: r}, func(a, b *entry) error {
		if _, ok := changeOf(a, b); ok {
			list = append(list, pair{a.clone(), b.clone()})
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	done, err := r.share(ctx)
	if err != nil {
		return "", err
	}
	defer done()
	var out strings.Builder
	for i, p := range list {
		s, err := r.textOf(ctx, p.a, p.b, from == "", to == "")
		if err != nil {
			return "", fail(err, "the files could not be compared")
		}
		if limit > 0 && out.Len()+len(s) > limit {
			if room := limit - out.Len(); room > 0 {
				out.WriteString(s[:strings.LastIndexByte(s[:room], '\n')+1])
			}
			fmt.Fprintf(&out, "... cut here, %d of %d changes shown\n", i, len(list))
			break
		}
		out.WriteString(s)
	}
	return out.String(), nil
}

func (r *Repo) textOf(ctx context.Context, a, b *entry, aNow, bNow bool) (string, error) {
	c, _ := changeOf(a, b)
	name := printable(c.Path)
	if sandbox.OneLine(name) != name || strings.Contains(name, `"`) {
		name = quote(c.Path)
	}
	plain := func(e *entry) bool { return e == nil || e.kind == kindFile && e.size <= maxTextDiff }
	if !plain(a) || !plain(b) || c.Kind == Mode {
		switch c.Kind {
		case Mode:
			return fmt.Sprintf("mode changed: %s %04o -> %04o\n", name, a.mode, b.mode), nil
		case Modified:
			if a.kind == kindLink {
				return fmt.Sprintf("link changed: %s %s -> %s\n", name, quote(a.target), quote(b.target)), nil
			}
			return fmt.Sprintf("modified: %s %d -> %d bytes\n", name, c.SizeBefore, c.SizeAfter), nil
		}
		return fmt.Sprintf("%s: %s\n", c.Kind, name), nil
	}
	x, err := r.content(ctx, a, aNow)
	if err != nil {
		return "", err
	}
	y, err := r.content(ctx, b, bNow)
	if err != nil {
		return "", err
	}
	if !IsText(x) || !IsText(y) {
		return fmt.Sprintf("%s: %s (binary) %d -> %d bytes\n", c.Kind, name, c.SizeBefore, c.SizeAfter), nil
	}
	oldName, newName := "a/"+name, "b/"+name
	if a == nil {
		oldName = "/dev/null"
	}
	if b == nil {
		newName = "/dev/null"
	}
	d := udiff.Unified(oldName, newName, string(x), string(y))
	if d == "" {
		return fmt.Sprintf("%s: %s\n", c.Kind, name), nil
	}
	return d, nil
}

// IsText says whether b can be shown as text.
func IsText(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }

// content reads a small file, from the workspace or from the store.
func (r *Repo) content(ctx context.Context, e *entry, now bool) ([]byte, error) {
	if e == nil {
		return nil, nil
	}
	if !now {
		pr, err := r.chunks.open(ctx, e.pieces, nil)
		if err != nil {
			return nil, err
		}
		defer pr.Close()
		return io.ReadAll(pr)
	}
	fd, err := r.tree.openFile(e.path)
	if err != nil {
		if unreadable(err) != "" {
			return nil, nil // gone since it was compared
		}
		return nil, err
	}
	defer unix.Close(fd)
	if st, err := fstat(fd); err != nil || st.mode&unix.S_IFMT != unix.S_IFREG {
		return nil, err
	}
	buf := make([]byte, maxTextDiff)
	n := 0
	for n < len(buf) {
		k, err := unix.Pread(fd, buf[n:], int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if k == 0 {
			break
		}
		n += k
	}
	return buf[:n], nil
}
