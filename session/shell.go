package session

import (
	"os"
	"path/filepath"
	"strings"

	"mcp-sandbox/sandbox"
)

const (
	// longestArgument is what a shell command may have to go into one argument:
	// Linux takes 128 KiB of it with its NUL, MAX_ARG_STRLEN of execve(2).
	longestArgument = 128<<10 - 1
	// longestCommand bounds what a shell has to hold in memory twice.
	longestCommand = 16 << 20
	// fromDescriptor runs what can be read from descriptor 3, and closes it
	// first, so that the command has the descriptors it always has. A PATH without
	// cat must not make it a command that does nothing and succeeds.
	fromDescriptor = `eval "$(cat <&3 || command -p cat <&3 || echo exit 126)" 3<&-`
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

// program sets what c runs: the argv of a request, or a shell's. The working
// directory is set on the process, not prefixed as "cd DIR &&", which would join
// the first background list.
func (s *Session) program(c *sandbox.Command, r *ExecRequest) error {
	if len(r.Argv) > 0 {
		c.Argv = r.Argv
		return nil
	}
	shell := r.Shell
	if shell == "" {
		shell = s.Shell()
	}
	if err := checkShell(shell); err != nil {
		return err
	}
	return shellProgram(c, shell, r.Login, r.Cmd)
}

// ShellProgram sets what c runs to a line for the session's shell. Code:
// too_large beyond 16 MiB.
func (s *Session) ShellProgram(c *sandbox.Command, line string) error {
	return shellProgram(c, s.Shell(), false, line)
}

func shellProgram(c *sandbox.Command, shell string, login bool, line string) error {
	if len(line) > longestCommand {
		return errorf("too_large", nil, "cmd has %d bytes, of which %d are taken; write it to a file with write_file and run that", len(line), longestCommand)
	}
	c.Argv = []string{shell}
	// -l -c apart and not "-lc": not every shell takes them in one word.
	if login {
		c.Argv = append(c.Argv, "-l")
	}
	if len(line) > longestArgument {
		c.Script, line = line, fromDescriptor
	}
	c.Argv = append(c.Argv, "-c", line)
	return nil
}

// title is a command as listings keep it: a long one would be held in memory for
// as long as its process is remembered.
func title(cmd string) string {
	const longest = 4096
	if len(cmd) <= longest {
		return cmd
	}
	return strings.ToValidUTF8(cmd[:longest], "") + " ..."
}
