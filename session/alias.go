package session

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"mcp-sandbox/sandbox"
)

// aliasName is a path of one name.
var aliasName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^/[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`) })

// systemNames are at the top of a session's file system, or of a host's.
var systemNames = []string{
	"bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "media", "mnt", "nix", "opt", "proc", "root",
	"run", "sbin", "snap", "srv", "sys", "tmp", "usr", "var",
	"Applications", "Library", "System", "Users", "Volumes", "private",
}

// checkAlias refuses what no second path of a workspace can be. Code: invalid_argument.
func (c *Config) checkAlias() error {
	alias := c.WorkspaceAlias
	if alias == "" {
		return nil
	}
	for _, p := range slices.Concat([]string{c.Root}, c.Read, c.Write) {
		if p = filepath.Clean(p); p == alias || within(p, alias) {
			return errorf("invalid_argument", nil, "workspace-alias %q is where %q lies; name another", alias, p)
		}
	}
	if !aliasName().MatchString(alias) || slices.Contains(systemNames, alias[1:]) {
		return errorf("invalid_argument", nil, "workspace-alias is %q; write a path of one name that the system does not use, such as /workspace", alias)
	}
	return nil
}

// Alias is the second path at which commands find the workspace, "" without one.
func (s *Session) Alias() string {
	switch s.sandbox.Report().Level {
	case sandbox.LevelNamespaces, sandbox.LevelNamespacesNoProc:
		return s.config.WorkspaceAlias
	}
	return ""
}

// withAlias has shells name their directory by the alias: they take PWD where it
// leads to the directory they start in.
func (s *Session) withAlias(env []string, dir string) []string {
	alias := s.Alias()
	if alias == "" || dir != s.root && !within(dir, s.root) {
		return env
	}
	return lastWins(append(env, "PWD="+filepath.Join(alias, strings.TrimPrefix(dir, s.root))))
}
