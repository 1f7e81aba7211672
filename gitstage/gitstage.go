// Package gitstage publishes what a session's commands wrote to git directories.
//
// Inside, each git directory of a workspace is an overlay: the real directory
// below, and above it a directory of the stage, which holds what the session
// changed. Programs outside see the real directory alone. After a command,
// Publish takes from the stage what is data (objects, refs, the index, the state
// of a merge or rebase, settings that name no program) and puts it into the real
// directory as git itself would: objects before refs, each name behind git's own
// lock file. What can make git run something is never published.
//
// All of it works on descriptors and follows no link; what the stage holds was
// written by a hostile session. Nothing here runs git.
package gitstage

import "strings"

// Report is what a Publish has to tell.
type Report struct {
	// Published counts what has reached a real directory.
	Published int
	// Kept names settings and files that stay in the session, each told once.
	Kept []string
	// Conflicts names what was changed on both sides, and where the session's
	// side is now.
	Conflicts []string
}

func (r *Report) add(o Report) {
	r.Published += o.Published
	r.Kept = append(r.Kept, o.Kept...)
	r.Conflicts = append(r.Conflicts, o.Conflicts...)
}

// unescape is the path, relative to the workspace, of a directory of the stage.
func unescape(name string) string {
	return strings.NewReplacer("%2F", "/", "%25", "%").Replace(name)
}

// RefPrefix is where refs of this package lie in a repository: undo/ keeps what
// refs pointed to, conflict/ the session's side of what was changed twice.
const RefPrefix = "refs/mcp-sandbox/"
