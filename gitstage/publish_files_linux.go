package gitstage

import (
	"io"
	"mcp-sandbox/gitconfig"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// publishText replaces a file, or removes one that git removes when it is done.
func (j *job) publishText(p string, e entry) error {
	if e.kind == kindGone {
		if strings.Contains(p, "/") || p == "description" {
			return nil
		}
		if err := j.real.remove(p); err != nil && err != unix.ENOENT {
			return err
		}
		return nil
	}
	return j.real.create(p, 0o644, true, func(w io.Writer) error { _, err := w.Write(j.content[p]); return err })
}

func (j *job) publishState(unit string) {
	ok, err := j.publishUnit(unit)
	if err != nil {
		j.fail = append(j.fail, err)
		return
	}
	if j.blocked[unit] = !ok; !ok {
		j.out.Kept = append(j.out.Kept, path.Join(j.title, unit))
	} else {
		j.out.Published++
	}
	for p, e := range j.news.files {
		if top, _, _ := strings.Cut(p, "/"); top == unit {
			j.seen[p] = e.sig
		}
	}
}

// publishConfig publishes the settings that name no program.
func (j *job) publishConfig() error {
	session, err := gitconfig.Parse(string(j.content["config"]))
	if err != nil {
		return nil // half written, or broken: git inside refuses it as well
	}
	if j.fresh && session.Last("extensions", "", "objectformat") == "sha256" {
		j.hexLen = 64
	}
	check := &configCheck{writable: j.p.o.Writable}
	var kept, conflicts []string
	err = waitLocked(func() error {
		return j.real.locked("config", 0o644, func() ([]byte, error) {
			b, err := j.real.read("config", gitconfig.MaxSize)
			if err != nil {
				return nil, err
			}
			real, err := gitconfig.Parse(string(b))
			if err != nil {
				return nil, err
			}
			var changed bool
			changed, kept, conflicts, err = mergeConfig(real, j.config, variables(session), j.fresh, check)
			if err != nil {
				return nil, err
			}
			j.config = variables(real)
			if !changed {
				return nil, nil
			}
			return []byte(real.Text()), nil
		})
	})
	for _, k := range kept {
		j.out.Kept = append(j.out.Kept, path.Join(j.title, k))
	}
	for _, c := range conflicts {
		j.out.Conflicts = append(j.out.Conflicts, path.Join(j.title, c)+" was changed outside too; it stays as it is outside")
	}
	return err
}

// publishIndex replaces the index, unless it was changed outside too. Fresh times
// of the same entries do not count as a change.
func (j *job) publishIndex() error {
	mine, err := parseIndex(j.content["index"], j.hexLen)
	if err != nil {
		j.out.Kept = append(j.out.Kept, path.Join(j.title, "index"))
		return nil
	}
	conflict := false
	err = waitLocked(func() error {
		return j.real.locked("index", 0o644, func() ([]byte, error) {
			b, err := j.real.read("index", maxIndex)
			if err != nil {
				return nil, err
			}
			if b != nil {
				now, err := parseIndex(b, j.hexLen)
				if err == nil && sameEntries(now, mine) {
					return nil, nil
				}
				if conflict = err != nil || !sameEntries(now, j.index); conflict {
					return nil, nil
				}
			}
			return j.content["index"], nil
		})
	})
	if err != nil {
		return err
	}
	if !conflict {
		j.index = mine
		return nil
	}
	ref, err := j.keepIndex(mine)
	if err != nil {
		return err
	}
	j.out.Conflicts = append(j.out.Conflicts, path.Join(j.title, "index")+" was changed outside too; the session's side is "+ref)
	return nil
}

// keepIndex makes a commit of what the session had staged.
func (j *job) keepIndex(entries []indexEntry) (string, error) {
	tree, err := j.real.writeTree(entries, j.hexLen)
	if err != nil {
		return "", err
	}
	when := strconv.FormatInt(j.p.now().Unix(), 10) + " +0000"
	who := "mcp-sandbox <mcp-sandbox@localhost> " + when
	body := "tree " + tree + "\nauthor " + who + "\ncommitter " + who + "\n\nThe index of a session, changed outside at the same time.\n"
	oid, err := j.real.writeObject("commit", []byte(body), j.hexLen)
	if err != nil {
		return "", err
	}
	ref := RefPrefix + "conflict/" + j.p.now().UTC().Format("20060102") + "/index-" + oid[:10]
	return ref, waitLocked(func() error { return j.plainRef(ref, oid) })
}
