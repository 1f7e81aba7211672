package gitstage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// own finds what the session changed in this repository alone.
func (r *repo) own() (*job, error) {
	news, err := r.scan()
	if err != nil {
		return nil, err
	}
	j := &job{repo: r, news: news, out: &Report{}}
	j.read()
	if len(j.fail) > 0 {
		return nil, j.fail[0]
	}
	return j, nil
}

// view says what waits, here and in modules and worktrees.
func (r *repo) view() (v View, err error) {
	j, err := r.own()
	if err != nil {
		return v, err
	}
	v.New = r.fresh
	v.Items = j.items()
	if r.p.shown != nil {
		r.p.shown[r.rel] = seenOf(v.Items)
	}
	stays := map[string]func(string, bool) bool{"": j.stays()}
	if len(j.fail) > 0 {
		return v, j.fail[0]
	}
	for _, p := range r.subDirs() {
		sub := &repo{p: r.p, rel: r.rel + "/" + p, title: path.Join(r.title, p), seen: map[string]sig{}, linked: strings.HasPrefix(p, "worktrees/")}
		if _, err := r.real.stat(p + "/HEAD"); err != nil {
			ok := true
			if !sub.linked {
				_, ok = r.moduleTree(p, r.upper)
			}
			if !ok {
				stays[p] = func(string, bool) bool { return true }
				continue
			}
			stays[p] = func(q string, dir bool) bool { return !dir && staysRaw(q) && q != "gitdir" && q != "commondir" }
			if sub.upper, err = r.upper.sub(p); err != nil {
				return v, err
			}
			sum, err := sub.upper.sum()
			sub.upper.close()
			if err != nil {
				return v, err
			}
			if r.p.shown != nil {
				r.p.shown[sub.rel] = newPrefix + sum
			}
			v.Items = append(v.Items, Item{Name: p, Text: p, want: newPrefix + sum})
			continue
		}
		err := r.within(p, sub, func() error {
			in, err := sub.view()
			for _, i := range in.Items {
				i.Name, i.Text = p+"/"+i.Name, p+": "+i.Text
				v.Items = append(v.Items, i)
			}
			stays[p] = in.Stays
			return err
		})
		if err != nil {
			return v, err
		}
	}
	told := r.p.bases[r.rel].Told
	v.Items = slices.DeleteFunc(v.Items, func(i Item) bool {
		want, ok := told[i.Name]
		return ok && want == i.want
	})
	v.Seen = seenOf(v.Items)
	dirs := slices.SortedFunc(maps.Keys(stays), func(a, b string) int { return len(b) - len(a) })
	v.Stays = func(p string, dir bool) bool {
		for _, d := range dirs {
			if d == "" {
				return stays[""](p, dir)
			}
			if in, ok := strings.CutPrefix(p, d+"/"); ok {
				return stays[d](in, dir)
			}
		}
		return false
	}
	return v, nil
}

// quiet are texts and heads that say nothing without what else waits.
var quiet = []string{"COMMIT_EDITMSG", "ORIG_HEAD", "FETCH_HEAD", "AUTO_MERGE", "MERGE_MSG", "MERGE_MODE", "MERGE_RR", "SQUASH_MSG", "TAG_EDITMSG", "NOTES_EDITMSG", "REBASE_HEAD", "BISECT_NAMES", "BISECT_TERMS", "BISECT_ANCESTORS_OK", "BISECT_EXPECTED_REV", "BISECT_HEAD", "BISECT_START"}

// items are what is to be published and another outside by now.
func (j *job) items() (out []Item) {
	for _, name := range j.changed {
		if i, ok := j.refItem(name); ok {
			out = append(out, i)
		}
	}
	states := map[string]bool{}
	for _, p := range slices.Sorted(maps.Keys(j.news.files)) {
		top, _, _ := strings.Cut(p, "/")
		switch c := classify(p); {
		case slices.Contains(quiet, p):
		case slices.Contains(units, top):
			if !states[top] {
				states[top] = true
				out = append(out, j.stateItem(top)...)
			}
		case c == classHead:
			out = append(out, j.headItem(p)...)
		case c == classText:
			now, err := j.real.read(p, maxText)
			j.failed(err)
			want, gone := string(j.content[p]), j.news.files[p].kind == kindGone
			if gone && (keptText(p) || now == nil) || !gone && now != nil && string(now) == want {
				continue
			}
			i := Item{Name: p, Text: textWord(p, want), want: fingerprint(want)}
			if now, want = clip(now), string(clip([]byte(want))); p != "MERGE_HEAD" {
				i.Lines = append(i.Lines, p+":")
				i.Lines = append(i.Lines, lineDiff(string(now), want)...)
			}
			if j.moved(p) {
				i.Conflict = p + " was changed in the project meanwhile"
			}
			out = append(out, i)
		case c == classIndex:
			out = append(out, j.indexItem()...)
		case c == classConfig && !j.linked:
			out = append(out, j.configItem()...)
		}
	}
	if len(out) == 0 && !j.linked {
		out = j.objectItem()
	}
	return out
}

// keptText says of a text whether it stays in the project when the session removes it.
func keptText(p string) bool { return strings.Contains(p, "/") || p == "description" }

func (j *job) failed(err error) {
	if err != nil {
		j.fail = append(j.fail, err)
	}
}

// objectItem is of objects that nothing else that waits comes with: a ref that is kept
// in the session, or its log alone, may need them.
func (j *job) objectItem() []Item {
	dirs, err := j.upper.names("objects")
	if err != nil {
		return nil
	}
	sum, n := sha256.New(), 0
	slices.Sort(dirs)
	for _, d := range dirs {
		names, err := j.upper.names("objects/" + d)
		if err != nil {
			continue // no directory
		}
		slices.Sort(names)
		for _, name := range names {
			p := "objects/" + d + "/" + name
			if c := classify(p); c != classLoose && c != classPack {
				continue
			}
			if e, err := j.upper.stat(p); err != nil || e.kind != kindFile {
				continue
			}
			if _, err := j.real.stat(p); err == nil {
				continue
			}
			n++
			fmt.Fprintln(sum, p)
		}
	}
	if n == 0 {
		return nil
	}
	return []Item{{Name: "objects", Text: fmt.Sprintf("%d files of objects alone", n), want: hex.EncodeToString(sum.Sum(nil)[:16])}}
}

// maxShown bounds the lines that are shown of one text, and maxShownBytes its bytes.
const maxShown, maxShownBytes = 40, 16 << 10

func clip(b []byte) []byte { return b[:min(len(b), maxShownBytes)] }

// lineDiff shows the lines that one text has and the other has not.
func lineDiff(old, now string) (out []string) {
	a, b := strings.Split(old, "\n"), strings.Split(now, "\n")
	for _, l := range a {
		if !slices.Contains(b, l) {
			out = append(out, "-"+l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			out = append(out, "+"+l)
		}
	}
	if len(out) > maxShown {
		out = append(out[:maxShown], fmt.Sprintf("and %d lines more", len(out)-maxShown))
	}
	return out
}

func textWord(p, text string) string {
	if p == "MERGE_HEAD" && text != "" {
		return "a merge under way"
	}
	return p
}

// stays says which paths of this repository are neither published nor by-products.
func (j *job) stays() func(string, bool) bool {
	blocked := map[string]bool{}
	for _, u := range units {
		if _, ok, _ := j.stagedUnit(u); !ok {
			blocked[u] = true
		}
	}
	if j.content["config"] != nil {
		_, _, _, kept, _ := j.mergedConfig()
		blocked["config"] = len(kept) > 0
	}
	if b := j.content["index"]; b != nil {
		_, err := parseIndex(b, j.hexLen)
		blocked["index"] = err != nil
	}
	for _, p := range j.unread {
		blocked[p] = true
	}
	for p, e := range j.news.files {
		gone := e.kind == kindGone
		switch classify(p) {
		case classHead:
			blocked[p] = blocked[p] || gone && p == "HEAD" || !gone && refValue(j.content[p]) == ""
		case classIndex:
			blocked[p] = blocked[p] || gone
		case classConfig:
			blocked[p] = blocked[p] || gone || j.linked
		case classText:
			blocked[p] = blocked[p] || gone && keptText(p)
		case classRef:
			if !gone {
				b, err := j.upper.read(p, 4096)
				blocked[p] = err != nil || refValue(b) == ""
			}
		}
	}
	return func(p string, dir bool) bool {
		top, _, _ := strings.Cut(p, "/")
		if dir {
			return !slices.Contains(dataDirs, top) && !slices.Contains(units, top)
		}
		return staysRaw(p) || blocked[top] || blocked[p]
	}
}

// staysRaw says of a file whether it is neither published nor a by-product.
func staysRaw(p string) bool {
	switch classify(p) {
	case classKept:
		return true
	case classSilent:
		return !byProduct(p)
	}
	return false
}

// byProduct says of what is not published whether git makes it again, or nobody needs
// it once git has ended.
func byProduct(p string) bool {
	if _, ok := files[p]; ok {
		return true
	}
	for _, prefix := range []string{"objects/incoming-", "objects/pack/.tmp-", "objects/pack/multi-pack-index", "objects/info/commit-graphs", "lfs/tmp/", "lfs/cache/", "lfs/incomplete/"} {
		if strings.HasPrefix(p, prefix) {
			return true
		}
	}
	return strings.HasSuffix(p, ".lock") || strings.Contains(p, "/tmp_") || strings.HasPrefix(p, "hooks/") && strings.HasSuffix(p, ".sample")
}

// dataDirs hold what is published, name by name: one that is gone in the session is
// none of the items', or is one with what was in it.
var dataDirs = []string{"refs", "objects", "logs"}

// newDirectory is the view of a directory that the project does not have yet.
func (l *Layer) newDirectory(dir string) (View, error) {
	upper, err := l.p.stage.sub(dir)
	if err != nil {
		return View{}, err
	}
	defer upper.close()
	sum, err := upper.sum()
	items := []Item{{Name: dir, Text: "a new repository", want: sum}}
	return View{New: true, Items: items, Seen: newPrefix + sum, Stays: func(p string, dir bool) bool { return !dir && staysRaw(p) }}, err
}
