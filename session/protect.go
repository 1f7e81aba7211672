package session

import (
	"io"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"mcp-sandbox/gitconfig"
)

// DefaultProtected are the paths inside a caller-chosen workspace that neither
// commands nor file tools may make, change or swap: each of them is run or
// trusted by a program outside the sandbox (git, editors, agents, shells), so
// writing one is a way out of it (CVE-2026-25725). They are relative to
// the workspace root.
func DefaultProtected() []string {
	return []string{
		".git/hooks", ".git/config", ".git/config.worktree", ".git/commondir", ".git/info/attributes",
		// An old form of remote.*.url, which can name a program.
		".git/remotes", ".git/branches",
		// What makes the root itself a bare repository, whose config git obeys.
		"HEAD",
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
	return []string{"**/.git/hooks", "**/.git/config", "**/.git/commondir", "**/.git/info/attributes", "**/.git/modules", "**/.git/worktrees", "**/.git/remotes", "**/.git/branches"}
}

// protectedData is what file tools alone may not change, a restore may: commands write
// to a stage of it, from which nothing is removed outside and nothing published that a
// rebase would run. A file tool would write the real one, where a lock stops git and
// extensions (lfs, annex) keep the only copy of something under names of their choice.
// So it is everything but texts for people.
func protectedData() []string {
	return []string{"**/.git/*", "!**/.git/info/exclude", "!**/.git/description", "!**/.git/COMMIT_EDITMSG"}
}

// maxRepositories bounds the git directories that are looked for below .git.
const maxRepositories = 1000

// protectedRepositories are the paths that git run in the workspace obeys besides
// those of DefaultProtected, in the repositories that are there when the session
// starts: those of submodules and linked worktrees in .git, the .git files of those
// submodules' working trees, which git at the root follows, the root if it is a
// bare repository, and what links in any of them or in a nested repository lead to.
func protectedRepositories(root string) []string {
	var out []string
	dirs := nestedGitDirs(root)
	add := func(dir string) {
		dirs = append(dirs, dir)
		for _, name := range gitObeys {
			out = append(out, path.Join(dir, name))
		}
	}
	isDir := func(rel string) bool {
		fi, err := os.Lstat(filepath.Join(root, rel))
		return err == nil && fi.IsDir()
	}
	exists := func(rel string) bool {
		_, err := os.Lstat(filepath.Join(root, rel))
		return err == nil
	}
	if exists("HEAD") && isDir("objects") && isDir("refs") {
		add(".")
	}
	var visit func(dir string, depth int)
	visit = func(dir string, depth int) {
		if depth > 8 || len(out) > 5*maxRepositories || !isDir(dir) {
			return
		}
		if exists(path.Join(dir, "HEAD")) {
			add(dir)
			if tree, ok := workingTree(root, dir); ok {
				out = append(out, path.Join(tree, ".git"))
			}
			visit(path.Join(dir, "modules"), depth+1)
			return
		}
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.IsDir() {
				visit(path.Join(dir, e.Name()), depth+1)
			}
		}
	}
	if isDir(".git") {
		visit(".git/modules", 0)
		visit(".git/worktrees", 0)
	}
	return append(out, linkedFrom(root, dirs)...)
}

// maxGitConfig bounds the configuration of a submodule that is read.
const maxGitConfig = 1 << 20

// workingTree is where in the workspace the git directory dir has its files, as
// core.worktree says (git-config(1)).
func workingTree(root, dir string) (string, bool) {
	f, err := os.OpenFile(filepath.Join(root, dir, "config"), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", false
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return "", false
	}
	text, err := io.ReadAll(io.LimitReader(f, maxGitConfig))
	if err != nil {
		return "", false
	}
	c, err := gitconfig.Parse(string(text))
	if err != nil {
		return "", false
	}
	tree := c.Last("core", "", "worktree")
	if tree == "" {
		return "", false
	}
	if !path.IsAbs(tree) {
		tree = path.Join(root, dir, tree)
	}
	rel, err := filepath.Rel(root, tree)
	return rel, err == nil && rel != "." && filepath.IsLocal(rel)
}
