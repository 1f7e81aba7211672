package session

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"mcp-sandbox/deny"
	"mcp-sandbox/snapshot"
	"sync"
)

// archiveName distinguishes a file of Config.From from a snapshot's id or label.
var archiveName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`/|\.(tar|tgz|tbz2?|txz|tzst)(\.[a-z0-9]+)?$`) })

// otherRoot splits ROOT@ID.
var otherRoot = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(/.*)@([^/]+)$`) })

// from is where a new workspace comes from: Config.From, or else the manifest's.
func (c *Config) from() string {
	if c.From != "" || c.Manifest == nil {
		return c.From
	}
	return c.Manifest.From
}

func isArchive(from string) bool {
	return archiveName().MatchString(from) && !otherRoot().MatchString(from)
}

// openFrom opens the archive that from names.
func (c *Config) openFrom(hidden *deny.List) (*os.File, error) {
	var f *os.File
	var err error
	if c.From == "" {
		f, err = c.Manifest.OpenFrom(hidden)
	} else if f, err = os.Open(c.From); err != nil {
		err = errorf("not_found", err, "the archive %q to start from cannot be read; name a tar file", c.From)
	}
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, errorf("invalid_argument", err, "%q to start from is not a file; name a tar file, or ROOT@ID for a snapshot of a directory", c.from())
	}
	return f, nil
}

// CheckFrom refuses what no workspace can start from. Codes: invalid_argument,
// not_found, and those of the manifest's sources.
func (c *Config) CheckFrom() error {
	from, root := c.from(), c.Root
	if c.Manifest != nil {
		root = cmp.Or(root, c.Manifest.Root)
	}
	switch {
	case from == "" || otherRoot().MatchString(from):
		return nil
	case isArchive(from):
		f, err := c.openFrom(nil)
		if err == nil {
			f.Close()
		}
		return err
	case root == "":
		return errorf("invalid_argument", nil, "from names the snapshot %q, and a temporary workspace has none; write ROOT@ID for one of the directory ROOT, or name a tar file", from)
	}
	return nil
}

// fill puts the starting content into a new, empty workspace, all or nothing; a
// workspace that holds something is left as it is.
func (s *Session) fill(ctx context.Context) error {
	from := s.config.from()
	forks := s.opening != nil && s.opening.source != nil
	if from == "" && !forks || s.resumed != nil || s.established || s.filled {
		return nil
	}
	empty, err := s.isEmpty()
	if err != nil {
		return err
	}
	if !empty {
		s.log.Warn("the workspace is not empty, so nothing was brought into it", "from", from)
		return nil
	}
	repo, err := s.Snapshots()
	if err != nil {
		return err
	}
	switch m := otherRoot().FindStringSubmatch(from); {
	case forks:
		err = s.fork(ctx, repo)
	case m != nil:
		err = s.fillFrom(ctx, repo, m[1], m[2])
	case isArchive(from):
		err = s.fillWith(ctx, repo)
	default:
		_, err = repo.Restore(ctx, RestoreRequest{ID: from})
	}
	s.filled = err == nil
	return err
}

// isEmpty looks into the workspace that the session opened.
func (s *Session) isEmpty() (bool, error) {
	dir, err := os.OpenRoot(s.root)
	if err != nil {
		return false, errorf("session_not_found", err, "the workspace is gone; start a new session")
	}
	defer dir.Close()
	if fi, err := dir.Stat("."); err != nil || !sameDir(fi, s.rootFD) {
		return false, errorf("session_not_found", err, "the workspace was replaced by another directory; start a new session")
	}
	d, err := dir.Open(".")
	if err != nil {
		return false, errorf("permission_denied", err, "the workspace cannot be listed; check its permissions")
	}
	defer d.Close()
	switch _, err := d.Readdirnames(1); {
	case errors.Is(err, io.EOF):
		return true, nil
	case err != nil:
		return false, errorf("permission_denied", err, "the workspace cannot be listed; check its permissions")
	}
	return false, nil
}

// fillWith unpacks an archive.
func (s *Session) fillWith(ctx context.Context, repo *snapshot.Repo) error {
	hidden, err := s.config.denyList(s.root, s.state.dirs())
	if err != nil {
		return err
	}
	f, err := s.config.openFrom(hidden)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = repo.Hydrate(ctx, f, snapshot.ImportRequest{Label: "start", Trusted: true})
	return err
}

// fillFrom takes a snapshot of another directory, which need not exist any more.
func (s *Session) fillFrom(ctx context.Context, repo *snapshot.Repo, root, ref string) error {
	root = filepath.Clean(root)
	if real, err := filepath.EvalSymlinks(root); err == nil {
		root = real
	}
	store, err := openStore(s.config, SnapshotDir(s.config, root), root)
	if err != nil {
		return err
	}
	// Only its store is read; the workspace it is joined to here is the new one.
	source, err := snapshot.New(store, snapshot.Options{RootFile: s.rootFD, Log: s.log})
	if err != nil {
		return err
	}
	defer source.Close()
	id, err := source.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	return carry(ctx, source, id, repo)
}
