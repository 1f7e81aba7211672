package gitstage

import (
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// job is one publish of one repository.
type job struct {
	*repo
	news staged
	out  *Report

	refsNow refs
	content map[string][]byte
	changed []string // refs
	fail    []error
	unread  []string // of the session, too large or not to be read
}

// read loads the small new files into memory.
func (j *job) read() {
	j.content = map[string][]byte{}
	if j.unfit == nil {
		j.unfit = map[string]string{}
	}
	refsChanged := false
	for p, e := range j.news.files {
		delete(j.unfit, p)
		switch classify(p) {
		case classRef, classPacked:
			refsChanged = true
		case classHead, classText, classLog, classConfig, classIndex:
			if e.kind != kindFile {
				continue
			}
			limit := int64(maxText)
			switch classify(p) {
			case classIndex:
				limit = maxIndex
			case classLog:
				limit = maxPacked
			}
			b, err := j.upper.read(p, limit)
			if err != nil || b == nil {
				delete(j.news.files, p)
				j.unread = append(j.unread, p)
				continue
			}
			if now, err := j.real.read(p, maxText); classify(p) == classText && (err != nil || !goodText(p, string(now), string(b), j.fresh, j.foreign)) {
				delete(j.news.files, p)
				j.unread = append(j.unread, p)
				j.unfit[p] = "it is not what git itself writes there, or hides commits that the project has"
				j.out.Kept = append(j.out.Kept, path.Join(j.title, p))
				continue
			}
			j.content[p] = b
		default:
			refsChanged = refsChanged || p == "refs" || strings.HasPrefix(p, "refs/")
		}
	}
	if !refsChanged {
		return
	}
	var err error
	if j.refsNow, err = stagedRefs(j.upper, j.repo.mounted); err != nil {
		j.fail = append(j.fail, err)
		return
	}
	j.changed = j.refsNow.changes(j.repo.refs)
	j.after = j.refsNow
}

// apply publishes in the order in which git would: what is named before what
// names it, and HEAD, which makes a directory a repository, last.
func (j *job) apply() []error {
	if j.fresh {
		for _, d := range []string{"objects/info", "objects/pack", "refs/heads", "refs/tags"} {
			if err := j.real.mkdirs(d); err != nil {
				return append(j.fail, err)
			}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(j.content)) {
		if classify(p) == classLog {
			j.done(p, j.publishLog(p))
		}
	}
	j.publishRefs()
	states := map[string]bool{}
	for _, p := range slices.Sorted(maps.Keys(j.news.files)) {
		e := j.news.files[p]
		top, _, _ := strings.Cut(p, "/")
		switch c := classify(p); {
		case slices.Contains(units, top):
			states[top] = true
		case c == classText:
			j.done(p, j.publishText(p, e))
		case c == classConfig && e.kind == kindFile && !j.linked:
			j.done(p, j.publishConfig())
		case c == classIndex && e.kind == kindFile:
			j.done(p, j.publishIndex())
		}
	}
	for _, unit := range slices.Sorted(maps.Keys(states)) {
		j.publishState(unit)
	}
	for _, p := range slices.Sorted(maps.Keys(j.news.files)) {
		if classify(p) == classHead {
			j.done(p, j.publishHead(p, j.news.files[p]))
		}
	}
	return j.fail
}

// done notes that a file of the stage needs no further look.
func (j *job) done(p string, err error) {
	switch err {
	case nil:
		j.seen[p] = j.news.files[p].sig
		j.out.Published++
	case unix.EEXIST: // git outside holds the lock: tried again by the next call
		j.out.Conflicts = append(j.out.Conflicts, path.Join(j.title, p)+" is locked outside ("+path.Base(p)+".lock); it is published when the lock has gone")
	default:
		j.fail = append(j.fail, err)
	}
}

// waitLocked tries for a moment, as a git outside holds its locks for one.
func waitLocked(f func() error) error {
	for range 20 {
		if err := f(); err != unix.EEXIST {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return unix.EEXIST
}
