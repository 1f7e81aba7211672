package gitstage

import (
	"regexp"
	"strings"
	"sync"
)

// Texts of which git takes some for words of a shell, or by which history ends: they are
// published when they are what git itself writes.

var (
	bisectNames = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^( ?'([^'\n]|'\\'')*')*\s*$`) })
	bisectLine  = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(#.*|git bisect [a-z-]+( ('([^']|'\\'')*'|[0-9A-Za-z_./~^-]+))*|)$`)
	})
	bisectTerms = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z-]+\n[a-z-]+\n?$`) })
)

// goodText says whether a text can be published in place of another. foreign says
// whether an object may be there that the session did not bring.
func goodText(p, now, want string, fresh bool, foreign func(oid string) bool) bool {
	switch p {
	case "BISECT_NAMES": // git bisect visualize of versions before 2.39 evaluates it
		return bisectNames().MatchString(want)
	case "BISECT_LOG":
		for line := range strings.SplitSeq(want, "\n") {
			if !bisectLine().MatchString(line) {
				return false
			}
		}
	case "BISECT_TERMS":
		return bisectTerms().MatchString(want)
	case "shallow":
		// What lies before a commit that it names is gone with the next gc, so it names
		// none that was there; one that a fetch brought it must name.
		if fresh {
			return true
		}
		had := map[string]bool{}
		for _, oid := range strings.Fields(now) {
			had[oid] = true
		}
		for _, oid := range strings.Fields(want) {
			if !had[oid] && (!isOID(oid) || foreign(oid)) {
				return false
			}
		}
	}
	return true
}
