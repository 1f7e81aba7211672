package session

import (
	"os"
	"path/filepath"
	"strings"
)

// shellPlaces are where a shell is looked for, in the order of a command's PATH.
var shellPlaces = []string{"/usr/local/bin", "/usr/bin", "/bin", "/opt/homebrew/bin"}

// ResolveShell checks the shell that runs commands: a program name or an
// absolute path. "" is bash where it exists, else sh, as models write bash.
// Code: invalid_argument.
func ResolveShell(name string) (string, error) {
	if name == "" {
		if shellExists("bash") {
			return "bash", nil
		}
		return "sh", nil
	}
	if err := checkShell(name); err != nil {
		return "", err
	}
	if !shellExists(name) {
		return "", errorf("invalid_argument", nil, "the shell %q is not installed; install it or name another, such as sh", name)
	}
	return name, nil
}

func shellExists(name string) bool {
	places := []string{name}
	if !filepath.IsAbs(name) {
		places = nil
		for _, dir := range shellPlaces {
			places = append(places, filepath.Join(dir, name))
		}
	}
	for _, p := range places {
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

// checkShell refuses what cannot be a program.
func checkShell(name string) error {
	if strings.ContainsRune(name, 0) || strings.HasPrefix(name, "-") || strings.ContainsAny(name, " \t\r\n") ||
		strings.Contains(name, "/") && !filepath.IsAbs(name) {
		return errorf("invalid_argument", nil, "shell %q is not a program; give one name or an absolute path, such as sh or /bin/bash, without options", name)
	}
	return nil
}

// Shell is what runs commands that name no other.
func (m *Manager) Shell() string { return m.config.Shell }

// Shell is what runs commands that name no other.
func (s *Session) Shell() string { return s.config.Shell }

// plainLineEnds is a command with LF for CRLF when every line ends so: a shell
// takes the CR for a part of the last word. A file with mixed ends may mean them.
func plainLineEnds(cmd string) (lf string, crlf bool) {
	ends := strings.Count(cmd, "\r\n")
	if ends == 0 || ends != strings.Count(cmd, "\n") || ends != strings.Count(cmd, "\r") {
		return cmd, false
	}
	return strings.ReplaceAll(cmd, "\r\n", "\n"), true
}

// argv is the command line of a request: its own, or a shell's. The working
// directory is set on the process, not prefixed as "cd DIR &&", which would join
// the first background list.
func (s *Session) argv(r *ExecRequest) ([]string, error) {
	if len(r.Argv) > 0 {
		return r.Argv, nil
	}
	shell := r.Shell
	if shell == "" {
		shell = s.Shell()
	}
	if err := checkShell(shell); err != nil {
		return nil, err
	}
	argv := []string{shell}
	// -l -c apart and not "-lc": not every shell takes them in one word.
	if r.Login {
		argv = append(argv, "-l")
	}
	return append(argv, "-c", r.Cmd), nil
}
