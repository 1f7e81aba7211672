// Package deny says which files are hidden from a session, wherever a grant
// would show them: the one reading of --deny-read, --deny-secrets and the
// server's own directories that commands, file tools and snapshots share.
//
// Start at Parse. A List is asked by name (Covers, CoversEntry) and, for
// hard links, by the files there are (Scan).
//
// The package opens directories to read names in Scan; it changes nothing and
// enforces nothing.
package deny

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// maxPattern bounds one pattern, in bytes: PATH_MAX of Linux.
const maxPattern = 4096

// List is the hidden files of one session. A nil List hides nothing. It does
// not change after Parse and is safe for concurrent use.
type List struct {
	root   string
	trees  []string // what patterns without a leading slash apply below
	folded []string // trees, folded
	paths  []string // exact paths, as given and with links resolved, cleaned
	folds  []string // the same, folded
	globs  []glob
	names  names // those of globs that compare one name at any depth
	given  []string
}

// glob is a pattern with wildcards that a path below a tree is compared with.
type glob struct {
	pattern string // folded, without a leading slash
	rooted  bool   // compared below the root only, not below every tree
	abs     bool   // compared with absolute paths
	except  bool
}

// names are the patterns of the form **/name, by how fast they are told.
type names struct {
	whole, exceptWhole map[string]bool
	suffix             []string // *.pem
	prefix             []string // .env*
	other, exceptOther []string
}

// Parse reads patterns for a session whose workspace is root, absolute and
// without links, and which is shown trees next to it. A pattern is
//
//   - an absolute path, or one relative to the root: that path and all below it,
//     whether it exists yet or not;
//   - one with wildcards (*, ?, [...], {...}, ** for any number of directories):
//     without a slash it is compared with names at any depth of the root and of
//     every tree, **/a/b with paths at any depth, a/*.key with paths below the
//     root, /a/** with absolute paths;
//   - "!" and such a pattern with wildcards or without a slash: an exception to
//     the patterns with wildcards.
//
// Case is not told apart.
func Parse(patterns []string, root string, trees []string) (*List, error) {
	l := &List{root: root, given: patterns, names: names{whole: map[string]bool{}, exceptWhole: map[string]bool{}}}
	for _, t := range append([]string{root}, trees...) {
		if real, err := filepath.EvalSymlinks(t); err == nil {
			t = real
		}
		if t = path.Clean(t); path.IsAbs(t) && !slices.Contains(l.trees, t) {
			l.trees, l.folded = append(l.trees, t), append(l.folded, Fold(t))
		}
	}
	for _, p := range patterns {
		if err := l.add(p); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Check says what is wrong with a pattern, whatever the workspace.
func Check(pattern string) error {
	_, err := Parse([]string{pattern}, "/", nil)
	return err
}

func (l *List) add(pattern string) error {
	p, except := strings.CutPrefix(pattern, "!")
	switch {
	case p == "" || strings.ContainsRune(p, 0):
		return fmt.Errorf("the pattern %q is empty or holds a NUL byte; name a path or a pattern such as **/.env", pattern)
	case len(p) > maxPattern:
		return fmt.Errorf("the pattern %.40q... is %d bytes long and at most %d are possible; shorten it", p, len(p), maxPattern)
	case slices.Contains(strings.Split(p, "/"), ".."):
		return fmt.Errorf("the pattern %q holds \"..\"; name the absolute path", pattern)
	}
	p = strings.TrimRight(p, "/")
	if p == "" {
		return fmt.Errorf("the pattern %q is the whole file system; name what is to be hidden in it", pattern)
	}
	if !strings.ContainsAny(p, "*?[{") && (!except || strings.Contains(p, "/")) {
		if except {
			return fmt.Errorf("the exception %q is a path, and exceptions are to patterns with wildcards only; write !**/name", pattern)
		}
		l.addPath(p)
		return nil
	}
	p = strings.TrimPrefix(p, "./")
	if !doublestar.ValidatePattern(p) {
		return fmt.Errorf("the pattern %q is not a valid glob; check its brackets and braces", pattern)
	}
	if strings.Trim(p, "*/") == "" {
		return fmt.Errorf("the pattern %q hides everything; name what is to be hidden", pattern)
	}
	g := glob{pattern: Fold(strings.TrimPrefix(p, "/")), abs: strings.HasPrefix(p, "/"), except: except}
	name, deep := g.pattern, false
	if !g.abs {
		name, deep = strings.CutPrefix(g.pattern, "**/")
		deep = deep || !strings.Contains(name, "/")
		g.rooted = !deep
	}
	if deep && !strings.Contains(name, "/") && name != "**" {
		l.names.add(name, except)
		return nil
	}
	if deep {
		g.pattern = "**/" + name
	}
	l.globs = append(l.globs, g)
	return nil
}

// With is l with more exact paths, absolute ones.
func (l *List) With(paths []string) *List {
	if len(paths) == 0 {
		return l
	}
	more := *l
	more.paths, more.folds = slices.Clone(l.paths), slices.Clone(l.folds)
	for _, p := range paths {
		more.addPath(p)
	}
	return &more
}

func (l *List) addPath(p string) {
	if !path.IsAbs(p) {
		p = path.Join(l.root, p)
	}
	p = path.Clean(p)
	for _, v := range []string{p, resolve(p)} {
		if !slices.Contains(l.paths, v) {
			l.paths = append(l.paths, v)
			l.folds = append(l.folds, Fold(v))
		}
	}
}

// resolve follows the links of p as far as p exists.
func resolve(p string) string {
	rest := ""
	for dir := p; ; dir = path.Dir(dir) {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return path.Join(real, rest)
		}
		if dir == "/" {
			return p
		}
		rest = path.Join(path.Base(dir), rest)
	}
}

func (n *names) add(name string, except bool) {
	plain := !strings.ContainsAny(name, `*?[{\`)
	switch rest := strings.Trim(name, "*"); {
	case plain && except:
		n.exceptWhole[name] = true
	case plain:
		n.whole[name] = true
	case except:
		n.exceptOther = append(n.exceptOther, name)
	case name == "*"+rest && !strings.ContainsAny(rest, `*?[{\`):
		n.suffix = append(n.suffix, rest)
	case name == rest+"*" && !strings.ContainsAny(rest, `*?[{\`):
		n.prefix = append(n.prefix, rest)
	default:
		n.other = append(n.other, name)
	}
}

func (n *names) hide(name string) bool {
	return n.whole[name] ||
		slices.ContainsFunc(n.suffix, func(s string) bool { return strings.HasSuffix(name, s) }) ||
		slices.ContainsFunc(n.prefix, func(s string) bool { return strings.HasPrefix(name, s) }) ||
		slices.ContainsFunc(n.other, func(s string) bool { return doublestar.MatchUnvalidated(s, name) })
}

func (n *names) exempt(name string) bool {
	return n.exceptWhole[name] ||
		slices.ContainsFunc(n.exceptOther, func(s string) bool { return doublestar.MatchUnvalidated(s, name) })
}

// Empty says whether nothing is hidden.
func (l *List) Empty() bool {
	return l == nil || len(l.paths) == 0 && !l.Wild()
}

// Wild says whether there are patterns with wildcards, which new files can come
// to match.
func (l *List) Wild() bool {
	return l != nil && (len(l.globs) > 0 || len(l.names.whole)+len(l.names.suffix)+len(l.names.prefix)+len(l.names.other) > 0)
}

// Patterns are what Parse was given.
func (l *List) Patterns() []string {
	if l == nil {
		return nil
	}
	return slices.Clone(l.given)
}

// Paths are the exact paths, existing or not, each also with its links resolved
// as they were at Parse.
func (l *List) Paths() []string {
	if l == nil {
		return nil
	}
	return slices.Clone(l.paths)
}

// Covers says whether the absolute path p is hidden or lies below what is.
func (l *List) Covers(p string) bool {
	if l.Empty() {
		return false
	}
	f := Fold(p)
	for i, h := range l.folds {
		if within(f, h) && !l.aboveRoot(i, f) {
			return true
		}
	}
	if !l.Wild() {
		return false
	}
	for _, t := range l.folded {
		rel, ok := below(t, f)
		if !ok {
			continue
		}
		for at := t; rel != ""; {
			var name string
			name, rel, _ = strings.Cut(rel, "/")
			if l.wildEntry(at, name) {
				return true
			}
			at = path.Join(at, name)
		}
	}
	return l.absGlob(f)
}

// Spares says that Covers is false for everything below the absolute directory dir,
// whatever comes to be there.
func (l *List) Spares(dir string) bool {
	if l.Empty() {
		return true
	}
	if l.Wild() {
		return false
	}
	f := Fold(dir)
	for i, h := range l.folds {
		if within(h, f) && h != f || within(f, h) && !l.aboveRoot(i, f) {
			return false
		}
	}
	return true
}

// CoversEntry is Covers for a name in a directory that is not hidden itself.
func (l *List) CoversEntry(dir, name string) bool {
	if l.Empty() {
		return false
	}
	dir, name = Fold(dir), Fold(name)
	if len(l.folds) > 0 {
		p := path.Join(dir, name)
		for i, h := range l.folds {
			if p == h && !l.aboveRoot(i, p) {
				return true
			}
		}
	}
	if !l.Wild() {
		return false
	}
	return slices.ContainsFunc(l.folded, func(t string) bool { return within(dir, t) }) && l.wildEntry(dir, name) ||
		l.hasAbs() && l.absGlob(path.Join(dir, name))
}

// aboveRoot says that the path of index i holds the workspace, whose contents it
// does not hide.
func (l *List) aboveRoot(i int, f string) bool {
	root := Fold(l.root)
	return within(root, l.folds[i]) && within(f, root)
}

// wildEntry looks at one name of a directory that lies in a tree; all folded.
func (l *List) wildEntry(dir, name string) bool {
	exempt := func() bool {
		return l.names.exempt(name) || slices.ContainsFunc(l.globs, func(g glob) bool { return g.except && l.globMatches(g, dir, name) })
	}
	if l.names.hide(name) {
		return !exempt()
	}
	for _, g := range l.globs {
		if !g.except && !g.abs && l.globMatches(g, dir, name) {
			return !exempt()
		}
	}
	return false
}

func (l *List) globMatches(g glob, dir, name string) bool {
	p := path.Join(dir, name)
	if g.abs {
		return doublestar.MatchUnvalidated(g.pattern, strings.TrimPrefix(p, "/"))
	}
	for i, t := range l.folded {
		if g.rooted && i > 0 {
			break
		}
		if rel, ok := below(t, p); ok && rel != "" && doublestar.MatchUnvalidated(g.pattern, rel) {
			return true
		}
	}
	return false
}

func (l *List) hasAbs() bool {
	return slices.ContainsFunc(l.globs, func(g glob) bool { return g.abs && !g.except })
}

// absGlob compares a folded absolute path and its parents with the absolute
// patterns.
func (l *List) absGlob(f string) bool {
	if !l.hasAbs() {
		return false
	}
	for p := f; p != "/" && p != "."; p = path.Dir(p) {
		dir, name := path.Dir(p), path.Base(p)
		for _, g := range l.globs {
			if g.abs && !g.except && l.globMatches(g, dir, name) && !l.names.exempt(name) &&
				!slices.ContainsFunc(l.globs, func(g glob) bool { return g.except && l.globMatches(g, dir, name) }) {
				return true
			}
		}
	}
	return false
}

// NamesParents says whether what hides the absolute path p depends on the names
// of the directories it lies in, so that moving one of them would show it.
func (l *List) NamesParents(p string) bool {
	return !l.names.hide(Fold(path.Base(p)))
}

// within reports whether p is dir or lies below it.
func within(p, dir string) bool {
	_, ok := below(dir, p)
	return ok
}

// below is the part of p below dir; ok is false when p is elsewhere.
func below(dir, p string) (rel string, ok bool) {
	if p == dir {
		return "", true
	}
	if dir == "/" {
		return strings.CutPrefix(p, "/")
	}
	rel, ok = strings.CutPrefix(p, dir)
	if !ok || rel[0] != '/' {
		return "", false
	}
	return rel[1:], true
}

// Fold maps names that some file system takes for the same name to one string:
// letter case, and the code points HFS+ ignores in names (CVE-2014-9390).
func Fold(s string) string {
	ascii := true
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			ascii = false
			break
		}
	}
	if ascii {
		return strings.ToLower(s)
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e,
			r >= 0x206a && r <= 0x206f, r == 0xfeff:
			return -1
		case r == 0x17f: // long s: upper case is S, lower case is itself
			return 's'
		case r == 0x212a: // Kelvin sign
			return 'k'
		}
		return r
	}, s)
	return strings.ToLower(s)
}
