package gitstage

import (
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"mcp-sandbox/gitconfig"
)

// A setting is published when nothing that it can hold makes git run a program,
// read a file of the session's choice as configuration, or write elsewhere.

// setting is one row of the table: section and key, a subsection where sub is
// set, and what its value may be.
type setting struct {
	section, key string
	sub          bool
	ok           func(v string, c *configCheck) bool
	// fresh settings belong to a repository that has no configuration outside yet.
	fresh bool
	why   string
}

var settings = []setting{
	{"remote", "url", true, goodURL, false, "a place to fetch from: http, https, ssh, git, or a local path that the session cannot write; never a helper (ext::), and never a repository whose hooks the session could have made"},
	{"remote", "pushurl", true, goodURL, false, "as remote.*.url"},
	{"remote", "fetch", true, goodRefspec, false, "names of refs: those that a fetch writes are remote-tracking ones, or new tags"},
	{"remote", "tagopt", true, oneOf("--tags", "--no-tags"), false, "two words"},
	{"branch", "remote", true, knownRemote, false, "the name of a remote that exists outside, as a path would be one to push to, with its hooks"},
	{"branch", "pushremote", true, knownRemote, false, "as branch.*.remote"},
	{"branch", "merge", true, goodRef, false, "the name of a ref"},
	{"branch", "rebase", true, oneOf("true", "false", "merges", "interactive"), false, "four words"},
	{"submodule", "url", true, goodURL, false, "as remote.*.url"},
	{"submodule", "active", true, boolean, false, "yes or no"},
	{"submodule", "active", false, func(v string, _ *configCheck) bool { return plain(v) }, false, "which submodules there are: patterns of paths"},
	{"core", "worktree", false, func(v string, c *configCheck) bool { return c.tree != nil && c.tree(v) }, true, "of a module, where its files are: the directory of the workspace whose .git file leads to it"},
	{"core", "sparsecheckout", false, boolean, false, "yes or no: which files are in the working tree"},
	{"core", "sparsecheckoutcone", false, boolean, false, "as core.sparseCheckout"},
	{"index", "sparse", false, boolean, false, "the form of the index"},
	{"core", "repositoryformatversion", false, oneOf("0", "1"), true, "how git reads the repository; 1 only says that extensions count"},
	{"extensions", "objectformat", false, oneOf("sha1", "sha256"), true, "the hash of the repository"},
	{"core", "filemode", false, boolean, true, "what the file system can do"},
	{"core", "symlinks", false, boolean, true, "as core.fileMode"},
	{"core", "ignorecase", false, boolean, true, "as core.fileMode"},
	{"core", "precomposeunicode", false, boolean, true, "as core.fileMode"},
	{"core", "bare", false, func(v string, c *configCheck) bool { return v == "false" || v == "true" && c.bare }, true, "that the repository has a working tree: the one it lies in"},
	{"core", "logallrefupdates", false, boolean, true, "whether refs have logs"},
}

// configCheck is what values are judged by.
type configCheck struct {
	remotes map[string]bool // that exist outside, or will
	// writable says whether the session can write a local path.
	writable func(path string) bool
	// tree says whether a module may have its files there; nil for what is none.
	tree func(path string) bool
	// bare says that the repository may have no working tree, harmless that
	// settings of the session's own are taken.
	bare, harmless bool
}

func oneOf(words ...string) func(string, *configCheck) bool {
	return func(v string, _ *configCheck) bool { return slices.Contains(words, v) }
}

func boolean(v string, _ *configCheck) bool {
	return slices.Contains([]string{"true", "false", "yes", "no", "on", "off", "1", "0"}, strings.ToLower(v))
}

func plain(s string) bool {
	return s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// goodURL takes the transports that git itself has.
func goodURL(v string, c *configCheck) bool {
	if !plain(v) || strings.Contains(v, "::") {
		return false
	}
	scheme, rest, ok := strings.Cut(v, "://")
	if ok {
		host := rest
		if i := strings.IndexAny(rest, "/"); i >= 0 {
			host = rest[:i]
		}
		host, err := url.PathUnescape(host) // as git does
		if err != nil {
			return false
		}
		if i := strings.LastIndexByte(host, '@'); i >= 0 {
			host = host[i+1:]
		}
		switch strings.ToLower(scheme) {
		case "http", "https", "ssh", "git":
			return host != "" && host[0] != '-'
		case "file":
			p, err := url.PathUnescape(rest)
			return err == nil && goodLocal(p, c)
		}
		return false
	}
	// host:path is ssh, unless a slash comes first.
	if host, _, ok := strings.Cut(v, ":"); ok && !strings.Contains(host, "/") {
		if i := strings.LastIndexByte(host, '@'); i >= 0 {
			host = host[i+1:]
		}
		return host != "" && host[0] != '-'
	}
	return goodLocal(v, c)
}

// goodLocal takes a path that the session cannot write. After a link ".." is not what
// it reads as.
func goodLocal(p string, c *configCheck) bool {
	return plain(p) && p[0] == '/' && !slices.Contains(strings.Split(p, "/"), "..") && !c.writable(path.Clean(p))
}

// goodRefspec takes those by which a fetch changes no branch of the user's.
func goodRefspec(v string, c *configCheck) bool {
	src, dst, ok := strings.Cut(strings.TrimPrefix(v, "+"), ":")
	if tracking := strings.HasPrefix(dst, "refs/remotes/"); !tracking && !c.bare && (v[:min(1, len(v))] == "+" || !strings.HasPrefix(dst, "refs/tags/")) {
		return false
	}
	ref := func(s string) bool { return goodRef(strings.ReplaceAll(s, "*", "x"), nil) }
	return plain(v) && ok && ref(src) && ref(dst)
}

func goodRef(v string, _ *configCheck) bool { return plain(v) && validRef(v) }

func knownRemote(v string, c *configCheck) bool { return v == "." || c.remotes[v] }

// allowed says whether a variable with these values is published.
func allowed(e *gitconfig.Entry, values []string, fresh bool, c *configCheck) bool {
	if c.harmless && (slices.Contains(harmless, e.Section+"."+e.Key) || e.Section == "advice") {
		return true
	}
	for i := range settings {
		s := &settings[i]
		if s.section != e.Section || s.key != e.Key || s.sub != (e.Subsection != "") || s.fresh && !fresh {
			continue
		}
		// Of a remote whose place stays in the session nothing is published.
		if s.sub && !plain(e.Subsection) || s.section == "remote" && s.key != "url" && !c.remotes[e.Subsection] {
			return false
		}
		for _, v := range values {
			if !s.ok(v, c) {
				return false
			}
		}
		return true
	}
	return false
}

// variable is all that one name has.
type variable struct {
	entry  gitconfig.Entry
	values []string
}

func variables(f *gitconfig.File) map[string]variable {
	m := map[string]variable{}
	for _, e := range f.Entries() {
		v := e.Value
		if e.Bare {
			v = "true"
		}
		name := e.Name()
		m[name] = variable{e, append(m[name].values, v)}
	}
	return m
}

// mergeConfig applies to real what the session changed from base, as far as it is
// allowed. kept are the names that stay in the session, conflicts those that were
// changed outside too. What both sides agree on then is the new base of a name; of any
// other the base stays, so that what was changed outside alone never counts as a
// change of the session.
func mergeConfig(real *gitconfig.File, base, session map[string]variable, fresh bool, c *configCheck) (changed bool, kept, conflicts []string, err error) {
	c.remotes = map[string]bool{}
	now := variables(real)
	for _, m := range []map[string]variable{now, session} {
		for _, v := range m {
			if v.entry.Section == "remote" && v.entry.Key == "url" && allowed(&v.entry, v.values, fresh, c) {
				c.remotes[v.entry.Subsection] = true
			}
		}
	}
	names := map[string]variable{}
	maps.Copy(names, base)
	maps.Copy(names, session)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		e, want := names[name].entry, session[name].values
		if slices.Equal(want, base[name].values) {
			continue
		}
		if slices.Equal(want, now[name].values) {
			agree(base, name, now)
			continue
		}
		switch {
		case !allowed(&e, want, fresh, c):
			kept = append(kept, name)
		case !slices.Equal(now[name].values, base[name].values):
			conflicts = append(conflicts, name)
		default:
			if err := real.Set(e.Section, e.Subsection, e.Key, want); err != nil {
				return changed, kept, conflicts, err
			}
			changed = true
			agree(base, name, session)
		}
	}
	return changed, kept, conflicts, nil
}

// newBase is what a session starts from again when it sees what is outside: that, and of
// what both sides have changed still what they had agreed on.
func newBase(old, session, real map[string]variable) map[string]variable {
	base := maps.Clone(real)
	for _, m := range []map[string]variable{old, session} {
		for name := range m {
			was, mine, now := old[name].values, session[name].values, real[name].values
			if !slices.Equal(mine, was) && !slices.Equal(now, was) && !slices.Equal(mine, now) {
				agree(base, name, old)
			}
		}
	}
	return base
}

// agree makes the values that one side has those of base.
func agree(base map[string]variable, name string, with map[string]variable) {
	if v, ok := with[name]; ok {
		base[name] = v
	} else {
		delete(base, name)
	}
}
