package gitstage

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

func (j *job) publishRefs() {
	whole := true
	for _, name := range j.changed {
		want, known := j.refsNow.value(name), j.repo.refs.value(name)
		if j.repo.conflicts[name] != "" {
			if j.repo.conflicts[name] == want {
				continue
			}
			if !isOID(want) || !j.real.leadsTo(want, known) {
				j.conflict(name, want)
				continue
			}
		}
		switch err := waitLocked(func() error {
			if name == stashRef && want == "" {
				if err := j.keepStash(nil); err != nil {
					return err
				}
			}
			return j.setRef(name, want, known)
		}); err {
		case nil:
			j.note(name, want)
			j.out.Published++
		case errConflict:
			j.conflict(name, want)
		default:
			whole = false
			j.done(name, err)
		}
	}
	if !whole {
		return
	}
	for p, e := range j.news.files {
		if c := classify(p); c == classRef || c == classPacked || p == "refs" || strings.HasPrefix(p, "refs/") {
			j.seen[p] = e.sig
		}
	}
}

// stashRef has its entries in its log alone.
const stashRef = "refs/stash"

// keepStash keeps the entries of the stash outside that are not among those of a log.
func (j *job) keepStash(lines []string) error {
	b, err := j.real.read("logs/"+stashRef, maxPacked)
	if err != nil {
		return err
	}
	for l := range strings.SplitAfterSeq(string(b), "\n") {
		if f := strings.Fields(l); len(f) > 1 && isOID(f[1]) && !slices.Contains(lines, l) {
			if err := j.keepUndo(stashRef, f[1], ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// note records the value of a ref outside, which is then the session's too.
func (j *job) note(name, value string) {
	delete(j.repo.conflicts, name)
	if value == "" {
		delete(j.repo.refs.loose, name)
		delete(j.repo.refs.packed, name)
		_ = j.real.remove("logs/" + name)
		return
	}
	j.repo.refs.loose[name] = value
}

// conflict keeps the session's side of a ref that was changed outside too.
func (j *job) conflict(name, want string) {
	now, err := j.realRef(name)
	if err != nil {
		j.fail = append(j.fail, err)
		return
	}
	if want != "" && !isOID(want) && j.forwards {
		j.twice(name)
		return
	}
	where := "it is gone in the session"
	if isOID(want) {
		ref := RefPrefix + "conflict/" + j.p.now().UTC().Format("20060102") + "/" + strings.TrimPrefix(name, "refs/") + "-" + want[:10]
		if err := waitLocked(func() error { return j.plainRef(ref, want) }); err != nil {
			j.fail = append(j.fail, err)
			return
		}
		where = "the session's side is " + ref
	}
	j.note(name, now)
	j.repo.conflicts[name] = want
	j.settle(name, want)
	j.out.Conflicts = append(j.out.Conflicts, path.Join(j.title, name)+" was changed outside too; "+where)
}

// settle notes that the project keeps the session's side of a conflict.
func (j *job) settle(name, want string) {
	if j.settled == nil {
		j.settled = map[string]string{}
	}
	j.settled[name] = want
}

// publishHead publishes HEAD or one of the names like it.
func (j *job) publishHead(p string, e entry) error {
	want := ""
	if e.kind == kindFile {
		if want = refValue(j.content[p]); want == "" {
			return nil
		}
	} else if p == "HEAD" {
		return nil
	}
	known := j.heads[p]
	err := waitLocked(func() error {
		return j.real.locked(p, 0o644, func() ([]byte, error) {
			b, err := j.real.read(p, 4096)
			if err != nil {
				return nil, err
			}
			switch now := refValue(b); {
			case now == want && (want != "" || b == nil):
				return nil, nil
			case now != known && p == "HEAD", j.moved(p):
				return nil, errConflict
			case want == "":
				if err := j.real.remove(p); err != nil && err != unix.ENOENT {
					return nil, err
				}
				return nil, nil
			}
			if p == "HEAD" {
				if err := j.keepUndo("HEAD", known, want); err != nil {
					return nil, err
				}
			}
			return []byte(want + "\n"), nil
		})
	})
	if err == errConflict && j.forwards {
		j.twice(p)
		return nil
	}
	if err == errConflict {
		j.out.Conflicts = append(j.out.Conflicts, path.Join(j.title, p)+" was changed outside too; it stays as it is outside, and was "+want+" in the session")
		return nil
	}
	if err == nil {
		j.heads[p] = want
		j.printNow(p)
	}
	return err
}

var logLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) [^\n\x00]*> [0-9]+ [+-][0-9]{4}(\t[^\n\x00]*)?$`)
})

// publishLog appends what the session added to the log of a ref. The log of the
// stash is its content and becomes what the session's is; what it dropped stays
// reachable.
func (j *job) publishLog(p string) error {
	now, err := j.real.read(p, maxPacked)
	if err != nil {
		return err
	}
	old := slices.Collect(strings.SplitAfterSeq(string(now), "\n"))
	lines := slices.Collect(strings.SplitAfterSeq(string(j.content[p]), "\n"))
	lines = slices.DeleteFunc(lines, func(l string) bool { return !logLine().MatchString(strings.TrimSuffix(l, "\n")) || l[len(l)-1] != '\n' })
	common := 0
	for common < len(old) && common < len(lines) && old[common] == lines[common] {
		common++
	}
	if p == "logs/"+stashRef && common < len(old) && old[common] != "" {
		if err := j.keepStash(lines); err != nil {
			return err
		}
		return j.real.locked(p, 0o644, func() ([]byte, error) { return []byte(strings.Join(lines, "")), nil })
	}
	if common == len(lines) {
		return nil
	}
	added := strings.Join(lines[common:], "")
	if err := j.real.mkdirs(path.Dir(p)); err != nil {
		return err
	}
	fd, err := j.real.open(p, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(added))
	return err
}
