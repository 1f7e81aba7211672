package audit

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// redacted stands where a secret was.
const redacted = "[redacted]"

// textLimit bounds one value in a record, in bytes.
const textLimit = 2000

// Redactor takes secrets out of text before it is written to a log: values it
// was told, and what looks like a credential. The second is a net with holes:
// a secret with no mark of one passes it. The zero value knows the looks only.
type Redactor struct {
	secrets []string
}

// NewRedactor makes one for the given values. Values under four bytes are not
// looked for: they would blacken ordinary text and are not secret.
func NewRedactor(secrets []string) *Redactor {
	r := &Redactor{}
	for _, s := range secrets {
		if s = strings.TrimSpace(s); len(s) >= 4 {
			r.secrets = append(r.secrets, s)
		}
	}
	// The longest first, so that one that holds another goes as a whole.
	slices.SortFunc(r.secrets, func(a, b string) int { return len(b) - len(a) })
	return r
}

// looks are how credentials are written in command lines and files. Compiled at
// first use: the sandbox's init is this binary too and never needs them.
var looks = sync.OnceValue(func() []look {
	return []look{
		{regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`), redacted},
		// user:password@ in an URL
		{regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#@'"]+@`), "${1}" + redacted + "@"},
		// Authorization: Basic ..., and the word Bearer anywhere
		{regexp.MustCompile(`(?i)\b((?:proxy-)?authorization\s*[:=]\s*)(?:(?:bearer|basic|token|digest)\s+)?[^\s'"]+`), "${1}" + redacted},
		{regexp.MustCompile(`(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{8,}`), "${1}" + redacted},
		// NAME_TOKEN=value, "password": "value"
		{regexp.MustCompile(`(?i)((?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)[\w-]*["']?\s*[=:]\s*)(?:"[^"]*"|'[^']*'|[^\s;&|"']+)`), "${1}" + redacted},
		// --token value, and curl's -u user:password
		{regexp.MustCompile(`(?i)(--[\w-]*(?:passw(?:or)?d|passphrase|secret|token|api-?key|access-?key)[\w-]*\s+)(?:"[^"]*"|'[^']*'|[^\s;&|"'-][^\s;&|"']*)`), "${1}" + redacted},
		{regexp.MustCompile(`((?:^|\s)(?:-u|--user|--proxy-user)[\s=]+['"]?[^\s:'"]+:)[^\s'"]+`), "${1}" + redacted},
		// Tokens that carry their issuer's prefix, and JSON web tokens
		{regexp.MustCompile(`\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|sk-[A-Za-z0-9_-]{16,}|(?:AKIA|ASIA)[0-9A-Z]{16}|xox[abeoprs]-[\w-]{10,}|AIza[\w-]{30,}|npm_\w{20,}|eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+)`), redacted},
	}
})

type look struct {
	re   *regexp.Regexp
	with string
}

// Text is s without secrets. It is safe for any input.
func (r *Redactor) Text(s string) string {
	if r != nil {
		for _, secret := range r.secrets {
			s = strings.ReplaceAll(s, secret, redacted)
		}
	}
	for _, l := range looks() {
		s = l.re.ReplaceAllString(s, l.with)
	}
	return s
}

// Command is a shell line without secrets and without the bodies of its here
// documents, which are file contents in the disguise of a command.
func (r *Redactor) Command(s string) string { return Clip(r.Text(withoutHereDocs(s))) }

// Value is a short argument without secrets, cut when it is long.
func (r *Redactor) Value(s string) string { return Clip(r.Text(s)) }

// Clip cuts a long text and makes the text valid UTF-8. Cutting comes after redaction: a secret
// cut in two would no longer be found.
func Clip(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= textLimit {
		return s
	}
	cut := textLimit
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s[%d bytes more]", s[:cut], len(s)-cut)
}

var hereDocStart = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`<<-?\s*\\?(['"]?)([A-Za-z0-9_.-]+)['"]?`)
})

// withoutHereDocs finds here documents by their form alone. What it takes for
// one by mistake is left out of a log line, which is the safe side.
func withoutHereDocs(s string) string {
	if !strings.Contains(s, "<<") {
		return s
	}
	lines := strings.SplitAfter(s, "\n")
	var out strings.Builder
	for i := 0; i < len(lines); i++ {
		out.WriteString(lines[i])
		for _, m := range hereDocStart().FindAllStringSubmatch(lines[i], -1) {
			n, end := 0, i+1
			for end < len(lines) && strings.TrimSpace(lines[end]) != m[2] {
				n += len(lines[end])
				end++
			}
			if n > 0 {
				fmt.Fprintf(&out, "[%d bytes]\n", n)
			}
			if end < len(lines) {
				out.WriteString(lines[end])
			}
			i = min(end, len(lines)-1)
		}
	}
	return out.String()
}
