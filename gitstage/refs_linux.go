package gitstage

import (
	"bytes"
	"cmp"
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// refs are the values of refs by name, as refValue gives them.
type refs struct{ loose, packed map[string]string }

func (r refs) value(name string) string { return cmp.Or(r.loose[name], r.packed[name]) }

const (
	maxRefs   = 200_000
	maxPacked = 64 << 20
	maxText   = 4 << 20
)

// readRefs reads all refs of a git directory.
func (t tree) readRefs() (refs, error) {
	r := refs{loose: map[string]string{}}
	err := t.walk("refs", 0, func(p string, e entry) {
		if e.kind != kindFile || len(r.loose) > maxRefs {
			return
		}
		if b, err := t.read(p, 4096); err == nil {
			if v := refValue(b); v != "" {
				r.loose[p] = v
			}
		}
	})
	if err != nil && err != unix.ENOENT {
		return r, err
	}
	b, err := t.read("packed-refs", maxPacked)
	r.packed = parsePacked(b)
	return r, err
}

// walk visits what is below a directory, directories first.
func (t tree) walk(dir string, depth int, visit func(p string, e entry)) error {
	names, err := t.names(dir)
	if err != nil || depth > 64 {
		return err
	}
	slices.Sort(names)
	for _, n := range names {
		p := path.Join(dir, n)
		e, err := t.stat(p)
		if err != nil {
			continue
		}
		visit(p, e)
		if e.kind == kindDir {
			if err := t.walk(p, depth+1, visit); err != nil && err != unix.ENOENT {
				return err
			}
		}
	}
	return nil
}

func parsePacked(b []byte) map[string]string {
	m := map[string]string{}
	for line := range strings.SplitSeq(string(b), "\n") {
		if oid, name, ok := strings.Cut(line, " "); ok && isOID(oid) && strings.HasPrefix(name, "refs/") {
			m[name] = oid
		}
	}
	return m
}

// stagedRefs gives the refs as the session sees them: base with what is in upper.
func stagedRefs(upper tree, base refs) (refs, error) {
	s := refs{loose: maps.Clone(base.loose), packed: base.packed}
	drop := func(dir string) {
		maps.DeleteFunc(s.loose, func(name, _ string) bool { return strings.HasPrefix(name, dir+"/") || name == dir })
	}
	if e, err := upper.stat("refs"); err == nil && (e.kind == kindGone || upper.opaque("refs")) {
		drop("refs")
	}
	err := upper.walk("refs", 0, func(p string, e entry) {
		switch e.kind {
		case kindGone:
			drop(p)
		case kindDir:
			if upper.opaque(p) {
				drop(p)
			}
		case kindFile:
			b, err := upper.read(p, 4096)
			if v := refValue(b); err == nil && v != "" && validRef(p) {
				s.loose[p] = v
			}
		}
	})
	if err != nil && err != unix.ENOENT {
		return s, err
	}
	e, err := upper.stat("packed-refs")
	switch {
	case err != nil:
	case e.kind == kindGone:
		s.packed = map[string]string{}
	case e.kind == kindFile:
		b, err := upper.read("packed-refs", maxPacked)
		if err != nil {
			return s, err
		}
		s.packed = parsePacked(b)
	}
	return s, nil
}

// changes are the refs whose value is another in s than in base, in order.
func (s refs) changes(base refs) []string {
	names := map[string]bool{}
	for _, m := range []map[string]string{s.loose, s.packed, base.loose, base.packed} {
		for n := range m {
			if validRef(n) && s.value(n) != base.value(n) {
				names[n] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// errConflict is a ref that was changed outside meanwhile.
var errConflict = errors.New("changed outside meanwhile")

// setRef gives a ref of the real directory a value, "" to delete it, if it still
// has the value the session knew.
func (r *repo) setRef(name, want, known string) error {
	err := r.real.locked(name, 0o644, func() ([]byte, error) {
		now, err := r.realRef(name)
		if err != nil {
			return nil, err
		}
		if now == want {
			return nil, nil
		}
		if now != known && !(r.forwards && isOID(now) && isOID(want) && r.real.leadsTo(want, now)) {
			return nil, errConflict
		}
		if err := r.keepUndo(name, now, want); err != nil {
			return nil, err
		}
		if want != "" {
			return []byte(want + "\n"), nil
		}
		if err := r.unpack(name); err != nil {
			return nil, err
		}
		if err := r.real.remove(name); err != nil && err != unix.ENOENT {
			return nil, err
		}
		return nil, nil
	})
	if err == unix.ENOTDIR || err == unix.EISDIR || err == unix.ENOTEMPTY {
		return errConflict // a ref lies where the way to this one leads, or below it
	}
	return err
}

// realRef is the value of a ref outside now.
func (r *repo) realRef(name string) (string, error) {
	b, err := r.real.read(name, 4096)
	if err == unix.EINVAL {
		return "", nil // a directory
	}
	if v := refValue(b); v != "" || err != nil {
		return v, err
	}
	b, err = r.real.read("packed-refs", maxPacked)
	if err != nil || !bytes.Contains(b, []byte(name)) {
		return "", err
	}
	return parsePacked(b)[name], nil
}

// unpack takes a deleted ref out of packed-refs.
func (r *repo) unpack(name string) error {
	b, err := r.real.read("packed-refs", maxPacked)
	if err != nil || !bytes.Contains(b, []byte(" "+name+"\n")) {
		return err
	}
	return r.real.locked("packed-refs", 0o644, func() ([]byte, error) {
		b, err := r.real.read("packed-refs", maxPacked)
		if err != nil {
			return nil, err
		}
		out, skip := []byte{}, false
		for line := range bytes.SplitAfterSeq(b, []byte("\n")) {
			if len(line) > 0 && line[0] == '^' {
				if !skip {
					out = append(out, line...)
				}
				continue
			}
			_, n, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
			if skip = n == name; !skip {
				out = append(out, line...)
			}
		}
		return out, nil
	})
}

// undoFor is how long an undo ref is kept.
const undoFor = 30 * 24 * time.Hour

// keepUndo keeps what a ref pointed to reachable, unless its new value does.
func (r *repo) keepUndo(name, old, want string) error {
	if c := r.common; c != nil {
		c.after = c.refs
		return c.keepUndo("worktrees/"+path.Base(r.rel)+"/"+name, old, want)
	}
	if !isOID(old) || isOID(want) && r.real.leadsTo(want, old) {
		return nil
	}
	// A branch that was renamed, or whose commit another one has.
	for _, m := range []map[string]string{r.after.loose, r.after.packed} {
		for n, v := range m {
			if v == old && n != name {
				return nil
			}
		}
	}
	return r.plainRef(undoRef(r.p.now(), name, old), old)
}

// plainRef makes a ref of this package's own.
func (r *repo) plainRef(name, value string) error {
	write := func() error {
		return r.real.locked(name, 0o644, func() ([]byte, error) { return []byte(value + "\n"), nil })
	}
	if !r.bare {
		return write()
	}
	r.undos[name] = value
	r.clearWay(name, false)
	err := write()
	if err != nil {
		r.clearWay(name, true)
		err = write()
	}
	return err
}

// expireUndo removes undo refs that are older than they are kept.
func (r *repo) expireUndo() {
	const dir = RefPrefix + "undo"
	days, _ := r.real.names(dir)
	for _, day := range days {
		t, err := time.Parse("20060102", day)
		if err == nil && r.p.now().Sub(t) > undoFor {
			_ = r.real.removeAll(dir+"/"+day, 0)
			maps.DeleteFunc(r.undos, func(name, _ string) bool { return strings.HasPrefix(name, dir+"/"+day+"/") })
		}
	}
}
