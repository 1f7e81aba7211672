package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"mcp-sandbox/deny"
	"mcp-sandbox/fsuser"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/snapshot"
	"mcp-sandbox/stage"
	"mcp-sandbox/workspace"
)

// The types of package stage under the session's name.
type (
	StageChange = stage.Change
	StageChoice = stage.Choice
	StageResult = stage.Result
	StageInfo   = stage.Info
	StageHunk   = stage.Hunk
	StageLeft   = stage.Left
)

// EncodePath gives a path as text for JSON, which cannot tell names that are not UTF-8.
func EncodePath(p string) string { return stage.EncodePath(p) }

// DecodePath takes back EncodePath.
func DecodePath(text string) string { return stage.DecodePath(text) }

// merged is a sandbox whose workspace is staged.
type merged interface {
	// Merged opens the workspace as the commands see it; the caller closes it.
	Merged() (*os.File, error)
}

// checkStaged refuses what does not go with a staged workspace.
func (c *Config) checkStaged() error {
	if !c.Staged {
		if c.StageApply {
			return errorf("invalid_argument", nil, "--stage-apply has no effect without --staged; add it")
		}
		return nil
	}
	why := ""
	switch {
	case runtime.GOOS != "linux":
		why = "it needs Linux"
	case c.Root == "":
		why = "it needs a workspace of yours; name one with --root"
	case c.Level != "" && c.Level != sandbox.LevelAuto && c.Level != sandbox.LevelNamespaces && c.Level != sandbox.LevelNamespacesNoProc:
		why = fmt.Sprintf("the level %s mounts nothing; leave --confine out", c.Level)
	case c.Directory != nil:
		why = "sessions that move between servers have no common state directory; serve this one alone"
	case c.from() != "":
		why = "--from would write into the project; leave it out"
	case c.Manifest != nil && len(c.Manifest.Entries) > 0:
		why = "the entries of the manifest would be written into the project; leave them out"
	default:
		return nil
	}
	return errorf("invalid_argument", nil, "--staged does not work here: %s", why)
}

// hiddenInStage is hidden with the further names of hidden files: in an overlay a name
// loses what tells that it is one of several as soon as it is copied to the layer above,
// so these are hidden as paths. Codes: internal.
func hiddenInStage(hidden *deny.List) (*deny.List, error) {
	found, err := hidden.Scan(context.Background())
	if err != nil || found.Partial {
		return nil, errorf("internal", err, "what is hidden in the workspace could not all be found; name less with --deny-read")
	}
	return hidden.With(slices.DeleteFunc(found.Linked(), hidden.Covers)), nil
}

// takeStage opens the stage of the session and begins to look at the project. It
// returns the directory of the overlay's layers.
func (s *Session) takeStage() (string, error) {
	if !s.config.Staged {
		return "", nil
	}
	if s.stage != nil {
		return s.stage.Layers(), nil
	}
	st, err := stage.Take(s.state.dir, s.root, s.config.Name, s.config.now())
	if errors.Is(err, stage.ErrInUse) {
		return "", errorf("already_exists", err, "another session or a review has the stage of this directory; end it, or name this one with --session")
	}
	if err != nil {
		return "", errorf("internal", err, "the stage of the workspace could not be opened; check --state-dir")
	}
	if err := st.AddProtect(s.config.Protect); err != nil {
		return "", errors.Join(errorf("internal", err, "the stage of the workspace could not be opened; check --state-dir"), st.Close())
	}
	s.stage = st
	uid, gid := os.Geteuid(), os.Getegid()
	if uid == 0 {
		if uid, gid, err = ownerOf(s.rootFD); err != nil {
			return "", errorf("internal", err, "the workspace cannot be looked at; try again")
		}
	}
	if err := s.config.openStagedGit(st, s.root); err != nil {
		s.log.Warn("git directories of the stage can be applied path by path alone", "error", err)
	}
	if err := st.Prune(); err != nil {
		s.log.Warn("the stage could not be tidied", "error", err)
	}
	st.Scan(uid, gid, func(names []string, more int) {
		text := sandbox.OneLine(strings.Join(names, ", "))
		if more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		s.tell("staged workspace: files of other users or groups can be read here as far as their modes say, but not changed: " + text)
	})
	return st.Layers(), nil
}

// openStage has the file tools see what the commands of a staged workspace see.
func (s *Session) openStage(files *workspace.Options) error {
	if s.stage == nil {
		return nil
	}
	m, ok := s.sandbox.(merged)
	if !ok {
		return errorf("confinement_unavailable", nil, "the workspace cannot be staged by this sandbox; start without --staged")
	}
	f, err := m.Merged()
	if err != nil {
		return errorf("internal", err, "the staged workspace could not be opened; try again")
	}
	if s.stage.Merged != nil {
		s.stage.Merged.Close()
	}
	s.stage.Merged, files.Staged = f, f
	if os.Geteuid() == 0 && files.OwnerUID > 0 {
		u, err := fsuser.New(files.OwnerUID, files.OwnerGID)
		if err != nil {
			return errorf("internal", err, "the server cannot take the rights of the workspace's owner; ask its operator to check it")
		}
		s.stage.As = func(f func() error) error {
			leave, err := u.Enter()
			if err != nil {
				return err
			}
			defer leave()
			return f()
		}
	}
	s.stage.Protects = s.config.outsideProtects(s.root, s.stage.Info().Protect)
	if !s.reviewed {
		s.reviewed = true
		s.serveReview(stage.Dir(s.state.dir, s.root, s.config.Name))
	}
	return nil
}

// outsideProtects says which paths of a project programs outside go by; more are those
// that the sessions of its stage protect.
func (c *Config) outsideProtects(root string, more []string) func(string) bool {
	protect := append(DefaultProtected(), protectedRepositories(root)...)
	protect = slices.Concat(protect, nestedProtected(), c.Protect, more)
	files, err := workspace.Open(root, workspace.Options{OwnerUID: -1, OwnerGID: -1, Protect: protect})
	if err != nil {
		return func(string) bool { return true } // fail closed
	}
	rules := files.Rules(context.Background())
	return rules.Protects
}

// workTree is the directory that commands see as the workspace.
func (s *Session) workTree() *os.File {
	if s.stage != nil && s.stage.Merged != nil {
		return s.stage.Merged
	}
	return s.rootFD
}

// Staged says whether the project changes only when changes are applied.
func (s *Session) Staged() bool { return s.stage != nil }

// ModelApplies says whether the model may apply changes that need nobody's yes.
func (s *Session) ModelApplies() bool { return s.stage != nil && s.config.StageApply }

// StageChanges lists what the session changed at or below the paths, and shows each
// as text. Codes: internal, invalid_argument.
func (s *Session) StageChanges(paths []string) ([]StageChange, []string, error) {
	if s.stage == nil {
		return nil, nil, errorf("invalid_argument", nil, "the workspace is not staged; changes are in the project already")
	}
	return stagedChanges(s.stage, s.relative(paths))
}

func stagedChanges(st *stage.Stage, paths []string) ([]StageChange, []string, error) {
	all, err := st.Changes()
	if err != nil {
		return nil, nil, errorf("internal", err, "the stage cannot be compared with the project; try again")
	}
	if len(paths) > 0 {
		kept := all[:0]
		for _, c := range all {
			for _, p := range paths {
				if p = filepath.Clean(p); p == "." || c.Path == p || strings.HasPrefix(c.Path, p+"/") {
					kept = append(kept, c)
					break
				}
			}
		}
		all = kept
	}
	texts := make([]string, len(all))
	for i := range all {
		texts[i] = st.Diff(&all[i])
	}
	return all, texts, nil
}

func (s *Session) relative(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = s.below(p)
	}
	return out
}

// StageApply applies changes for the model, where the operator lets it: never those
// that are protected, executable or in conflict. Codes: permission_denied, internal.
func (s *Session) StageApply(ctx context.Context, paths []string) (StageResult, string, error) {
	if s.stage == nil || !s.config.StageApply {
		return StageResult{}, "", errorf("permission_denied", nil, "only a person applies changes of this session; ask for mcp-sandbox review")
	}
	a, err := s.carryOut(ctx, reviewRequest{Op: "apply", Paths: s.relative(paths)})
	return a.Result, a.Snapshot, err
}

// storeProject stores the project before an apply, and names the snapshot.
func storeProject(ctx context.Context, c Config, root string) (string, error) {
	refuse := func(err error) (string, error) {
		return "", errorf("snapshot_failed", err, "nothing was applied, as the project could not be stored first (%s); check the state directory", withoutPath(err))
	}
	repo, err := OpenSnapshots(c, SnapshotDir(c, root), root)
	if err != nil {
		return refuse(err)
	}
	defer repo.Close()
	info, err := repo.Create(ctx, snapshot.CreateRequest{Label: "before a review", Auto: true})
	if err != nil {
		return refuse(err)
	}
	return info.ID, nil
}

// StageDiscard has the session see at the paths what the project has. Codes:
// permission_denied, internal.
func (s *Session) StageDiscard(ctx context.Context, paths []string) (StageResult, error) {
	if s.stage == nil || !s.config.StageApply {
		return StageResult{}, errorf("permission_denied", nil, "only a person discards changes of this session; undo them with the file tools")
	}
	a, err := s.carryOut(ctx, reviewRequest{Op: "discard", Paths: s.relative(paths)})
	return a.Result, err
}

// changesWait says whether the stage holds what a person has not decided about.
func (s *Session) changesWait() bool {
	return s.stage != nil && holdsChanges(s.stage)
}

func holdsChanges(s *stage.Stage) bool {
	empty, err := s.Empty()
	return err != nil || !empty
}

// changesWait is the same of a stage that no session uses, in the directory dir.
func (c *Config) changesWait(dir, root string) bool {
	if _, err := os.Lstat(dir); err != nil {
		return false
	}
	if _, err := os.Lstat(root); os.IsNotExist(err) {
		return false // nothing is left to apply them to
	}
	s, err := stage.Open(dir)
	if err != nil {
		return true
	}
	defer s.Close()
	_ = c.openStagedGit(s, root) // without it git directories count path by path
	return holdsChanges(s)
}

// closeStage lets go of the stage. One without a change is not kept.
func (s *Session) closeStage(forget bool) error {
	if s.stage == nil {
		return nil
	}
	empty, err := s.stage.Empty()
	dir := stage.Dir(s.state.dir, s.root, s.config.Name)
	if cerr := errors.Join(s.stage.End(), s.uses.close(s.stage.Close)); cerr != nil {
		return errorf("internal", cerr, "the stage could not be closed; check the state directory")
	}
	if forget || err == nil && empty {
		if err := stage.Delete(dir); err != nil {
			return errorf("internal", err, "the stage of the session could not be removed; check the state directory")
		}
		return nil
	}
	if err != nil {
		return errorf("internal", err, "the stage could not be compared with the project; the next review does")
	}
	return nil
}

// stagedSnapshots is the name under which the snapshots of a staged workspace are
// kept apart from those of the project: a restore of the one is not to bring back
// the other.
func stagedSnapshots(root, name string) string { return root + "\x00staged\x00" + name }
