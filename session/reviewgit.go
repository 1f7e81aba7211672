package session

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mcp-sandbox/gitstage"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/snapshot"
	"mcp-sandbox/stage"
)

// leftReview is a review of what of git directories stayed in sessions.
type leftReview struct {
	files         lefts
	root, session string
	now           func() time.Time
}

// open opens the workspace, and the git directories of it that lie outside.
func (r *leftReview) open() (root *os.File, o gitstage.Options, done func(), err error) {
	if root, err = openRoot(r.root); err != nil {
		return nil, o, nil, err
	}
	opened := []*os.File{root}
	done = func() {
		for _, f := range opened {
			f.Close()
		}
	}
	o = gitstage.Options{UID: -1, GID: -1, Outside: map[string]*os.File{}}
	if os.Geteuid() == 0 {
		if o.UID, o.GID, err = ownerOf(root); err != nil {
			done()
			return nil, o, nil, err
		}
	}
	for _, p := range gitDirsOf(r.root, nil).own {
		if within(p, r.root) {
			continue
		}
		if f, err := openRoot(p); err == nil {
			opened = append(opened, f)
			o.Outside[p] = f
		}
	}
	return root, o, done, nil
}

// changes lists what stayed, as changes of a stage, and shows each as text.
func (r *leftReview) changes() (all []StageChange, texts []string, err error) {
	err = r.each(func(f *leftFile, root *os.File, o gitstage.Options) error {
		for i := range f.Items {
			c, text := leftChange(&f.Items[i].Left, root, o)
			all, texts = append(all, c), append(texts, text)
		}
		return nil
	})
	return all, texts, err
}

// each runs f with what is kept, under its lock.
func (r *leftReview) each(f func(f *leftFile, root *os.File, o gitstage.Options) error) error {
	if _, err := os.Lstat(r.files.dir); os.IsNotExist(err) {
		return nil // looking makes nothing
	}
	root, o, done, err := r.open()
	if err != nil {
		return err
	}
	defer done()
	return r.files.locked(func() error {
		kept, err := r.files.read(r.files.path(r.root, r.session), r.now())
		if err != nil {
			return err
		}
		slices.SortFunc(kept.Items, func(a, b leftItem) int { return strings.Compare(a.Path(), b.Path()) })
		return f(&kept, root, o)
	})
}

// isLeft says whether a change is one of a git directory that stayed in a session.
func isLeft(c *StageChange) bool { return strings.HasPrefix(c.Type, stage.TypeGit+" ") }

// leftChange is one thing that stayed as a change of a stage.
func leftChange(l *gitstage.Left, root *os.File, o gitstage.Options) (StageChange, string) {
	c := StageChange{Path: l.Path(), Type: string(l.Kind), Kind: stage.Modified, Protected: true, Reason: l.Why(), Unfit: l.Unfit,
		Size: int64(len(l.Text)), Mode: l.Mode, Executable: l.Mode&0o111 != 0}
	if l.Unfit != "" {
		c.Reason = ""
	}
	now, err := gitstage.LookLeft(root, l, o)
	if err != nil && c.Unfit == "" {
		c.Unfit = withoutPath(err)
	}
	c.OldSize, c.OldMode = int64(len(now.Text)), now.Mode
	was, is := now.Values, l.Values
	switch {
	case l.Kind == gitstage.LeftSetting && len(is) == 0, l.Kind != gitstage.LeftSetting && l.Text == nil:
		c.Kind = stage.Removed
	case l.Kind == gitstage.LeftSetting && len(was) == 0, l.Kind != gitstage.LeftSetting && now.Text == nil:
		c.Kind = stage.Added
	}
	if l.Moved(&now) && !l.Same(&now) {
		c.Conflict = "the project has another one than the session found"
	}
	c.Seen = l.ID() + " " + now.Print()
	var b strings.Builder
	fmt.Fprintf(&b, "# %s %s: %s\n", c.Type, sandbox.OneLine(c.Path), l.Why())
	if c.Conflict != "" {
		fmt.Fprintf(&b, "# conflict: %s\n", c.Conflict)
	}
	switch {
	case l.Text != nil && now.Text != nil && (l.Mode^now.Mode)&0o111 != 0:
		fmt.Fprintf(&b, "# mode %04o -> %04o\n", now.Mode, c.Mode)
	case c.Executable:
		fmt.Fprintf(&b, "# mode %04o\n", c.Mode)
	}
	switch {
	case l.Kind == gitstage.LeftSetting:
		c.Value = sandbox.OneLine(strings.Join(is, ", "))
		for _, v := range was {
			fmt.Fprintf(&b, "-%s = %s\n", sandbox.OneLine(l.Name), sandbox.OneLine(v))
		}
		for _, v := range is {
			fmt.Fprintf(&b, "+%s = %s\n", sandbox.OneLine(l.Name), sandbox.OneLine(v))
		}
	case l.Kind == gitstage.LeftState:
	case snapshot.IsText(l.Text) && snapshot.IsText(now.Text):
		b.WriteString(stage.Unified("project/"+sandbox.OneLine(c.Path), "session/"+sandbox.OneLine(c.Path), string(now.Text), string(l.Text)))
	default:
		fmt.Fprintf(&b, "# not text, %d -> %d bytes\n", len(now.Text), len(l.Text))
	}
	return c, b.String()
}

// pick takes those that are at or below the paths, or those of seen that are still what
// was shown.
func (q *reviewRequest) pick(c *StageChange) bool {
	if q.Seen != nil {
		return q.Seen[c.Path] == c.Seen
	}
	return slices.ContainsFunc(q.Paths, func(p string) bool { return atOrBelow(c.Path, p) })
}

// atOrBelow compares also as it stands: the name of a setting is not a path.
func atOrBelow(at, p string) bool {
	clean := filepath.Clean(p)
	return clean == "." || at == p || at == clean || strings.HasPrefix(at, strings.TrimSuffix(clean, "/")+"/")
}

// do applies or discards. What is decided is not listed again, though a session that
// runs still has it. rest is what of the request can be about something else, matched the
// paths of rest at or below which there was something.
func (r *leftReview) do(q reviewRequest) (res StageResult, rest reviewRequest, matched map[string]bool, err error) {
	res.Done, rest, matched = []string{}, q, map[string]bool{}
	if len(q.Hunks) > 0 || q.Op == "merge" {
		return res, rest, matched, nil
	}
	rest.Seen, rest.Paths = maps.Clone(q.Seen), slices.Clone(q.Paths)
	err = r.each(func(f *leftFile, root *os.File, o gitstage.Options) error {
		var stays []leftItem
		for _, item := range f.Items {
			l := &item.Left
			c, _ := leftChange(l, root, o)
			// A directory goes on to the stage, which can have changes there too.
			rest.Paths = slices.DeleteFunc(rest.Paths, func(p string) bool {
				matched[p] = matched[p] || atOrBelow(c.Path, p)
				return c.Path == p || c.Path == filepath.Clean(p)
			})
			_, named := rest.Seen[c.Path]
			delete(rest.Seen, c.Path)
			if !q.pick(&c) {
				if stays = append(stays, item); named {
					res.Left = append(res.Left, StageLeft{Path: c.Path, Why: gitstage.ErrMoved.Error()})
				}
				continue
			}
			if q.Op == "apply" {
				if why := applyLeft(l, &c, root, o, q); why != "" {
					res.Left = append(res.Left, StageLeft{Path: c.Path, Why: why})
					stays = append(stays, item)
					continue
				}
			}
			res.Done = append(res.Done, c.Path)
			if f.Decided == nil {
				f.Decided = map[string]time.Time{}
			}
			f.Decided[decidedBy(item.By, l.ID())] = r.now().UTC()
		}
		if f.Items = stays; f.Root == "" {
			return nil
		}
		return r.files.write(r.files.path(r.root, r.session), f)
	})
	return res, rest, matched, err
}

// applyLeft gives the project one thing, and says why not.
func applyLeft(l *gitstage.Left, c *StageChange, root *os.File, o gitstage.Options, q reviewRequest) string {
	if why := q.Choice.Unasked(c); why != "" {
		return why
	}
	err := gitstage.ApplyLeft(root, l, func(now gitstage.LeftNow) error {
		switch {
		case l.ID()+" "+now.Print() != c.Seen, q.Seen != nil && c.Seen != q.Seen[c.Path]:
			return gitstage.ErrMoved
		}
		return nil
	}, o)
	switch {
	case errors.Is(err, os.ErrExist):
		return "git holds a lock on it (" + filepath.Base(l.File()) + ".lock); try again"
	case err != nil:
		return withoutPath(err)
	}
	return ""
}
