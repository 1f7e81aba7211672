package session

import (
	"bytes"

	"mcp-sandbox/sandbox"
)

// GitUser is who commits are made as, as "Name <mail>", "" for nobody.
func (s *Session) GitUser() string {
	u := s.config.Git
	if u.Name == "" || u.Email == "" {
		return ""
	}
	return sandbox.OneLine(u.Name) + " <" + sandbox.OneLine(u.Email) + ">"
}

// identityHint says what a person could set when git refused to commit for want
// of an identity.
func (s *Session) identityHint(r *Result) []string {
	if r.Exit == nil || r.Exit.Code == 0 || s.GitUser() != "" {
		return nil
	}
	for _, sign := range []string{"Please tell me who you are", "unable to auto-detect email address", "empty ident name"} {
		if bytes.Contains(r.Output, []byte(sign)) {
			return []string{`git has no identity in this session; a person sets one with --git-user "Name <mail>", a command with git config user.name and user.email`}
		}
	}
	return nil
}
