package workspace

import (
	"context"
	"strings"

	"golang.org/x/sys/unix"
)

// missingName is the error about a path that does not exist. It names a file of
// the same directory whose name only looks the same or differs in case.
func (f *FS) missingName(path string) error {
	name, differs := f.alikeName(path)
	if name == "" {
		return fromErrno(unix.ENOENT, path)
	}
	return fail(codeNotFound, "%s does not exist; %s does, whose name differs: %s", quote(path), quote(name), differs)
}

func (f *FS) alikeName(path string) (name, differs string) {
	p, err := f.walk(path, walkOptions{})
	if err != nil {
		return "", ""
	}
	defer p.close()
	fd, err := openSubdir(p.fd, ".")
	if err != nil {
		return "", ""
	}
	defer unix.Close(fd)
	entries, _, err := readEntries(context.Background(), fd)
	if err != nil {
		return "", ""
	}
	want := foldLine(p.name)
	for _, e := range entries {
		if e.name == p.name || f.hiddenName(p, e.name) {
			continue
		}
		have := foldLine(e.name)
		if have == want {
			return e.name, firstDifference(e.name, 0, p.name)
		}
		if name == "" && strings.EqualFold(have, want) {
			name, differs = e.name, "upper and lower case"
		}
	}
	return name, differs
}
