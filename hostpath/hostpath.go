// Package hostpath resolves the paths an operator grants, following no link
// that a session may have planted.
package hostpath

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

// maxLinks is MAXSYMLINKS of Linux, path_resolution(7).
const maxLinks = 40

// PlantedError says that a path runs through a symbolic link at Link, which lies
// where commands can write: an earlier session may have put it there to have
// another place granted.
type PlantedError struct{ Link string }

func (e *PlantedError) Error() string {
	return fmt.Sprintf("it runs through the symbolic link %q, which lies where commands can write", e.Link)
}

// Resolve gives the path behind all links of p, which is absolute. A link that
// lies in or below one of the writable directories, absolute and free of links,
// is a *PlantedError. What does not exist is an error of os.Lstat.
func Resolve(p string, writable []string) (string, error) {
	done := "/"
	rest := strings.Split(strings.Trim(path.Clean(p), "/"), "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" {
			continue
		}
		if name == ".." {
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, name)
		fi, err := os.Lstat(next)
		if err != nil {
			return "", err
		}
		if fi.Mode()&os.ModeSymlink == 0 {
			done = next
			continue
		}
		if Within(done, writable...) {
			return "", &PlantedError{next}
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("it runs through more than %d symbolic links", maxLinks)
		}
		target, err := os.Readlink(next)
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			done = "/"
		}
		rest = slices.Concat(strings.Split(strings.Trim(target, "/"), "/"), rest)
	}
	return done, nil
}

// Within says whether p is one of dirs or lies below one.
func Within(p string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool {
		return p == d || d == "/" || strings.HasPrefix(p, d+"/")
	})
}
