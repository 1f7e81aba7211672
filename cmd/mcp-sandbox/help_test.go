package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestTopics: every flag of the settings is under one heading, every heading's
// flags exist, and a command shows only those that mean something to it.
func TestTopics(t *testing.T) {
	var s settings
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	s.register(f)
	f.VisitAll(func(fl *pflag.Flag) {
		n := 0
		for _, topic := range topics {
			if slices.Contains(topic.flags, fl.Name) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("--%s is in %d topics, want 1", fl.Name, n)
		}
	})
	for _, topic := range topics {
		for _, name := range topic.flags {
			if f.Lookup(name) == nil {
				t.Errorf("topic %s: there is no --%s", topic.name, name)
			}
		}
	}
	for name, words := range flagValues {
		fl := f.Lookup(name)
		if fl == nil {
			t.Errorf("completion of the unknown flag --%s", name)
			continue
		}
		for _, w := range words {
			if !strings.Contains(fl.Usage+fl.DefValue, w) && name != "min-confinement" {
				t.Errorf("--%s: completion offers %q, help does not name it", name, w)
			}
		}
	}
}

// TestExamples: what the help shows as examples is understood.
func TestExamples(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for line := range strings.SplitSeq(cmd.Example, "\n") {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			line, _, _ = strings.Cut(line, "   ")
			words, err := exec.Command("sh", "-c", "for w in "+strings.TrimPrefix(line, "mcp-sandbox ")+"; do echo \"$w\"; done").Output()
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			found, rest, err := newRoot().Find(strings.Split(strings.TrimSuffix(string(words), "\n"), "\n"))
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRoot())
}

// TestCommandLine: what a person types.
func TestCommandLine(t *testing.T) {
	home := t.TempDir()
	for _, tc := range []struct {
		args []string
		code int
		want string
		not  string
	}{
		{[]string{"--version"}, 0, "mcp-sandbox ", "commit"},
		{[]string{"-v"}, 0, "mcp-sandbox ", "commit"},
		{[]string{"--help"}, 0, "Examples:", "--limit-procs"},
		{[]string{"serve", "--help"}, 0, "Network server:", "stringArray"},
		{[]string{"help", "confinement"}, 0, "--deny-read string... ", "stringArray"},
		{[]string{"review", "--help"}, 0, "--apply string... ", "stringArray"},
		{[]string{"exec", "--help"}, 0, "Confinement:", "--http-host"},
		{[]string{"exec", "--help"}, 0, "--limit-memory", "--toolset"},
		{[]string{"snapshots", "create", "--help"}, 0, "--snapshot-store", "--listen"},
		{[]string{"help", "limits"}, 0, "--limit-procs", "--root"},
		{[]string{"help", "network"}, 0, "--allow-host", "--root"},
		{[]string{"serv"}, 2, "did you mean serve?", ""},
		{[]string{"sesions"}, 2, "did you mean sessions?", ""},
		{[]string{"zzz"}, 2, "unknown command", "did you mean"},
		{[]string{"serve", "/tmp"}, 2, "name the workspace with --root /tmp", ""},
		{[]string{"/tmp"}, 2, "name a workspace with --root /tmp", ""},
		{[]string{"setup", "cursor", "--staged"}, 2, "setup CLIENT --root DIR -- --staged", ""},
		{[]string{"config", "cursor", "--deny-secrets"}, 2, "config CLIENT --root DIR -- --deny-secrets", ""},
		{[]string{"setup", "cursor", "--stagd"}, 2, "unknown flag --stagd; see", ""},
		{[]string{"setup", "cursor", "--print", "--remove"}, 2, "leave one of the two out", ""},
		{[]string{"exec", "--root", "${workspaceFolder}", "--", "true"}, 125, "the client did not replace the variable", ""},
		{[]string{"review", "--help"}, 0, "--snapshot-keep", "--shell"},
		{[]string{"snapshots", "list", "--help"}, 0, "--deny-read", "--git-user"},
		{[]string{"clean", "--help"}, 0, "--state-dir", "--home"},
		{[]string{"sessions", "list", "--help"}, 0, "--key-file", "--manifest"},
		{[]string{"sessions", "get", "--help"}, 0, "--protect", "--confine"},
		{[]string{"serve", "--rot", "x"}, 2, "did you mean --root?", ""},
		{[]string{"exec", "--alow-host", "x", "--", "true"}, 2, "did you mean --allow-host?", ""},
		{[]string{"exec", "--zzzzzz"}, 2, "unknown flag", "did you mean"},
		{[]string{"completion", "tcsh"}, 2, "unknown command", ""},
		{[]string{"completion", "bahs"}, 2, "did you mean bash?", ""},
		{[]string{"setup", "crusor"}, 2, "did you mean cursor?", ""},
		{[]string{"__complete", "serve", "--allow-preset", "npm,g"}, 0, "npm,github", "npm,npm"},
		{[]string{"__complete", "exec", "--network", ""}, 0, "loopback", "--"},
		{[]string{"exec"}, 2, "a command is missing", ""},
		{[]string{"exec", "-t", "-T", "true"}, 2, "contradict", ""},
		{[]string{"exec", "--root", "~/none", "--", "true"}, 125, "~ is expanded by a shell alone", ""},
		{[]string{"exec", "ls", "-la"}, 0, "total ", ""},
		{[]string{"exec", "--", "echo", "--root", "x"}, 0, "--root x", ""},
		{[]string{"exec", "echo", "--root", "a b"}, 0, "--root a b", ""},
		{[]string{"exec", "exit 3"}, 3, "", ""},
		{[]string{"serve", "--allowed-host", "bad host", "--transport", "http"}, 2, "http-host", ""},
	} {
		cmd := exec.Command(binary, tc.args...)
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_STATE_HOME="+home+"/state")
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != tc.code || !strings.Contains(string(out), tc.want) || tc.not != "" && strings.Contains(string(out), tc.not) {
			t.Errorf("%q: status %d, want %d and %q, not %q:\n%s", tc.args, cmd.ProcessState.ExitCode(), tc.code, tc.want, tc.not, out)
		}
		if tc.code != 0 && tc.want != "" && tc.args[0] != "serve" && strings.Count(strings.TrimSpace(string(out)), "\n") != 0 {
			t.Errorf("%q: more than one line: %s", tc.args, out)
		}
	}
}

// TestInterrupts: an interrupt is the command's; a command that is deaf to it is
// killed at the fourth.
func TestInterrupts(t *testing.T) {
	for _, tc := range []struct {
		line  string
		times int
		code  int
		want  string
	}{
		{"trap 'echo got it; exit 7' INT; echo up; sleep 1000 & wait", 1, 7, "up\ngot it\n"},
		{"echo up; exec sleep 1000", 1, 130, "up\n"},
		{"trap '' INT; echo up; sleep 1000", 4, 137, "up\n"},
	} {
		cmd := exec.Command(binary, "exec", "--state-dir", t.TempDir(), "--", tc.line)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 3)
		if _, err := out.Read(got); err != nil {
			t.Fatal(err, errs.String())
		}
		rest := make(chan string)
		go func() {
			var b strings.Builder
			for buf := make([]byte, 512); ; {
				n, err := out.Read(buf)
				b.Write(buf[:n])
				if err != nil {
					break
				}
			}
			rest <- b.String()
		}()
		var all string
	signals:
		for n := 0; ; n++ {
			if n < tc.times || tc.times > 1 {
				// Several that are waiting are one.
				_ = cmd.Process.Signal(syscall.SIGINT)
			}
			select {
			case more := <-rest:
				all = string(got) + more
				break signals
			case <-time.After(200 * time.Millisecond):
			}
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != tc.code || all != tc.want {
			t.Errorf("%s: status %d, %q; want %d, %q; %s", tc.line, code, all, tc.code, tc.want, errs.String())
		}
	}
}

// TestPipedIntoTerminal: what is piped into exec -t ends, within a line too.
func TestPipedIntoTerminal(t *testing.T) {
	for _, in := range []string{"abc\n", "abc", ""} {
		cmd := exec.Command(binary, "exec", "--state-dir", t.TempDir(), "-t", "stty -echo; cat; echo end")
		cmd.Stdin = strings.NewReader(in)
		out, err := cmd.CombinedOutput()
		if text := strings.ReplaceAll(string(out), "\r", ""); err != nil || !strings.HasSuffix(text, in+"end\n") {
			t.Errorf("%q: %v %q", in, err, out)
		}
	}
}
