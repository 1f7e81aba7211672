package session

// DefaultProtected are the paths inside a caller-chosen workspace that neither
// commands nor file tools may make, change or swap: each of them is run or
// trusted by a program outside the sandbox (git, editors, agents, shells), so
// writing one is a way out of it (AC-21, CVE-2026-25725). They are relative to
// the workspace root.
func DefaultProtected() []string {
	return []string{
		".git/hooks", ".git/config", ".git/config.worktree", ".git/info/attributes",
		".vscode", ".idea", ".zed", ".devcontainer", ".cursor", ".windsurf", ".claude", ".codex", ".gemini", ".junie",
		".mcp.json", ".cursorrules", ".envrc",
		".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".profile",
		".zshrc", ".zshenv", ".zprofile", ".zlogin", ".zlogout", ".kshrc", ".inputrc",
		".gitconfig", ".ssh", ".netrc", ".npmrc",
	}
}

// nestedProtected holds for the file tools at any depth. Commands may write
// these in repositories they clone or init themselves (they would not work
// otherwise); a file tool has no such need.
func nestedProtected() []string {
	return []string{"**/.git/hooks", "**/.git/config"}
}
