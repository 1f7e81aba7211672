package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/snapshot"
	"mcp-sandbox/stage"
)

// A Review is how a person looks at what a session changed in a staged workspace, or at
// what of git directories stayed in a session of any other, applies it or discards it.
// While the session of a stage runs, its server does both, asked by a socket in the
// directory of the stage; otherwise it is done here.
type Review struct {
	config Config
	stage  *stage.Stage // nil without one
	left   *leftReview
	info   StageInfo
}

// OpenReview opens the stage of Config.Root and Config.Name; a name alone is enough
// where one directory has a session of that name. Codes: session_not_found,
// invalid_argument, internal.
func OpenReview(c Config) (*Review, error) {
	all, err := Stages(c)
	if err != nil {
		return nil, err
	}
	if c.Root != "" {
		if c.Root, err = filepath.Abs(c.Root); err == nil {
			c.Root, err = filepath.EvalSymlinks(c.Root)
		}
		if err != nil {
			return nil, errorf("not_found", err, "the directory of --root does not exist; check the path")
		}
	}
	var found []StageInfo
	for _, i := range all {
		if i.Session == c.Name && (c.Root == "" || i.Root == c.Root) {
			found = append(found, i)
		}
	}
	switch {
	case len(found) == 0:
		return nil, errorf("session_not_found", nil, "%s", otherStageHint(all, c.Root, c.Name))
	case len(found) > 1:
		return nil, errorf("invalid_argument", nil, "several directories have such a stage; name one with --root")
	}
	c.Root = found[0].Root
	if c.StateDir == "" {
		c.StateDir = DefaultStateDir()
	}
	if c.StateDir, err = filepath.Abs(c.StateDir); err != nil {
		return nil, errorf("invalid_argument", err, "the state directory cannot be made absolute; name it in full")
	}
	r := &Review{config: c, info: found[0], left: &leftReview{leftsOf(c.StateDir), c.Root, c.Name, c.now}}
	if found[0].Dir == "" {
		return r, nil
	}
	s, err := stage.Open(found[0].Dir)
	if err != nil {
		return nil, errorf("internal", err, "the stage cannot be opened; check that %q is there", c.Root)
	}
	s.Protects = c.outsideProtects(c.Root, s.Info().Protect)
	if err := c.openStagedGit(s, c.Root); err != nil {
		s.Close()
		return nil, errorf("internal", err, "the git directories of the stage cannot be opened; check the state directory")
	}
	r.stage = s
	return r, nil
}

// otherStageHint says that nothing is staged for root and the session called name, and which
// stage may be meant.
func otherStageHint(all []StageInfo, root, name string) string {
	var names []string
	above := ""
	for _, i := range all {
		switch {
		case i.Root == root && name == "":
			names = append(names, i.Session)
		case root != "" && i.Session == name && strings.HasPrefix(root, i.Root+"/") && len(i.Root) > len(above):
			above = i.Root
		}
	}
	switch {
	case len(names) > 0:
		return "nothing of sessions without a name is staged there; choose one with --session: " + strings.Join(names, ", ")
	case above != "":
		return "nothing is staged there; the directory above has a stage: --root " + shellWord(above)
	}
	return "nothing is staged there; see mcp-sandbox review --list"
}

// Info says what is reviewed.
func (r *Review) Info() StageInfo {
	if r.stage == nil {
		return r.info
	}
	i := r.stage.Info()
	i.InUse, i.GitLeft = !r.stage.Held(), r.info.GitLeft
	return i
}

// Changes lists the changes at or below the paths, "." for all, and shows each as
// text.
func (r *Review) Changes(paths []string) (all []StageChange, texts []string, err error) {
	paths = r.relative(paths)
	if r.stage != nil {
		if all, texts, err = stagedChanges(r.stage, paths); err != nil {
			return nil, nil, err
		}
	}
	kept, keptTexts, err := r.left.changes()
	if err != nil {
		return nil, nil, errorf("internal", err, "what of git stayed in the session cannot be read; check the state directory")
	}
	for i := range kept {
		if len(paths) == 0 || slices.ContainsFunc(paths, func(p string) bool { return atOrBelow(kept[i].Path, p) }) {
			all, texts = append(all, kept[i]), append(texts, keptTexts[i])
		}
	}
	return all, texts, nil
}

// Unfinished names what an interrupted apply left in the project, and why it could not
// be ended yet.
func (r *Review) Unfinished() []StageLeft {
	if r.stage == nil {
		return nil
	}
	return r.stage.Unfinished()
}

// relative are paths as stages name them.
func (r *Review) relative(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = p
		if filepath.IsAbs(p) {
			if rel, err := filepath.Rel(r.config.Root, p); err == nil && filepath.IsLocal(rel) {
				out[i] = rel
			}
		}
	}
	return out
}

// Apply applies the changes at or below the paths, as far as choice agrees, and names
// the snapshot of the project from before. Codes: snapshot_failed, internal.
func (r *Review) Apply(ctx context.Context, paths []string, choice StageChoice) (StageResult, string, error) {
	a, err := r.do(ctx, reviewRequest{Op: "apply", Paths: r.relative(paths), Choice: choice})
	return a.Result, a.Snapshot, err
}

// Discard has the session lose the changes at or below the paths. Code: internal.
func (r *Review) Discard(ctx context.Context, paths []string) (StageResult, error) {
	a, err := r.do(ctx, reviewRequest{Op: "discard", Paths: r.relative(paths)})
	return a.Result, err
}

// ApplyListed is Apply for changes that a person was shown, each path with its Seen:
// those alone, and none that is another one by now. Codes as Apply.
func (r *Review) ApplyListed(ctx context.Context, seen map[string]string, choice StageChoice) (StageResult, string, error) {
	a, err := r.do(ctx, reviewRequest{Op: "apply", Seen: seen, Choice: choice})
	return a.Result, a.Snapshot, err
}

// DiscardListed is Discard for changes that a person was shown. Code: internal.
func (r *Review) DiscardListed(ctx context.Context, seen map[string]string) (StageResult, error) {
	a, err := r.do(ctx, reviewRequest{Op: "discard", Seen: seen})
	return a.Result, err
}

// Hunks are the places in which the session's text of a changed file differs, and what
// identifies the texts; none for what is not text, or is new.
func (r *Review) Hunks(c *StageChange) ([]StageHunk, string) {
	if c.Kind != stage.Modified || r.stage == nil || isLeft(c) {
		return nil, ""
	}
	old, now, ok := r.stage.Texts(c)
	if !ok {
		return nil, ""
	}
	return stage.Hunks(old, now), stage.Sum(c, old, now)
}

// ApplyHunk applies one hunk of Hunks, and names the snapshot of the project from
// before. Codes as Apply.
func (r *Review) ApplyHunk(ctx context.Context, path string, hunk int, sum string, choice StageChoice) (StageResult, string, error) {
	a, err := r.do(ctx, reviewRequest{Op: "apply", Paths: []string{path}, Hunks: []int{hunk}, Sum: sum, Choice: choice})
	return a.Result, a.Snapshot, err
}

// DiscardHunk has the session lose one hunk of Hunks. Code: internal.
func (r *Review) DiscardHunk(ctx context.Context, path string, hunk int, sum string) (StageResult, error) {
	a, err := r.do(ctx, reviewRequest{Op: "discard", Paths: []string{path}, Hunks: []int{hunk}, Sum: sum})
	return a.Result, err
}

// ThreeWay is a text that was changed in the project and in the session.
type ThreeWay struct {
	Theirs, Ours string // as diffs against the text before
	Merged       string // "" with Clean false: both changed the same place
	Clean        bool
	Sum          string
}

// ThreeWay finds the text from before a conflict, in the snapshots of the session or
// the project; nil where it is not known.
func (r *Review) ThreeWay(ctx context.Context, c *StageChange) *ThreeWay {
	if c.Conflict == "" || c.Kind != stage.Modified || r.stage == nil || isLeft(c) {
		return nil
	}
	theirs, ours, ok := r.stage.Texts(c)
	if !ok {
		return nil
	}
	base, ok := r.base(ctx, c.Path)
	if !ok {
		return nil
	}
	t := &ThreeWay{Sum: stage.Sum(c, theirs, ours)}
	t.Theirs = stage.Unified("before", "project", base, theirs)
	t.Ours = stage.Unified("before", "session", base, ours)
	t.Merged, t.Clean = stage.Merge(base, theirs, ours)
	return t
}

// mostSnapshots bounds how many snapshots are searched for a text.
const mostSnapshots = 30

func (r *Review) base(ctx context.Context, path string) (string, bool) {
	size, mtime, ok := r.stage.Base(path)
	if !ok {
		return "", false
	}
	root := r.config.Root
	for _, of := range []string{stagedSnapshots(root, r.config.Name), root} {
		c := r.config
		if open := c.OpenStore; open != nil {
			c.OpenStore = func(string) (snapshot.Store, error) { return open(snapshotKey(of)) }
		}
		repo, err := OpenSnapshots(c, SnapshotDir(c, of), root)
		if err != nil {
			continue
		}
		list, err := repo.List(ctx)
		if err == nil {
			slices.SortFunc(list, func(a, b SnapshotInfo) int { return b.Time.Compare(a.Time) })
			for _, i := range list[:min(len(list), mostSnapshots)] {
				text, at, ok, err := repo.File(ctx, i.ID, path)
				if err == nil && ok && at == mtime && int64(len(text)) == size {
					repo.Close()
					return string(text), true
				}
			}
		}
		repo.Close()
	}
	return "", false
}

// ApplyMerged gives the project and the session the text of a ThreeWay, if choice
// agrees; the conflict is agreed to. Codes as Apply.
func (r *Review) ApplyMerged(ctx context.Context, path string, t *ThreeWay, choice StageChoice) (StageResult, string, error) {
	a, err := r.do(ctx, reviewRequest{Op: "merge", Paths: []string{path}, Sum: t.Sum, Text: &t.Merged, Choice: choice})
	return a.Result, a.Snapshot, err
}

func (r *Review) do(ctx context.Context, q reviewRequest) (a reviewAnswer, err error) {
	res, q, matched, err := r.left.do(q)
	if err != nil {
		return a, errorf("internal", err, "what of git stayed in the session could not be decided about (%s); look again", withoutPath(err))
	}
	switch {
	case len(q.Paths)+len(q.Seen) == 0:
	case r.stage == nil:
		for _, p := range slices.Concat(q.Paths, slices.Sorted(maps.Keys(q.Seen))) {
			if filepath.Clean(p) != "." && !matched[p] {
				res.Left = append(res.Left, StageLeft{Path: p, Why: stage.NothingThere})
			}
		}
	case r.stage.Held():
		a, err = carryOut(ctx, r.config, r.stage, q)
	default:
		a, err = r.ask(ctx, q)
	}
	a.Result.Left = slices.DeleteFunc(a.Result.Left, func(l StageLeft) bool { return matched[l.Path] && l.Why == stage.NothingThere })
	a.Result.Done, a.Result.Left = slices.Concat(res.Done, a.Result.Done), slices.Concat(res.Left, a.Result.Left)
	return a, err
}

// Close ends the review. A stage without a change is not kept.
func (r *Review) Close() error {
	if r.stage == nil {
		return nil
	}
	held, dir := r.stage.Held(), r.stage.Info().Dir
	empty := false
	if held {
		if err := r.stage.Prune(); err == nil {
			empty, _ = r.stage.Empty()
		}
	}
	err := r.stage.Close()
	if empty {
		err = errors.Join(err, stage.Delete(dir))
	}
	return err
}

// reviewSocket is the socket of a running session in the directory of its stage.
const reviewSocket = "review.sock"

// reviewTimeout bounds one request, which may store a large project first.
const reviewTimeout = 10 * time.Minute

func (r *Review) ask(ctx context.Context, q reviewRequest) (reviewAnswer, error) {
	var a reviewAnswer
	dir, err := os.Open(r.stage.Info().Dir)
	if err != nil {
		return a, errorf("internal", err, "the stage cannot be opened; check the state directory")
	}
	defer dir.Close()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", shortSocket(dir))
	if errors.Is(err, os.ErrNotExist) {
		// A session has it from before it answers, and a review without a socket.
		return a, errorf("already_exists", nil, "another review has the stage, or a session that is starting or ending; call again when it has ended")
	}
	if err != nil {
		return a, errorf("internal", err, "the session that uses the stage does not answer; end it and call again")
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(reviewTimeout))
	err = json.NewEncoder(conn).Encode(q.with(stage.EncodePath))
	if err == nil {
		err = json.NewDecoder(conn).Decode(&a)
	}
	if err != nil {
		return a, errorf("internal", err, "the session that uses the stage did not answer; call again")
	}
	a.Result = a.Result.Decoded()
	if a.Error != "" {
		return a, sandbox.Errorf(a.Code, nil, "%s", a.Error)
	}
	return a, nil
}

// shortSocket names the socket in less than the 108 bytes of an address (unix(7)).
func shortSocket(dir *os.File) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), reviewSocket)
}

// serveReview answers reviews until the session is closed. The directory is the
// server's alone, so whoever reaches the socket may do what it offers.
func (s *Session) serveReview(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		s.log.Warn("reviews of this session have to wait for its end", "error", err)
		return
	}
	_ = os.Remove(shortSocket(d))
	l, err := net.Listen("unix", shortSocket(d))
	if err != nil {
		d.Close()
		s.log.Warn("reviews of this session have to wait for its end", "error", err)
		return
	}
	s.behind(func(ctx context.Context) {
		defer d.Close()
		stop := context.AfterFunc(ctx, func() { l.Close() })
		defer stop()
		for {
			conn, err := l.Accept()
			if err != nil {
				l.Close()
				return
			}
			s.answerReview(ctx, conn)
		}
	})
}

// carryOut does what a review asks, while the session runs.
func (s *Session) carryOut(ctx context.Context, q reviewRequest) (a reviewAnswer, err error) {
	if q.Op == "apply" {
		return carryOut(ctx, s.config, s.stage, q)
	}
	// The session's own files change, too.
	c, err := s.BeginChange(ctx, Destroys, nil)
	if err != nil {
		return a, err
	}
	defer c.End(ctx)
	defer s.watch.stale()
	return carryOut(ctx, s.config, s.stage, q)
}

// carryOut does what a review asks. Before an apply the project is stored, so that it
// can be undone.
func carryOut(ctx context.Context, c Config, st *stage.Stage, q reviewRequest) (a reviewAnswer, err error) {
	if q.Op != "discard" {
		if a.Snapshot, err = storeProject(ctx, c, st.Info().Root); err != nil {
			return a, err
		}
	}
	switch {
	case q.Op == "merge" && (len(q.Paths) != 1 || q.Text == nil):
		return a, errorf("invalid_argument", nil, "a merge is of one text; name one")
	case q.Op == "merge":
		a.Result, err = st.ApplyMerged(q.Paths[0], *q.Text, q.Sum, q.Choice)
	case len(q.Hunks) > 0 && len(q.Paths) != 1:
		return a, errorf("invalid_argument", nil, "hunks are of one file; name one")
	case len(q.Hunks) > 0 && q.Op == "apply":
		a.Result, err = st.ApplyHunks(q.Paths[0], q.Hunks, q.Sum, q.Choice)
	case len(q.Hunks) > 0:
		a.Result, err = st.DiscardHunks(q.Paths[0], q.Hunks, q.Sum)
	case len(q.Seen) > 0 && q.Op == "apply":
		a.Result, err = st.ApplyListed(q.Seen, q.Choice)
	case len(q.Seen) > 0:
		a.Result, err = st.DiscardListed(q.Seen)
	case q.Op == "apply":
		a.Result, err = st.Apply(q.Paths, q.Choice)
	default:
		a.Result, err = st.Discard(q.Paths)
	}
	if err != nil {
		done := ""
		if n := len(a.Result.Done); n > 0 {
			done = fmt.Sprintf(" but %d of the paths were", n)
			if a.Snapshot != "" {
				done += " and snapshot " + a.Snapshot + " has the project from before"
			}
		}
		return a, errorf("internal", err, "it could not all be done (%s)%s; look again", withoutPath(err), done)
	}
	return a, nil
}

// withoutPath is the text of an error without the path of a file: those of the state
// directory are not the model's to know.
func withoutPath(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Err.Error()
	}
	return err.Error()
}

func (s *Session) answerReview(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(reviewTimeout))
	var q reviewRequest
	if json.NewDecoder(conn).Decode(&q) != nil {
		return
	}
	q = q.with(stage.DecodePath)
	var a reviewAnswer
	var err error
	switch q.Op {
	case "apply", "discard", "merge":
		a, err = s.carryOut(ctx, q)
	default:
		err = errorf("invalid_argument", nil, "the server does not know %q; use the same version of both", q.Op)
	}
	if err != nil {
		a.Code, a.Error = errorCode(err), err.Error()
	}
	s.note("review."+q.Op, a.Code, map[string]any{"done": len(a.Result.Done), "left": len(a.Result.Left)})
	a.Result = a.Result.Encoded()
	_ = json.NewEncoder(conn).Encode(a)
}
