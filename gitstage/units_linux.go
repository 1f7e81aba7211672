package gitstage

import (
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// publishUnit brings one state of the real directory to what the session has. It
// says false when it stays in the session.
func (r *repo) publishUnit(unit string) (bool, error) {
	files, ok, err := r.stagedUnit(unit)
	if err != nil || !ok {
		return false, err
	}
	if files == nil {
		return true, nil
	}
	return true, r.writeUnit(unit, files)
}

// stagedUnit gives a state as the session has it, nil where it has not changed it; ok
// is false for one that is not published.
func (r *repo) stagedUnit(unit string) (files map[string]string, ok bool, err error) {
	files = map[string]string{}
	e, err := r.upper.stat(unit)
	if err != nil {
		return nil, true, nil
	}
	whole := e.kind == kindGone || r.upper.opaque(unit)
	if !whole {
		names, err := r.real.names(unit)
		if err != nil && err != unix.ENOENT {
			return nil, false, err
		}
		for _, n := range names {
			b, err := r.real.read(unit+"/"+n, maxText)
			if err != nil {
				return nil, false, nil
			}
			files[n] = string(b)
		}
	}
	if e.kind == kindDir {
		names, err := r.upper.names(unit)
		if err != nil {
			return nil, false, err
		}
		for _, n := range names {
			p := path.Join(unit, n)
			e, err := r.upper.stat(p)
			switch {
			case err != nil, strings.HasSuffix(n, ".lock"):
			case e.kind == kindGone:
				delete(files, n)
			case e.kind == kindFile:
				b, err := r.upper.read(p, maxText)
				if err != nil || !goodState(unit, n, string(b)) {
					return nil, false, nil
				}
				files[n] = string(b)
			default:
				return nil, false, nil
			}
		}
	}
	return files, true, nil
}

func (r *repo) writeUnit(unit string, files map[string]string) error {
	old, err := r.real.names(unit)
	if err != nil && err != unix.ENOENT {
		return err
	}
	for name, text := range files {
		if b, err := r.real.read(unit+"/"+name, maxText); err == nil && b != nil && string(b) == text {
			continue
		}
		if err := r.real.create(unit+"/"+name, 0o644, true, func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
			return err
		}
	}
	for _, n := range old {
		if _, ok := files[n]; !ok {
			if err := r.real.remove(unit + "/" + n); err != nil && err != unix.ENOENT {
				return err
			}
		}
	}
	if len(files) > 0 {
		return nil
	}
	err = r.real.in(unit, func(dir tree, base string) error { return unix.Unlinkat(dir.fd, base, unix.AT_REMOVEDIR) })
	if err == unix.ENOENT {
		err = nil
	}
	return err
}
