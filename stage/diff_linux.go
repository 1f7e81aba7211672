package stage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff"
	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// maxText is the largest file that is shown as text, in bytes.
const maxText = 1 << 20

// Texts are the two sides of a change, of the project and of the session. ok is false
// for what is not text, or too large to show; a missing side is "".
func (s *Stage) Texts(c *Change) (old, now string, ok bool) {
	if c.Type != "file" || c.Kind == Meta {
		return "", "", false
	}
	var a, b string
	okA, okB := true, true
	if c.Kind != Added {
		a, okA = readText(int(s.root.Fd()), c.Path, c.Kind == Replaced)
	}
	if c.Kind != Removed {
		b, okB = readText(int(s.upper.Fd()), c.Path, false)
		okB = okB && sumOf(b) == c.content
	}
	return a, b, okA && okB
}

func sumOf(text string) string {
	h := sha256.Sum256([]byte(text))
	return shortSum(h[:])
}

// shortSum is what of a SHA-256 identifies something in a stage.
func shortSum(sum []byte) string { return hex.EncodeToString(sum[:16]) }

func readText(root int, p string, other bool) (string, bool) {
	dir, err := treecopy.Open(root, path.Dir(p))
	if err != nil {
		return "", false
	}
	defer unix.Close(dir)
	f, err := openFile(dir, path.Base(p))
	if err != nil {
		return "", other
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return "", other
	}
	b, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil || len(b) > maxText || bytes.IndexByte(b, 0) >= 0 || !utf8.Valid(b) {
		return "", false
	}
	return string(b), true
}

// Diff shows one change: a unified diff of texts, a line for everything else.
func (s *Stage) Diff(c *Change) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if c.Conflict != "" {
		line("# conflict: %s", c.Conflict)
	}
	if c.Mode != c.OldMode && c.Kind != Added && c.Kind != Removed {
		line("# mode %04o -> %04o", c.OldMode, c.Mode)
	} else if c.Kind == Added && c.Executable {
		line("# mode %04o", c.Mode)
	}
	for _, l := range c.Attributes {
		line("# %s", l)
	}
	if c.Access != "" {
		line("# access: %s", c.Access)
	}
	if c.Names > 0 {
		verb := "keep"
		if c.Names == 1 {
			verb = "keeps"
		}
		line("# %s of this file in the project %s the old content", counted(c.Names, "further name", "further names"), verb)
	}
	old, now, ok := s.Texts(c)
	switch {
	case c.Type == TypeGit:
		line("# git: %s", c.Git)
		for _, l := range c.lines {
			line("#   %s", show(l))
		}
	case c.Kind == Meta:
		line("# only the mode or attributes of %s differ", show(c.Path))
	case c.Type == "link":
		line("# %s link %s -> %s", c.Kind, show(c.Path), show(c.Target))
	case c.Type == "directory" && c.Kind == Removed:
		names, n := s.filesBelow(c.Path)
		holds := "no files"
		if n > 0 {
			holds = counted(n, "file", "files")
		}
		line("# %s directory %s, with %s in it", c.Kind, show(c.Path), holds)
		for _, name := range names {
			line("#   %s", show(name))
		}
		if more := n - len(names); more > 0 {
			line("#   and %d more", more)
		}
	case c.Type != "file":
		line("# %s %s %s", c.Kind, c.Type, show(c.Path))
	case !ok:
		line("# %s %s: not text, %d -> %d bytes", c.Kind, show(c.Path), c.OldSize, c.Size)
	default:
		a, z := "a/"+show(c.Path), "b/"+show(c.Path)
		if c.Kind == Added {
			a = "/dev/null"
		}
		if c.Kind == Removed {
			z = "/dev/null"
		}
		if d := udiff.Unified(a, z, old, now); d != "" {
			b.WriteString(d)
		} else {
			line("# %s empty file %s", c.Kind, show(c.Path))
		}
	}
	return b.String()
}

// show keeps a name to one line, has it show itself alone, and tells where it ends.
func show(p string) string {
	if strings.ContainsFunc(p, func(r rune) bool {
		return r != 0x200c && r != 0x200d && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) || r == utf8.RuneError
	}) || strings.HasPrefix(p, `"`) || strings.TrimSpace(p) != p {
		return fmt.Sprintf("%q", p)
	}
	return p
}

// maxNamesShown bounds the names of the files that go with a directory.
const maxNamesShown = 20

// filesBelow has the paths of what the project has in a directory, as many as are shown,
// and the number of all except directories.
func (s *Stage) filesBelow(dir string) (shown []string, n int) {
	fd, err := treecopy.Open(int(s.root.Fd()), dir)
	if err != nil {
		return nil, 0
	}
	defer unix.Close(fd)
	_ = walk(fd, dir, func(p string, st *unix.Stat_t) {
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return
		}
		if n++; len(shown) < maxNamesShown {
			shown = append(shown, p)
		}
	})
	return shown, n
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
