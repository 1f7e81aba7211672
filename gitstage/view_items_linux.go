package gitstage

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/gitconfig"
)

func (j *job) refItem(name string) (i Item, ok bool) {
	want, known := j.refsNow.value(name), j.repo.refs.value(name)
	now, err := j.realRef(name)
	j.failed(err)
	if err != nil || now == want || j.repo.conflicts[name] == want && want != "" {
		return i, false
	}
	i = Item{Name: name, want: want}
	count, subjects, forward := j.newCommits(want, now)
	short := shortRef(name)
	switch {
	case want == "":
		i.Text = short + " removed"
	case count == 1:
		i.Text = "1 commit on " + short
	case count > 1:
		i.Text = fmt.Sprintf("%d commits on %s", count, short)
	case now == "":
		i.Text = short + " made"
	default:
		i.Text = short + " moved"
	}
	i.Lines = append(i.Lines, name+": "+orNone(now)+" -> "+orNone(want))
	i.Lines = append(i.Lines, subjects...)
	if now != known && !forward {
		i.Conflict = short + " was moved in the project meanwhile"
		if now == "" {
			i.Conflict = short + " was removed in the project meanwhile"
		}
	}
	if now == "" && known == "" && !j.sure {
		i.Conflict = "it is not known whether the project had " + short + " when the session started"
	}
	return i, true
}

func orNone(v string) string {
	if v == "" {
		return "none"
	}
	if isOID(v) {
		return v[:10]
	}
	return v
}

func shortRef(name string) string {
	for _, p := range []string{"refs/heads/", "refs/remotes/", "refs/"} {
		if s, ok := strings.CutPrefix(name, p); ok {
			return s
		}
	}
	return name
}

// maxSubjects bounds the commits that are shown of one ref.
const maxSubjects = 50

// newCommits counts the commits of a ref that the project does not have, as far as
// loose objects tell, and gives their subjects; forward says that old is among their
// ancestors.
func (j *job) newCommits(commit, old string) (count int, subjects []string, forward bool) {
	queue, seen := []string{commit}, map[string]bool{}
	for len(queue) > 0 && len(seen) < 2000 {
		c := queue[0]
		queue = queue[1:]
		if c == old && old != "" {
			forward = true
			continue
		}
		if seen[c] || !isOID(c) {
			continue
		}
		seen[c] = true
		body, ok := j.real.looseObject(c, "commit")
		if !ok {
			if body, ok = j.upper.looseObject(c, "commit"); !ok {
				continue
			}
			count++
			if head, text, _ := strings.Cut(body, "\n\n"); len(subjects) < maxSubjects && head != "" {
				subject, _, _ := strings.Cut(text, "\n")
				subjects = append(subjects, c[:10]+" "+subject)
			}
		}
		for line := range strings.SplitSeq(body, "\n") {
			if line == "" {
				break
			}
			if parent, ok := strings.CutPrefix(line, "parent "); ok {
				queue = append(queue, parent)
			}
		}
	}
	return count, subjects, forward
}

func (j *job) stateItem(unit string) []Item {
	files, ok, err := j.stagedUnit(unit)
	j.failed(err)
	if err != nil || !ok || files == nil {
		return nil
	}
	now := map[string]string{}
	names, err := j.real.names(unit)
	if err != unix.ENOENT {
		j.failed(err)
	}
	for _, n := range names {
		b, err := j.real.read(unit+"/"+n, maxText)
		j.failed(err)
		now[n] = string(b)
	}
	if maps.Equal(files, now) {
		return nil
	}
	var all strings.Builder
	for _, n := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&all, "%q %q\n", n, files[n])
	}
	text := unit + " under way"
	if len(files) == 0 {
		text = unit + " ended"
	}
	i := Item{Name: unit, Text: text, want: fingerprint(all.String())}
	if j.moved(unit) {
		i.Conflict = unit + " was changed in the project meanwhile"
	}
	return []Item{i}
}

func (j *job) headItem(p string) []Item {
	want := refValue(j.content[p])
	if j.news.files[p].kind == kindFile && want == "" || want == "" && p == "HEAD" {
		return nil
	}
	b, err := j.real.read(p, 4096)
	j.failed(err)
	now := refValue(b)
	if err != nil || now == want && (want != "" || b == nil) {
		return nil
	}
	i := Item{Name: p, Text: p + " on " + shortRef(strings.TrimPrefix(orNone(want), "ref: ")), Lines: []string{p + ": " + orNone(now) + " -> " + orNone(want)}, want: want}
	if p == "HEAD" && now != j.heads[p] || j.moved(p) {
		i.Conflict = p + " was changed in the project meanwhile"
	}
	return []Item{i}
}

func (j *job) indexItem() []Item {
	mine, err := parseIndex(j.content["index"], j.hexLen)
	if err != nil {
		return nil
	}
	b, err := j.real.read("index", maxIndex)
	if err != nil {
		j.failed(err)
		return nil
	}
	var now []indexEntry
	if b != nil {
		if now, err = parseIndex(b, j.hexLen); err == nil && sameEntries(now, mine) {
			return nil
		}
	}
	i := Item{Name: "index", Text: "index", want: sumOf(mine)}
	if b != nil && (err != nil || sumOf(now) != j.index) {
		i.Conflict = "the index was changed in the project meanwhile"
	}
	return []Item{i}
}

// mergedConfig merges the session's settings into those outside, without writing them.
func (j *job) mergedConfig() (now, text string, changed bool, kept, conflicts []string) {
	session, err := gitconfig.Parse(string(j.content["config"]))
	if err != nil {
		return "", "", false, []string{"config"}, nil
	}
	b, err := j.real.read("config", gitconfig.MaxSize)
	if err != nil {
		j.failed(err)
		return "", "", false, nil, nil
	}
	real, err := gitconfig.Parse(string(b))
	if err != nil {
		j.failed(err)
		return "", "", false, nil, nil
	}
	changed, kept, conflicts, err = mergeConfig(real, maps.Clone(j.repo.config), variables(session), j.fresh, j.configCheck())
	if err != nil {
		j.failed(err)
		return "", "", false, kept, conflicts
	}
	return string(b), real.Text(), changed, kept, conflicts
}

func (j *job) configItem() []Item {
	if j.content["config"] == nil {
		return nil
	}
	now, text, changed, _, conflicts := j.mergedConfig()
	if !changed && len(conflicts) == 0 {
		return nil
	}
	i := Item{Name: "config", Text: "settings", Lines: settingsDiff(now, text), want: fingerprint(text + strings.Join(conflicts, "\n"))}
	if len(conflicts) > 0 {
		i.Conflict = "the setting " + conflicts[0] + " was changed in the project meanwhile"
	}
	return []Item{i}
}

// settingsDiff shows each setting that one text has and the other has not, or has
// otherwise.
func settingsDiff(old, now string) (out []string) {
	a, err := gitconfig.Parse(old)
	b, err2 := gitconfig.Parse(now)
	if err != nil || err2 != nil {
		return []string{"config"}
	}
	was, is := variables(a), variables(b)
	names := map[string]bool{}
	for _, m := range []map[string]variable{was, is} {
		for name := range m {
			names[name] = !slices.Equal(was[name].values, is[name].values)
		}
	}
	word := func(v []string) string {
		if len(v) == 0 {
			return "none"
		}
		return strings.Join(v, ", ")
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if names[name] {
			out = append(out, name+": "+word(was[name].values)+" -> "+word(is[name].values))
		}
	}
	return out
}
