package gitstage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// printed are the names of which a base has fingerprints.
func printed() (names []string) {
	for name, c := range files {
		if c == classHead || c == classText {
			names = append(names, name)
		}
	}
	return append(names, units...)
}

// absent is the fingerprint of what is not there.
const absent = "-"

// print is a fingerprint of a file or state.
func (t tree) print(p string) (string, error) {
	if !slices.Contains(units, p) {
		b, err := t.read(p, maxText)
		if err != nil || b == nil {
			return absent, err
		}
		return fingerprint(string(b)), nil
	}
	names, err := t.names(p)
	if err == unix.ENOENT {
		return absent, nil
	}
	if err != nil {
		return "", err
	}
	slices.Sort(names)
	var all strings.Builder
	for _, n := range names {
		b, err := t.read(p+"/"+n, maxText)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&all, "%q %q\n", n, b)
	}
	return fingerprint(all.String()), nil
}

// prints are the fingerprints of all that can be read.
func (t tree) prints() map[string]string {
	m := map[string]string{}
	for _, p := range printed() {
		if v, err := t.print(p); err == nil {
			m[p] = v
		}
	}
	return m
}

// moved says whether somebody else may have changed a file or state of a Layer's
// directory since the base.
func (r *repo) moved(p string) bool {
	if !r.forwards {
		return false
	}
	now, err := r.real.print(p)
	was, ok := r.prints[p]
	return err != nil || !ok || was != now
}

// printNow notes a file or state that the session's has become.
func (r *repo) printNow(p string) {
	if !r.forwards {
		return
	}
	delete(r.prints, p)
	if v, err := r.real.print(p); err == nil {
		r.prints[p] = v
	}
}

// forget takes out of a base what was changed since a time, which is read before: the
// session may have started from what was there until then.
func (r *repo) forget(b *base, since int64) {
	// What is not there may have gone: that changes its directory.
	fresh := func(p string) bool {
		e, err := r.real.stat(p)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			if e, err = r.real.stat(path.Dir(p)); err == unix.ENOENT {
				e, err = r.real.stat(".")
			}
		}
		return err != nil || e.sig.mtime >= since || e.sig.ctime >= since
	}
	for _, p := range printed() {
		drop := fresh(p)
		if slices.Contains(units, p) && !drop {
			names, _ := r.real.names(p)
			drop = slices.ContainsFunc(names, func(n string) bool { return fresh(p + "/" + n) })
		}
		if drop {
			delete(b.Files, p)
			delete(b.Heads, p)
		}
	}
	if fresh("index") {
		b.Index = ""
	}
	if fresh("config") {
		b.Config = ""
	}
	packed := fresh("packed-refs")
	b.Sure = !packed && !slices.ContainsFunc(append(r.real.dirs("refs", 0), "refs"), fresh)
	for name := range b.Refs {
		if _, loose := r.refs.loose[name]; loose && fresh(name) || !loose && (packed || !b.Sure) {
			delete(b.Refs, name)
		}
	}
}

// sum identifies all that lies in a directory of the session's.
func (t tree) sum() (string, error) {
	h := sha256.New()
	var visit func(dir string, depth int) error
	visit = func(dir string, depth int) error {
		names, err := t.names(dir)
		if err != nil {
			return err
		}
		if depth > 40 {
			return unix.ELOOP
		}
		slices.Sort(names)
		for _, n := range names {
			p := path.Join(dir, n)
			e, err := t.stat(p)
			if err != nil {
				return err
			}
			if e.kind != kindDir {
				fmt.Fprintf(h, "%q %c %v\n", p, e.kind, e.sig)
			} else if err := visit(p, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	err := visit(".", 0)
	return hex.EncodeToString(h.Sum(nil)[:16]), err
}
