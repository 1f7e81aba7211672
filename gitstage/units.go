package gitstage

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"mcp-sandbox/gitconfig"
)

// The state of a rebase or a series of picks names what git does next, and can
// name programs: "exec" lines, merge strategies, options. A state that holds
// nothing of the kind is published, any other stays in the session as a whole.

// stateFiles are the names of the states that are data whatever they hold.
var stateFiles = map[string][]string{
	"rebase-merge": {"head-name", "onto", "orig-head", "quiet", "interactive", "verbose", "message", "msgnum", "end", "amend", "stopped-sha",
		"patch", "refs-to-delete", "rewritten-list", "rewritten-pending", "current-fixups", "squash-onto", "autostash", "update-refs",
		"message-squash", "message-fixup", "reschedule-failed-exec", "no-reschedule-failed-exec", "drop_redundant_commits",
		"keep_redundant_commits", "cdate_is_adate", "ignore_date", "allow_rerere_autoupdate", "onto_name", "git-rebase-todo.backup"},
	"rebase-apply": {"next", "last", "head-name", "onto", "orig-head", "abort-safety", "final-commit", "info", "keep", "messageid", "msg",
		"msg-clean", "no_inbody_headers", "original-commit", "patch", "patch-merge-index", "quiet", "quoted-cr", "rewritten", "rebasing",
		"applying", "scissors", "sign", "threeway", "utf8", "dirtyindex", "rerere-autoupdate", "autostash"},
	"sequencer": {"head", "abort-safety"},
}

var (
	patchNumber  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]{4,}$`) })
	authorScript = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^(GIT_AUTHOR_(NAME|EMAIL|DATE)='([^'\n]|'\\'')*'\n)*$`)
	})
	todoWords   = strings.Fields("pick p reword r edit e squash s fixup f drop d label l reset t merge m break b noop update-ref u revert")
	optionWords = strings.Fields("no-commit edit allow-empty allow-empty-message keep-redundant-commits signoff record-origin allow-ff mainline default-msg-cleanup committer-date-is-author-date ignore-date skip-commit-summary")
)

// goodState says whether a file of a state can be published.
func goodState(unit, name, text string) bool {
	switch {
	case slices.Contains(stateFiles[unit], name):
		return name != "git-rebase-todo.backup" || goodTodo(text)
	case name == "git-rebase-todo", name == "done", name == "todo" && unit == "sequencer":
		return goodTodo(text)
	case name == "author-script":
		return authorScript().MatchString(text)
	case name == "strategy":
		return slices.Contains([]string{"ort", "recursive", "resolve", "octopus", "ours", "subtree"}, strings.TrimSpace(text))
	case name == "strategy_opts", name == "apply-opt", name == "gpg_sign_opt":
		return strings.TrimSpace(text) == ""
	case unit == "rebase-apply":
		return patchNumber().MatchString(name)
	case unit == "sequencer" && name == "opts":
		f, err := gitconfig.Parse(text)
		if err != nil {
			return false
		}
		for _, e := range f.Entries() {
			if e.Section != "options" || e.Subsection != "" || !slices.Contains(optionWords, e.Key) {
				return false
			}
		}
		return true
	}
	return false
}

func goodTodo(text string) bool {
	for line := range strings.SplitSeq(text, "\n") {
		if f := strings.Fields(line); len(f) > 0 && f[0][0] != '#' && !slices.Contains(todoWords, f[0]) {
			return false
		}
	}
	return true
}
