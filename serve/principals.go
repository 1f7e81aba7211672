package serve

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/tools"
)

// Principals are those who are admitted: the bearer tokens of a file, each with
// the name of who holds it. The file is read again when it changes, so that a
// token can be taken back without a restart; while it cannot be read or is
// wrong, nobody is admitted.
type Principals struct {
	path string
	log  *slog.Logger
	// allow judges a list before it is in force; nil takes all.
	allow func(TokenFile) error

	mu      sync.Mutex
	checked time.Time
	seen    fileMark
	list    []principal
	said    map[string][]string // the settings of list
	// good is the last list that could be used: while the file is wrong nobody new
	// is admitted, and what runs goes on.
	good []principal
	gone []string // principals that left, not yet taken
}

// TokenFile is what a token file says, without its tokens.
type TokenFile struct {
	Names []string // of those who hold a token
	// Settings are the words NAME=VALUE of a principal, which package serve does not
	// read.
	Settings map[string][]string
}

// principal holds only the token's hash: a core dump or a heap profile gives no
// token away, and all compare in the same time whatever their length.
type principal struct {
	name string
	sum  [sha256.Size]byte
	// valid ends, with errRevoked, when the token leaves the file.
	valid  context.Context
	revoke context.CancelCauseFunc
	// Of an access token: its end, what its scopes allow (nil: everything), and
	// those of them that mean something here.
	expires time.Time
	grant   tools.Grants
	scopes  []string
}

// errRevoked is the cause of calls that end with their token.
var errRevoked = errors.New("the token was revoked")

// fileMark says whether a file is still the one that was read.
type fileMark struct {
	size  int64
	mtime time.Time
	mode  os.FileMode // a file that was opened to others since is refused
	ino   uint64
	uid   uint32
}

const (
	// minToken is the least length: 16 characters of hex are 64 bits.
	minToken      = 16
	maxTokenFile  = 1 << 20
	recheckTokens = time.Second
)

var principalName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`) })

// LoadPrincipals reads a token file: one "name:token" a line, blank lines and
// lines with # left out. Words NAME=VALUE after it are settings of the principal, as
// those of a line "@name NAME=VALUE" are for one who has no token here. It must belong to the server's user or root, be a
// regular file, and have mode 0600 or less. Codes: invalid_argument, not_found,
// permission_denied.
func LoadPrincipals(path string, log *slog.Logger) (*Principals, error) {
	p := &Principals{path: path, log: log}
	list, said, mark, err := readTokens(path)
	if err != nil {
		return nil, err
	}
	p.adopt(list)
	p.said = said
	p.seen, p.checked = mark, time.Now()
	return p, nil
}

// Lookup gives the name of a token's holder, in constant time, and what ends when the
// token leaves the file.
func (p *Principals) Lookup(token string) (name string, valid context.Context, ok bool) {
	sum := sha256.Sum256([]byte(token))
	for _, one := range p.current() {
		if subtle.ConstantTimeCompare(sum[:], one.sum[:]) == 1 {
			name, valid, ok = one.name, one.valid, true // no early return: timing must not show its position
		}
	}
	return name, valid, ok
}

// adopt puts a list in force. Tokens that are in it already keep their contexts,
// those that are not in it any more are revoked. Callers hold p.mu.
func (p *Principals) adopt(list []principal) {
	old := p.good
	for i := range list {
		if at := slices.IndexFunc(old, func(o principal) bool { return o.name == list[i].name && o.sum == list[i].sum }); at >= 0 {
			list[i] = old[at]
			continue
		}
		list[i].valid, list[i].revoke = context.WithCancelCause(context.Background())
	}
	names := namesOf(list)
	for _, o := range old {
		if !slices.ContainsFunc(list, func(n principal) bool { return n.name == o.name && n.sum == o.sum }) {
			o.revoke(errRevoked)
		}
		if !slices.Contains(names, o.name) && !slices.Contains(p.gone, o.name) {
			p.gone = append(p.gone, o.name)
		}
	}
	p.list, p.good = list, list
}

// takeGone looks at the file and gives the principals that have left since it was
// last asked.
func (p *Principals) takeGone() []string {
	if p == nil {
		return nil
	}
	p.current()
	p.mu.Lock()
	defer p.mu.Unlock()
	names := namesOf(p.good)
	gone := slices.DeleteFunc(p.gone, func(name string) bool { return slices.Contains(names, name) })
	p.gone = nil
	return gone
}

// Restrict has allow judge the file, now and whenever it is read later: one that it
// refuses admits nobody. It must be called before Lookup.
func (p *Principals) Restrict(allow func(TokenFile) error) error {
	if p == nil {
		return allow(TokenFile{})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allow = allow
	return allow(TokenFile{namesOf(p.list), p.said})
}

func namesOf(list []principal) []string {
	var out []string
	for _, one := range list {
		if !slices.Contains(out, one.name) {
			out = append(out, one.name)
		}
	}
	return out
}

// Reload reads the file now, changed or not, and logs the outcome.
func (p *Principals) Reload() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checked = time.Now()
	p.read()
}

func (p *Principals) current() []principal {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.checked) < recheckTokens {
		return p.list
	}
	p.checked = time.Now()
	fi, err := os.Stat(p.path)
	if err == nil && markOf(fi) == p.seen {
		return p.list
	}
	return p.read()
}

// read replaces the list; p.mu is held.
func (p *Principals) read() []principal {
	list, said, mark, err := readTokens(p.path)
	if err == nil && p.allow != nil {
		err = p.allow(TokenFile{namesOf(list), said})
	}
	if err != nil {
		p.log.Error("nobody is admitted: the token file cannot be used", "error", err)
		p.list, p.seen = nil, fileMark{}
		return nil
	}
	p.log.Info("tokens reloaded", "principals", len(list))
	p.adopt(list)
	p.seen, p.said = mark, said
	return p.list
}

func markOf(fi os.FileInfo) fileMark {
	m := fileMark{size: fi.Size(), mtime: fi.ModTime(), mode: fi.Mode()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		m.ino, m.uid = st.Ino, st.Uid
	}
	return m
}

func readTokens(path string) ([]principal, map[string][]string, fileMark, error) {
	fail := func(code, format string, args ...any) ([]principal, map[string][]string, fileMark, error) {
		return nil, nil, fileMark{}, sandbox.Errorf(code, nil, "the token file "+format, args...)
	}
	// Not blocking: a FIFO in its place must not hang the start.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case os.IsNotExist(err):
		return fail("not_found", "does not exist; make it with a line NAME:TOKEN and mode 0600")
	case err != nil:
		return fail("permission_denied", "cannot be opened; check its permissions")
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return fail("invalid_argument", "is not a regular file; name one")
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return fail("permission_denied", "is open to others (mode %04o); close it with: chmod 600", fi.Mode().Perm())
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fail("permission_denied", "belongs to another user, who could let anybody in; make it yours")
	}
	text, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err != nil || len(text) > maxTokenFile {
		return fail("invalid_argument", "cannot be read or is longer than 1 MiB; name another")
	}
	list, said, err := parseTokens(text)
	return list, said, markOf(fi), err
}

func parseTokens(text []byte) ([]principal, map[string][]string, error) {
	var list []principal
	said := map[string][]string{}
	sums := map[[sha256.Size]byte]bool{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		bad := func(format string, args ...any) ([]principal, map[string][]string, error) {
			return nil, nil, sandbox.Errorf("invalid_argument", nil, "line %d of the token file %s", n, fmt.Sprintf(format, args...))
		}
		words := strings.Fields(line)
		name, token, ok := strings.Cut(words[0], ":")
		if mentioned, only := strings.CutPrefix(words[0], "@"); only {
			name = mentioned
		}
		for _, word := range words[1:] {
			if key, value, ok := strings.Cut(word, "="); !ok || key == "" || value == "" {
				return bad("has a token with a space, or a setting that is not NAME=VALUE; use letters and digits for tokens")
			}
		}
		if len(words) > 1 {
			if said[name] != nil {
				return bad("has settings of a principal of whom an earlier one has some; write them once")
			}
			said[name] = words[1:]
		}
		if words[0][0] == '@' {
			if name == "" || len(words) == 1 {
				return bad("is incomplete; write @NAME SETTING=VALUE")
			}
			continue
		}
		if !ok || !principalName().MatchString(name) {
			return bad("is not NAME:TOKEN; write a name of up to 64 letters, digits, '.', '_' and '-'")
		}
		if len(token) < minToken {
			return bad("has a token of %d characters; use at least %d random ones, such as from: openssl rand -hex 32", len(token), minToken)
		}
		// RFC 6750, section 2.1: what a header can carry as a b64token.
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return bad("has a token with a character outside ASCII; use letters and digits")
		}
		sum := sha256.Sum256([]byte(token))
		if sums[sum] {
			return bad("has the token of an earlier line; give each principal its own")
		}
		// A name may come twice, with an old and a new token, while one replaces
		// the other.
		sums[sum] = true
		list = append(list, principal{name: name, sum: sum})
	}
	if lines.Err() != nil {
		return nil, nil, sandbox.Errorf("invalid_argument", nil, "the token file has a line longer than 64 KiB; shorten it")
	}
	if len(list) == 0 {
		return nil, nil, sandbox.Errorf("invalid_argument", nil, "the token file names nobody; add a line NAME:TOKEN")
	}
	return list, said, nil
}
