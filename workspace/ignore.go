package workspace

import (
	"bufio"
	"context"
	"io"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
)

// maxIgnoreFile bounds one ignore file; the rest of a larger one is not read.
const maxIgnoreFile = 1 << 20

// ignoreFiles are read in every directory, weakest first.
var ignoreFiles = [...]string{".gitignore", ".ignore"}

// maxIgnoreWork bounds what the ignore rules of one tour may cost, in names of
// paths compared with a pattern: some seconds, and far more than a large
// repository needs. Without it three thousand rules and a hundred thousand
// names are hours.
var maxIgnoreWork = 16 << 20 // a test lowers it

// ignoreWork is what is left of it for a tour.
type ignoreWork struct {
	ctx  context.Context
	left int
	next int // below it the context is looked at again
}

func newIgnoreWork(ctx context.Context) *ignoreWork {
	return &ignoreWork{ctx: ctx, left: maxIgnoreWork, next: maxIgnoreWork}
}

// spend takes n, and fails when the call was cancelled or nothing is left.
func (w *ignoreWork) spend(n int) error {
	if w.left -= n; w.left > w.next {
		return nil
	}
	w.next = w.left - 4096
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if w.left < 0 {
		return fail(codeLimit, "the ignore files here have too many rules for so many names; set all to true to leave them unread, or name a smaller directory")
	}
	return nil
}

// controlDirs hold version control data, which no search is about.
func controlDir(name string) bool {
	return name == ".git" || name == ".hg" || name == ".svn" || name == ".jj"
}

// ignoreRules are the rules of one directory, above those of its parents.
type ignoreRules struct {
	parent *ignoreRules
	domain []string
	rules  []ignoreRule
}

// ignoreRule is a pattern with a cheap test that must hold before the pattern
// is asked at all: most rules are a plain name or a suffix.
type ignoreRule struct {
	pattern gitignore.Pattern
	name    string // the name must be this
	suffix  string // or end with this
	base    bool   // the pattern looks at the last name only
	git     bool   // one of git's own, which do not concern tracked files
}

// verdict is what the ignore rules say about a name.
type verdict int

const (
	wanted verdict = iota
	ignoredByGit
	ignoredByOther // .ignore, which only searches know
)

func parseIgnore(r io.Reader, domain []string, git bool) []ignoreRule {
	var rules []ignoreRule
	s := bufio.NewScanner(io.LimitReader(r, maxIgnoreFile))
	for s.Scan() {
		line := strings.TrimSuffix(s.Text(), "\r")
		if len(rules) == 0 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if strings.TrimSpace(line) == "" || line[0] == '#' {
			continue
		}
		rule := ignoreRule{pattern: gitignore.ParsePattern(line, domain), git: git}
		body := strings.TrimSuffix(strings.TrimRight(strings.TrimPrefix(line, "!"), " "), "/")
		if rule.base = !strings.Contains(body, "/"); rule.base {
			if tail, ok := strings.CutPrefix(body, "*"); ok && !strings.ContainsAny(tail, `*?[\`) {
				rule.suffix = tail
			} else if !strings.ContainsAny(body, `*?[\`) {
				rule.name = body
			}
		}
		rules = append(rules, rule)
	}
	return rules
}

// judge tells whether the last of comps is left out. The last rule that speaks
// about it decides, rules of deeper directories first.
func (r *ignoreRules) judge(comps []string, isDir bool, work *ignoreWork) (verdict, error) {
	name := comps[len(comps)-1]
	for ; r != nil; r = r.parent {
		var short []string
		// The cheap tests are not free.
		if err := work.spend(1 + len(r.rules)/16); err != nil {
			return wanted, err
		}
		for i := len(r.rules) - 1; i >= 0; i-- {
			rule := &r.rules[i]
			if rule.name != "" && rule.name != name || rule.suffix != "" && !strings.HasSuffix(name, rule.suffix) {
				continue
			}
			path := comps
			if rule.base {
				// Parents were asked on the way down; asking again here
				// would undo a "!" that let them in.
				if short == nil {
					short = append(append([]string(nil), r.domain...), name)
				}
				path = short
			}
			if err := work.spend(len(path)); err != nil {
				return wanted, err
			}
			switch rule.pattern.Match(path, isDir) {
			case gitignore.Exclude:
				if rule.git {
					return ignoredByGit, nil
				}
				return ignoredByOther, nil
			case gitignore.Include:
				return wanted, nil
			}
		}
	}
	return wanted, nil
}

// readIgnore adds the rules of the open directory dir to parent. has tells
// whether a name is there, to save failing opens.
func readIgnore(dir int, domain []string, parent *ignoreRules, has func(string) bool) *ignoreRules {
	var rules []ignoreRule
	for _, name := range ignoreFiles {
		if !has(name) {
			continue
		}
		file, err := openRegularAt(dir, name, name)
		if err != nil {
			continue
		}
		rules = append(rules, parseIgnore(file, domain, name != ".ignore")...)
		file.Close()
	}
	if len(rules) == 0 {
		return parent
	}
	return &ignoreRules{parent: parent, domain: append([]string(nil), domain...), rules: rules}
}

// inheritedIgnore collects the rules that apply at the directory p from the
// root down, p itself left out, with the rules git keeps outside the tree
// weakest.
func (f *FS) inheritedIgnore(p *resolved, work *ignoreWork) (*ignoreRules, error) {
	var r *ignoreRules
	load := func(comps []string, names ...string) []ignoreRule {
		var rules []ignoreRule
		for _, name := range names {
			at, err := f.walkFrom(p.root, append(append([]string(nil), comps...), split(name)...), name, walkOptions{})
			if err != nil {
				continue
			}
			if file, err := openRegular(at); err == nil {
				rules = append(rules, parseIgnore(file, comps, name != ".ignore")...)
				file.Close()
			}
			at.close()
		}
		return rules
	}
	if rules := load(nil, ".git/info/exclude"); len(rules) > 0 {
		r = &ignoreRules{rules: rules}
	}
	for i := range p.comps {
		if rules := load(p.comps[:i], ignoreFiles[:]...); len(rules) > 0 {
			r = &ignoreRules{parent: r, domain: append([]string(nil), p.comps[:i]...), rules: rules}
		}
		out, err := r.judge(p.comps[:i+1], true, work)
		if err != nil {
			return nil, err
		}
		if out != wanted {
			r = nil // asked for by name, so wanted
		}
	}
	return r, nil
}
