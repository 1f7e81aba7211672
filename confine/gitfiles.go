package confine

import (
	"path"
	"slices"

	"mcp-sandbox/gitconfig"
	"mcp-sandbox/sandbox"
)

// file is one made for the session.
type file struct {
	Path, Content string
	Mode          uint32
}

// settingFiles are the files of settings of a session that commands may change, and
// the environment with which programs find them.
func settingFiles(p *sandbox.Policy, privateHome, dir string) (files []file, env []string) {
	files, env = gitFiles(p, privateHome, dir)
	if p.JavaTrust != "" {
		at := path.Join(dir, "java-truststore")
		files, env = append(files, file{at, p.JavaTrust, 0o644}), append(env, "JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore="+at)
	}
	return files, env
}

// gitFiles are the git configuration and the ignore file of a session, and the
// environment with which git finds them: in a private home where git looks by
// itself, else in dir, as a home in the workspace is the user's to fill. There
// they are the system's configuration, which every other one overrides; where
// commands may not write the home's, they are the global one, so that
// git config --global works.
func gitFiles(p *sandbox.Policy, privateHome, dir string) (files []file, env []string) {
	config, ignore := path.Join(privateHome, ".gitconfig"), path.Join(privateHome, ".config/git/ignore")
	text := p.GitConfig
	if p.Home != "" {
		config, ignore = path.Join(dir, "gitconfig"), path.Join(dir, "gitignore")
		c, err := gitconfig.Parse(text)
		global := slices.Contains(p.Protect, ".gitconfig")
		if err != nil || !global && text == "" && p.GitIgnore == "" {
			return nil, nil
		}
		if p.GitIgnore != "" {
			_ = c.Set("core", "", "excludesFile", []string{ignore})
		}
		if global {
			text = c.Text() + "[include]\n\tpath = ~/.gitconfig\n"
			env = []string{"GIT_CONFIG_GLOBAL=" + config}
		} else {
			text = "[include]\n\tpath = /etc/gitconfig\n" + c.Text()
			env = []string{"GIT_CONFIG_SYSTEM=" + config}
		}
	}
	if text != "" {
		files = append(files, file{config, text, 0o644})
	}
	if p.GitIgnore != "" {
		files = append(files, file{ignore, p.GitIgnore, 0o644})
	}
	return files, env
}
