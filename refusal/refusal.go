// Package refusal reads what programs print when the system refuses them
// something: which error it was and of what path or host they speak.
//
// Start at Read. It only says what the output claims: whether the sandbox is the
// cause is for the caller to find out, since a program prints what it likes and
// the host refuses things as well.
package refusal

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Cause is the kind of error a claim is about.
type Cause string

// The causes that are told apart.
const (
	ReadOnly   Cause = "read-only"  // EROFS
	Permission Cause = "permission" // EACCES, EPERM
	Space      Cause = "space"      // ENOSPC, EDQUOT
	FileSize   Cause = "file size"  // EFBIG, SIGXFSZ
	OpenFiles  Cause = "open files" // EMFILE
	Processes  Cause = "processes"  // EAGAIN of fork and clone
	Name       Cause = "name"       // a host name that was not resolved
	Network    Cause = "network"    // ENETUNREACH, EAFNOSUPPORT
	Rights     Cause = "rights"     // sudo without the rights of root
)

// Claim is one error the output speaks of. Subjects are the paths, or the one
// host, that its line names; there may be none.
type Claim struct {
	Cause    Cause
	Subjects []string
}

const (
	// looked is how much of the end of an output is read, in bytes: programs end
	// with their errors.
	looked = 16 << 10
	// mostClaims bounds what is made of one output.
	mostClaims = 32
	// mostSubjects and longestSubject bound what is made of one line, whose text is
	// a program's to choose.
	mostSubjects   = 8
	longestSubject = 4096
)

// word is a cause and how it is put.
type word struct {
	cause Cause
	re    *regexp.Regexp
}

// words are how the system, its languages and its shells put the errors.
var words = sync.OnceValue(func() []word {
	return []word{
		{ReadOnly, regexp.MustCompile(`(?i)read-only file ?system|\bEROFS\b`)},
		{Permission, regexp.MustCompile(`(?i)permission denied|operation not permitted|access denied|AccessDeniedException|\bEACCES\b|\bEPERM\b`)},
		{Space, regexp.MustCompile(`(?i)no space left on device|disk quota exceeded|\bENOSPC\b|\bEDQUOT\b`)},
		{FileSize, regexp.MustCompile(`(?i): file too large|\[Errno 27\]|file size limit exceeded|\bEFBIG\b`)},
		{OpenFiles, regexp.MustCompile(`(?i)too many open files|\bEMFILE\b`)},
		{Rights, regexp.MustCompile(`sudo: The "no new privileges" flag is set|sudo: effective uid is not 0|sudo: .* must be owned by uid 0`)},
		{Processes, regexp.MustCompile(`(?i)fork:.*resource temporarily unavailable|(can't|cannot|unable to|failed to) (fork|start new thread|create (new |native )?(OS )?thread)|pthread_create failed`)},
	}
})

// names are how programs put that a host name was not resolved; the first group
// that matched is the name.
var names = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)could not resolve (?:host(?:name)?|proxy):? '?([\w.-]+)` +
		`|unable to resolve host address .([\w.-]+)` +
		`|getaddrinfo (?:EAI_AGAIN|ENOTFOUND) ([\w.-]+)` +
		`|UnknownHostException: ([\w.-]+)` +
		`|\blookup ([\w.-]+)(?: on \S+)?: ` +
		`|temporary failure resolving .([\w.-]+)` +
		`|bad address '([\w.-]+)'` +
		`|\b([\w-]+(?:\.[\w-]+)+): (?:temporary failure in name resolution|name or service not known)` +
		`|failed to resolve '([\w.-]+)'` +
		`|temporary failure in name resolution|name or service not known|failed to lookup address information|name does not resolve`)
})

var unreachable = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)network is unreachable|\bENETUNREACH\b|address family not supported by protocol|\bEAFNOSUPPORT\b`)
})

// Read gives the errors that the end of an output speaks of, in order, each once.
func Read(output []byte) []Claim {
	if len(output) > looked {
		output = output[len(output)-looked:]
		if i := bytes.IndexByte(output, '\n'); i >= 0 {
			output = output[i+1:]
		}
	}
	var out []Claim
	add := func(c Claim) {
		same := func(o Claim) bool { return o.Cause == c.Cause && slices.Equal(o.Subjects, c.Subjects) }
		if len(out) < mostClaims && !slices.ContainsFunc(out, same) {
			out = append(out, c)
		}
	}
	for raw := range bytes.Lines(output) {
		line := strings.TrimRight(string(raw), "\r\n")
		if m := names().FindStringSubmatch(line); m != nil {
			c := Claim{Cause: Name}
			for _, g := range m[1:] {
				if g = strings.TrimRight(g, ".:"); g != "" {
					c.Subjects = []string{g}
					break
				}
			}
			add(c)
			continue
		}
		if unreachable().MatchString(line) {
			add(Claim{Cause: Network})
			continue
		}
		for _, w := range words() {
			if at := w.re.FindStringIndex(line); at != nil {
				add(Claim{w.cause, paths(line[:at[0]], line[at[1]:])})
			}
		}
	}
	return out
}

var quoted = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`'([^']+)'|"([^"]+)"|‘([^’]+)’|` + "`([^'`]+)'")
})

// paths are what may be one in the text before and after the words of an error.
func paths(before, after string) []string {
	var out []string
	add := func(s string) {
		s = strings.TrimSpace(s)
		if s != "" && len(s) <= longestSubject && len(out) < mostSubjects && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	for _, part := range []string{before, after} {
		for _, m := range quoted().FindAllStringSubmatch(part, -1) {
			for _, g := range m[1:] {
				if g != "" {
					add(g)
				}
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	// "open /etc/x: permission denied", "bash: line 1: /etc/x: Permission denied",
	// "sh: 1: cannot create /etc/x: Permission denied", "/etc/x (Permission denied)".
	head := strings.TrimRight(before, " :([")
	if i := strings.LastIndex(head, ": "); i >= 0 {
		head = head[i+2:]
	}
	add(head)
	if i := strings.LastIndexByte(head, ' '); i >= 0 {
		add(head[i+1:])
	}
	for f := range strings.FieldsSeq(after) {
		if f = strings.Trim(f, "():,;"); strings.Contains(f, "/") {
			add(f)
		}
	}
	return out
}
