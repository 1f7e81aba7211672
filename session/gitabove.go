package session

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// GitAbove is the directory above root whose repository root is a part of, "" where
// root has a repository of its own or lies in none. Git does not work in such a
// workspace: to show the repository would show what is next to the workspace and all
// that it ever held, which whoever chose the root left out.
func GitAbove(root string) string {
	_, err := os.Lstat(filepath.Join(root, ".git"))
	for dir := root; err != nil && !isGitDir(dir) && dir != filepath.Dir(dir); {
		dir = filepath.Dir(dir)
		if fi, err := os.Stat(filepath.Join(dir, ".git")); err == nil && (fi.Mode().IsRegular() || isGitDir(filepath.Join(dir, ".git"))) {
			return dir
		}
	}
	return ""
}

// GitAboveText is a sentence on that for the model, "" where git works.
func (s *Session) GitAboveText() string {
	if s.owned {
		return ""
	}
	top := GitAbove(s.root)
	if top == "" {
		return ""
	}
	rel, err := filepath.Rel(s.root, top)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("the workspace is a subdirectory of a git repository whose top is %s, outside of the workspace, so git finds no repository here; for git, the user starts the server with the top as --root", rel)
}

// aboveHint says so when git found no repository.
func (s *Session) aboveHint(r *Result) []string {
	if r.Exit == nil || r.Exit.Code == 0 || !bytes.Contains(r.Output, []byte("not a git repository")) {
		return nil
	}
	if text := s.GitAboveText(); text != "" {
		return []string{text}
	}
	return nil
}
