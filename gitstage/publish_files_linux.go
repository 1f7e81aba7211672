package gitstage

import (
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/gitconfig"
)

// publishText replaces a file, or removes one that git removes when it is done.
func (j *job) publishText(p string, e entry) error {
	if e.kind == kindGone && keptText(p) {
		return nil
	}
	if now, err := j.real.read(p, maxText); j.forwards {
		if err != nil {
			return err
		}
		if e.kind == kindGone && now == nil || e.kind != kindGone && now != nil && string(now) == string(j.content[p]) {
			j.printNow(p)
			return nil
		}
		if j.moved(p) {
			j.twice(p)
			return nil
		}
		defer j.printNow(p)
	}
	if e.kind == kindGone {
		if err := j.real.remove(p); err != nil && err != unix.ENOENT {
			return err
		}
		return nil
	}
	return j.real.create(p, 0o644, true, func(w io.Writer) error { _, err := w.Write(j.content[p]); return err })
}

// twice leaves to the project what was changed on both sides.
func (j *job) twice(p string) {
	if !slices.Contains(quiet, p) {
		j.out.Conflicts = append(j.out.Conflicts, path.Join(j.title, p)+" was changed outside too; it stays as it is outside, and the session's in the stage")
	}
}

func (j *job) publishState(unit string) {
	if j.forwards && len(j.stateItem(unit)) > 0 && j.moved(unit) {
		j.twice(unit)
		return
	}
	defer j.printNow(unit)
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
	var kept, conflicts []string
	base := maps.Clone(j.config)
	var wrote [2]string
	err = waitLocked(func() error {
		return j.real.locked("config", 0o644, func() ([]byte, error) {
			real, _, err := j.real.config("config")
			if err != nil {
				return nil, err
			}
			wrote = [2]string{real.Text()}
			var changed bool
			changed, kept, conflicts, err = mergeConfig(real, base, variables(session), j.fresh, j.configCheck())
			if err != nil {
				return nil, err
			}
			if !changed {
				return nil, nil
			}
			wrote[1] = real.Text()
			return []byte(wrote[1]), nil
		})
	})
	if err == nil {
		j.config = base
	}
	if err == nil && wrote[1] != "" && j.p.wrote != nil {
		j.p.wrote[path.Join(j.rel, "config")] = wrote
	}
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
		j.unfit["index"] = "it cannot be read as an index"
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
				if conflict = err != nil || sumOf(now) != j.index; conflict {
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
		j.index = sumOf(mine)
		return nil
	}
	ref, err := j.keepIndex(mine)
	if err != nil {
		return err
	}
	j.settle("index", sumOf(mine))
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
