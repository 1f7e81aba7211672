package manifest

import (
	"context"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

type repoForms struct{ host, repo *regexp.Regexp }

var repoForm = sync.OnceValue(func() repoForms {
	return repoForms{
		host: regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$`),
		repo: regexp.MustCompile(`^[A-Za-z0-9_~][A-Za-z0-9._~-]*(/[A-Za-z0-9_~.][A-Za-z0-9._~-]*)+$`),
	}
})

// checkRepo refuses whatever git could take for an option, another protocol or
// another place (CVE-2017-1000117: a host that begins with a dash). The reasons in brackets are the reference's.
func checkRepo(e item) error {
	fail := func(format string, args ...any) error {
		return errorf("invalid_argument", nil, "the entry %q: "+format, append([]any{e.path}, args...)...)
	}
	forms := repoForm()
	if e.Host != "" && !forms.host.MatchString(e.Host) {
		return fail("the host %q is not a host name; write one such as github.com", e.Host)
	}
	if !forms.repo.MatchString(e.Repo) || slices.Contains(strings.Split(e.Repo, "/"), "..") {
		return fail("the repo %q is malformed; write owner/name", e.Repo)
	}
	if r := e.Ref; r != "" {
		if strings.HasPrefix(r, "-") {
			return fail("the ref %q starts with a dash, which git would take for an option; name a branch, tag or commit", r)
		}
		if strings.ContainsAny(r, " ~^:?*[\\\x7f") || strings.Contains(r, "..") || strings.Contains(r, "@{") ||
			strings.ContainsFunc(r, func(c rune) bool { return c < ' ' }) {
			return fail("the ref %q is not the name of a branch, tag or commit (git-check-ref-format(1)); correct it", r)
		}
	}
	if p := e.Subpath; p != "" {
		switch {
		case strings.HasPrefix(p, "/"):
			return fail("the subpath %q is absolute; write it relative to the repository", p)
		case strings.Contains(p, `\`) || drivePath().MatchString(p):
			return fail("the subpath %q is a Windows path (windows_path); write it with slashes", p)
		case slices.Contains(strings.Split(p, "/"), ".."):
			return fail("the subpath %q leaves the repository (parent_traversal); write where it really lies", p)
		case strings.TrimSpace(p) == "" || path.Clean(p) == "." || strings.ContainsRune(p, 0):
			return fail("the subpath %q names nothing (empty); leave it out", p)
		}
	}
	return nil
}

// checkout fetches the entry's repository and opens the directory to copy from.
// What git wrote is hostile until copied.
func (a *applier) checkout(ctx context.Context, e item) (_ *os.File, done func(), err error) {
	dir, remove, err := a.Clone(ctx, e.path, e.Entry)
	if err != nil {
		return nil, nil, err
	}
	f, err := openLinkFree(dir, path.Clean("./"+e.Subpath))
	if err == nil {
		var fi os.FileInfo
		if fi, err = f.Stat(); err == nil && !fi.IsDir() {
			err = os.ErrNotExist
		}
		if err != nil {
			f.Close()
		}
	}
	if err != nil {
		remove()
		return nil, nil, errorf("not_found", err, "the entry %q: the repository has no directory %q; check subpath", e.path, e.Subpath)
	}
	return f, func() { f.Close(); remove() }, nil
}
