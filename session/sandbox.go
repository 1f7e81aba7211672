package session

import (
	"context"
	"os"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/workspace"
)

// Noticer is a sandbox that reports what no reply carries, such as a network denial.
// Each notice is given once.
type Noticer interface {
	Notices() []string
}

// withNotices adds what the sandbox has to tell the model, such as what it
// refused, to the reply it belongs to. dir is where the command ran.
func (s *Session) withNotices(ctx context.Context, r Result, err error, dir string) (Result, error) {
	if err != nil {
		if text := s.putGitBack(false); text != "" {
			s.tell(text)
		}
		return r, err
	}
	s.explain(ctx, &r, dir)
	if n, ok := s.sandbox.(Noticer); ok {
		r.Notices = append(r.Notices, n.Notices()...)
	}
	r.Notices = append(r.Notices, s.publishGit()...)
	if text := s.putGitBack(false); text != "" {
		r.Notices = append(r.Notices, text)
	}
	r.Notices = append(r.Notices, s.takeNotices()...)
	return r, nil
}

// ownerShown is a sandbox whose commands are not the owner of the workspace,
// though its files are shown as theirs: the file tools go the same way.
type ownerShown interface {
	// Owner is who the commands run as; mapped is false where the files belong
	// to that user on disk as well.
	Owner() (uid, gid int, mapped bool)
	// OpenDir opens a directory as the commands see it, fs.ErrNotExist for one
	// that is shown as it is.
	OpenDir(dir string) (*os.File, error)
}

// showOwner has the file tools of files see what the commands of sb see.
func showOwner(files *workspace.Options, sb sandbox.Sandbox) {
	shown, ok := sb.(ownerShown)
	if !ok {
		return
	}
	if uid, gid, mapped := shown.Owner(); mapped {
		files.OwnerUID, files.OwnerGID, files.ActAsOwner, files.OpenDir = uid, gid, true, shown.OpenDir
	}
}

// Launcher starts sandboxes. It fails with code confinement_unavailable when
// this host cannot give the level asked for.
type Launcher interface {
	Start(ctx context.Context, p sandbox.Policy, up Callbacks) (sandbox.Sandbox, error)
}

// Callbacks are how a running sandbox reports to its session and asks it. They point
// upward because what happens inside on its own, such as a connection, belongs to no
// tool call. The zero value ignores reports and answers nothing.
type Callbacks struct {
	// Note records what happened in the sandbox on its own, such as a refused
	// connection; code is one of an error's.
	Note func(op, code string, data map[string]any)
	// Ask puts a yes-or-no question to the user of a running call; AnswerNone where
	// there is none, or no way to them. It returns within AskWithin.
	Ask func(ctx context.Context, op, question string, data map[string]any) Answer
}
