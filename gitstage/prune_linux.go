package gitstage

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/gitconfig"
)

// prune removes from the stage what has been published, and what hides it. What
// stays in the session stays: settings, hooks, states that were not published.
func (r *repo) prune() error {
	for p, sub := range r.subs {
		if err := r.within(p, sub, sub.prune); err != nil {
			return err
		}
	}
	base := r.config
	mine, err := r.upper.settings()
	if err != nil {
		return err
	}
	if err := r.pruneDir("", 0); err != nil {
		return err
	}
	r.seen = map[string]sig{}
	if err := r.look(); err != nil {
		return err
	}
	if mine != nil {
		r.config = newBase(base, mine, r.config)
	}
	return nil
}

// config reads a configuration, an empty one where there is no file; size is the file's.
func (t tree) config(name string) (f *gitconfig.File, size int, err error) {
	b, err := t.read(name, gitconfig.MaxSize)
	if err != nil {
		return nil, 0, err
	}
	f, err = gitconfig.Parse(string(b))
	return f, len(b), err
}

// settings are those of the configuration of a stage, nil where it has none that can be
// read.
func (t tree) settings() (map[string]variable, error) {
	b, err := t.read("config", gitconfig.MaxSize)
	if err != nil || b == nil {
		return nil, err
	}
	f, err := gitconfig.Parse(string(b))
	if err != nil {
		return nil, nil
	}
	return variables(f), nil
}

func (r *repo) pruneDir(dir string, depth int) error {
	names, err := r.upper.names(path.Join(dir, "."))
	if err != nil || depth > 60 {
		return err
	}
	for _, n := range names {
		p := path.Join(dir, n)
		e, err := r.upper.stat(p)
		if err != nil {
			continue
		}
		top, _, _ := strings.Cut(p, "/")
		switch {
		case slices.Contains(units, p) && r.blocked[p], dir == "" && (n == "modules" || n == "worktrees") && e.kind == kindDir:
			continue
		case e.kind == kindDir:
			if err := r.pruneDir(p, depth+1); err != nil {
				return err
			}
			// Empty, it would only hide a time of change; opaque, all that is below.
			_ = r.upper.in(p, func(d tree, base string) error { return unix.Unlinkat(d.fd, base, unix.AT_REMOVEDIR) })
			if fd, err := r.upper.open(p, unix.O_RDONLY|unix.O_DIRECTORY, 0); err == nil {
				unix.Fremovexattr(fd, "user.overlay.opaque")
				unix.Close(fd)
			}
			continue
		case p == "config" && e.kind == kindFile:
			if err := r.pruneConfig(); err != nil {
				return err
			}
			continue
		case staysBehind(p, top):
			continue
		case top == "objects" && e.kind == kindFile && !r.isOutside(p) && (classify(p) == classLoose || classify(p) == classPack):
			continue // could not be published
		}
		if err := r.upper.remove(p); err != nil && err != unix.ENOENT {
			return err
		}
	}
	return nil
}

// staysBehind says whether a file, or that one is gone, is the session's alone.
func staysBehind(p, top string) bool {
	if slices.Contains(alternates, p) {
		return true
	}
	if top == "objects" || top == "refs" || top == "logs" || strings.HasSuffix(p, ".lock") {
		return false
	}
	c := classify(p)
	return c == classKept || c == classSilent && strings.Contains(p, "/")
}

func (r *repo) isOutside(p string) bool {
	_, err := r.real.stat(p)
	return err == nil
}

// pruneConfig rewrites the session's configuration: what is outside now, with
// the settings that stay in the session.
func (r *repo) pruneConfig() error {
	b, err := r.upper.read("config", gitconfig.MaxSize)
	if err != nil {
		return err
	}
	text, err := r.real.read("config", gitconfig.MaxSize)
	if err != nil {
		return err
	}
	merged, ok, err := sessionConfig(string(b), string(text), r.config)
	switch {
	case err != nil || !ok:
		return err
	case merged == string(text):
		return r.upper.remove("config")
	}
	return r.upper.rewrite("config", merged)
}

// sessionConfig is the configuration outside with what the session's has changed of
// base. ok is false where the session keeps its whole file.
func sessionConfig(mine, real string, base map[string]variable) (text string, ok bool, err error) {
	session, err := gitconfig.Parse(mine)
	if err != nil {
		return "", false, nil
	}
	now, err := gitconfig.Parse(real)
	if err != nil {
		return "", false, err
	}
	vars := variables(session)
	for name, v := range vars {
		if slices.Equal(v.values, base[name].values) {
			continue
		}
		if err := now.Set(v.entry.Section, v.entry.Subsection, v.entry.Key, v.values); err != nil {
			return "", false, nil // a value with a line end
		}
	}
	for name, v := range base {
		if _, ok := vars[name]; !ok {
			if err := now.Set(v.entry.Section, v.entry.Subsection, v.entry.Key, nil); err != nil {
				return "", false, err
			}
		}
	}
	return now.Text(), true, nil
}

// Crowded says that the stage is in memory and half of its room is taken, so that what
// has been published should be removed from it (Prune) though nothing has changed
// outside.
func (p *Publisher) Crowded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var fs unix.Statfs_t
	return !p.closed && unix.Fstatfs(p.stage.fd, &fs) == nil && fs.Type == unix.TMPFS_MAGIC && (fs.Bfree < fs.Blocks/2 || fs.Ffree < fs.Files/2)
}
