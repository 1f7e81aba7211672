package gitstage

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Left is a setting or a file of a git directory that a session changed and that is not
// published, since git outside could run something because of it. Who reviews it can
// apply it.
type Left struct {
	// Dir is the git directory: a path in the workspace, or the whole path of one that
	// lies outside. Bare says that it is one of a bare repository, of which running
	// sessions have the configuration by its inode.
	Dir  string `json:"dir"`
	Bare bool   `json:"bare,omitempty"`
	// Dev and Ino identify it: a session could move another one to its path.
	Dev  uint64   `json:"dev,omitempty"`
	Ino  uint64   `json:"ino,omitempty"`
	Kind LeftKind `json:"kind"`
	// Name is the dotted name of a setting, the path in Dir of anything else.
	Name string `json:"name"`

	// Of a setting: Values are the session's, none for one that it removed, Was those
	// that it found.
	Section    string   `json:"section,omitempty"`
	Subsection string   `json:"subsection,omitempty"`
	Key        string   `json:"key,omitempty"`
	Values     []string `json:"values,omitempty"`
	Was        []string `json:"was,omitempty"`

	// Of a file: Text is the session's, WasText what was there, nil for nothing.
	Text    []byte `json:"text"`
	WasText []byte `json:"was_text"`
	Mode    uint32 `json:"mode,omitempty"`
	WasMode uint32 `json:"was_mode,omitempty"`

	// Unfit says why it can only be looked at.
	Unfit string `json:"unfit,omitempty"`
	// Sum identifies the session's side, see ID.
	Sum string `json:"sum,omitempty"`
}

// LeftKind is what a Left is.
type LeftKind string

// The kinds of Left.
const (
	LeftSetting LeftKind = "git setting"
	LeftHook    LeftKind = "git hook"
	LeftFile    LeftKind = "git file"
	LeftState   LeftKind = "git state" // a rebase, a module, a worktree
)

// Bounds of what is kept for a review: the bytes of one file and of its name, and the
// things of all git directories, with their bytes.
const (
	maxLeft      = 1 << 20
	maxLeftName  = 4096
	MaxLeftAll   = 500
	MaxLeftBytes = 8 << 20
)

// Size is what it takes to hold, in bytes.
func (l *Left) Size() int {
	n := 2*len(l.Name) + len(l.Subsection) + len(l.Text) + len(l.WasText)
	for _, v := range slices.Concat(l.Values, l.Was) {
		n += len(v) + 16
	}
	return n
}

// Strip leaves the name of what is too large to be held.
func (l *Left) Strip() {
	l.Text, l.WasText, l.Values, l.Was = nil, nil, nil, nil
	l.Unfit = "with all else that stays it is too large to be kept"
}

// Path names it among all of a workspace.
func (l *Left) Path() string {
	if l.Kind == LeftSetting {
		// Not path.Join, as a subsection may hold anything.
		return path.Join(l.Dir, "config") + "/" + l.Name
	}
	return path.Join(l.Dir, l.Name)
}

// File is the path in Dir of the file that has it.
func (l *Left) File() string {
	if l.Kind == LeftSetting {
		return "config"
	}
	return l.Name
}

// ID identifies the session's side, also of what is too large to be held.
func (l *Left) ID() string {
	if l.Sum != "" {
		return l.Sum
	}
	return fingerprint(fmt.Sprintf("%q %q %q %q %x %o %v", l.Dir, l.Kind, l.Name, l.Values, sha256.Sum256(l.Text), l.Mode, l.Text == nil))
}

// LeftNow is what the project has where a Left would go.
type LeftNow struct {
	Values []string
	Text   []byte // nil for nothing
	Mode   uint32
}

// sameFile compares what counts for git: the content, and whether it is a program.
func sameFile(a, b []byte, modeA, modeB uint32) bool {
	return (a == nil) == (b == nil) && string(a) == string(b) && (modeA&0o111 == 0) == (modeB&0o111 == 0)
}

// Same says whether the project has the session's side already.
func (l *Left) Same(now *LeftNow) bool {
	if l.Kind == LeftSetting {
		return slices.Equal(l.Values, now.Values)
	}
	return sameFile(l.Text, now.Text, l.Mode, now.Mode)
}

// Moved says whether the project has something else than the session found.
func (l *Left) Moved(now *LeftNow) bool {
	if l.Kind == LeftSetting {
		return !slices.Equal(l.Was, now.Values)
	}
	return !sameFile(l.WasText, now.Text, l.WasMode, now.Mode)
}

// Print identifies it.
func (n *LeftNow) Print() string {
	return fingerprint(fmt.Sprintf("%q %x %v %v", n.Values, sha256.Sum256(n.Text), n.Text == nil, n.Mode&0o111 != 0))
}

func fingerprint(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}

// What ApplyLeft fails with: ErrGone where there is no such git directory any more,
// ErrReplaced where there is another one,
// ErrMoved where the file has changed between its check and its replacement.
var (
	ErrGone     = errors.New("the git directory is not there any more")
	ErrReplaced = errors.New("another git directory is there now than the session had; make the change yourself if you want it")
	ErrMoved    = errors.New("it was changed in the project meanwhile; look again")
)

// reasons say why settings are not published, by patterns of their names, in which a
// "*" stands for a subsection or for the rest. The first that fits counts.
var reasons = []struct{ names, why string }{
	{"alias.* core.fsmonitor core.editor core.pager core.sshcommand core.askpass core.gitproxy core.alternaterefscommand sequence.editor pager.* " +
		"diff.external diff.*.command diff.*.textconv filter.*.clean filter.*.smudge filter.*.process merge.*.driver difftool.*.cmd difftool.*.path mergetool.*.cmd mergetool.*.path " +
		"guitool.*.cmd browser.*.cmd browser.*.path man.*.cmd man.*.path gpg.program gpg.*.program gpg.ssh.defaultkeycommand interactive.difffilter credential.helper credential.*.helper " +
		"remote.*.uploadpack remote.*.receivepack remote.*.vcs trailer.*.command trailer.*.cmd uploadpack.packobjectshook tar.*.command submodule.*.update " +
		"sendemail.smtpserver sendemail.*.smtpserver sendemail.tocmd sendemail.cccmd sendemail.*.tocmd sendemail.*.cccmd sendemail.sendmailcmd sendemail.*.sendmailcmd imap.tunnel instaweb.* web.browser",
		"git runs the program that it names"},
	{"core.hookspath init.templatedir", "git runs the programs in the directory that it names"},
	{"include.path includeif.*", "git takes the file that it names for settings, which can name programs, also later"},
	{"core.attributesfile core.excludesfile blame.ignorerevsfile commit.template mailmap.file", "git reads the file that it names"},
	{"protocol.*", "it allows transports that run programs"},
	{"url.*", "it changes where git fetches and pushes, also to transports that run programs"},
	{"remote.*.url remote.*.pushurl submodule.*.url branch.*.remote branch.*.pushremote",
		"it names a place that the session can write, with the hooks that are there, or a transport that runs a program"},
	{"remote.*", "of a remote whose place stays in the session, or not in the table of settings that name no program"},
	{"core.worktree core.bare core.repositoryformatversion extensions.*", "it changes where git finds files, or how it reads the repository"},
	{"http.* https.* credential.*", "it changes whom git trusts, or what it tells servers"},
	{"user.* author.* committer.* commit.* tag.* gpg.* log.showsignature", "commits are made by it, or it has git run a program that signs them"},
}

// Why says why it is not published.
func (l *Left) Why() string {
	top, _, _ := strings.Cut(l.Name, "/")
	switch {
	case l.Unfit != "":
		return l.Unfit
	case l.Kind == LeftHook:
		return "git runs it"
	case l.Kind == LeftSetting:
		for _, r := range reasons {
			for name := range strings.FieldsSeq(r.names) {
				if l.named(name) {
					return r.why
				}
			}
		}
		return "it is not in the table of settings that name no program"
	case l.Name == "info/attributes":
		return "it names filters and drivers, which git runs where a setting has them"
	case l.Name == "config.worktree":
		return "git takes it for settings, which can name programs"
	case top == "objects":
		return "it names other places that git reads objects from"
	case top == "remotes", top == "branches":
		return "it names a place to fetch from and to push to"
	}
	return "it is not in the list of files that are data"
}

// named says whether a setting has a name of reasons.
func (l *Left) named(pattern string) bool {
	section, rest, _ := strings.Cut(pattern, ".")
	if section != l.Section {
		return false
	}
	sub, key, ok := strings.Cut(rest, ".")
	switch {
	case rest == "*":
		return true
	case !ok:
		return l.Subsection == "" && rest == l.Key
	case sub == "*":
		return l.Subsection != "" && key == l.Key
	}
	return sub == l.Subsection && key == l.Key
}
