package gitstage

import (
	"io"
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
	if err := r.pruneDir("", 0); err != nil {
		return err
	}
	r.seen = map[string]sig{}
	return r.look()
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
	session, err := gitconfig.Parse(string(b))
	if err != nil {
		return nil
	}
	text, err := r.real.read("config", gitconfig.MaxSize)
	if err != nil {
		return err
	}
	now, err := gitconfig.Parse(string(text))
	if err != nil {
		return err
	}
	mine := variables(session)
	for name, v := range mine {
		if slices.Equal(v.values, r.config[name].values) {
			continue
		}
		if err := now.Set(v.entry.Section, v.entry.Subsection, v.entry.Key, v.values); err != nil {
			return nil // a value with a line end: the session keeps its whole file
		}
	}
	for name, v := range r.config {
		if _, ok := mine[name]; !ok {
			if err := now.Set(v.entry.Section, v.entry.Subsection, v.entry.Key, nil); err != nil {
				return err
			}
		}
	}
	if now.Text() == string(text) {
		return r.upper.remove("config")
	}
	return r.upper.create("config", 0o644, true, func(w io.Writer) error { _, err := io.WriteString(w, now.Text()); return err })
}
