package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestStartErrors starts the program wrongly in every way of the table: it ends with one
// line on stderr that has the shape of errors, and with the documented code.
func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "w"), 0o755); err != nil {
		t.Fatal(err)
	}
	write("bad.toml", "a = [", 0o600)
	write("unknown.toml", "rot = \"x\"", 0o600)
	write("value.toml", "limit-procs = \"many\"", 0o600)
	write("server.toml", "network = \"allow\"\nallow-host = [\"a.example\"]\naudit-strict = true\nstage-apply = \"model\"\nkey-file = \"absent\"", 0o600)
	write("open", "local:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0o644)
	write("short", "local:short", 0o600)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()

	const usage, refused = exitUsage, exitFailure
	for _, tc := range []struct {
		line string // words, split at spaces; NAME=VALUE ones first go to the environment
		code int
		want string
	}{
		{"--rot", usage, "unknown flag --rot; did you mean --root? See"},
		{"-x", usage, "unknown flag -x; see"},
		{"serv", usage, `unknown command "serv"; did you mean serve?`},
		{"help nope", usage, `no command or topic "nope"; see`},
		{"help netwrk", usage, "did you mean network?"},
		{"version x", usage, `unexpected word "x"; write`},

		{"exec", usage, "a command is missing; write it"},
		{"exec -tT -- true", usage, "-t and -T contradict each other; give"},
		{"exec --root absent -- true", refused, "does not exist; create it first"},
		{"exec --root / -- true", usage, "the whole machine; name"},
		{"exec --root ~/x -- true", refused, "~ is expanded by a shell alone; write"},
		{"exec --confine high -- true", usage, `--confine is "high"; use`},
		{"exec --confine none --min-confinement landlock -- true", usage, "ask for a stronger level"},
		{"exec --limit-procs 1 -- true", usage, "at least 8; write"},
		{"exec --limit-memory 1M -- true", usage, "at least 16M; write"},
		{"exec --limit-cpu x -- true", usage, `--limit-cpu is "x"; write a number such as 1.5`},
		{"exec --limit-tmp x -- true", usage, `--limit-tmp is "x"; write a size such as`},
		{"exec --network x -- true", usage, `network is "x"; use`},
		{"exec --allow-host a.example -- true", usage, "without --network allow; add it"},
		{"exec --shell absent -- true", usage, `the shell "absent" is not installed; install`},
		{"exec --read /absent/x -- true", refused, `--read "/absent/x" does not exist; make`},
		{"exec --deny-read [ -- true", usage, "not a valid glob; check"},
		{"exec --config bad.toml -- true", usage, "not valid TOML"},
		{"exec --config absent.toml -- true", usage, "cannot be read"},
		{"exec --config value.toml -- true", usage, "limit-procs is many; write a whole number"},
		{"exec --manifest absent.json -- true", refused, "cannot be read; check"},
		{"exec --session .x -- true", usage, "is not one; use"},
		{"exec --from absent.tar -- true", refused, "absent.tar"},
		{"MCP_SANDBOX_ROT=1 exec -- true", usage, "unknown environment variable MCP_SANDBOX_ROT; see"},
		{"MCP_SANDBOX_LIMIT_CPU=x exec -- true", usage, `MCP_SANDBOX_LIMIT_CPU is "x"; write a number`},

		{"serve w", usage, "name the workspace with --root w"},
		{"serve --root absent", refused, "does not exist; create it first"},
		{"serve --config unknown.toml", usage, `unknown key "rot"; see`},
		{"serve --min-confinement high", usage, `--min-confinement is "high"; use`},
		{"serve --limit-procs 1", usage, "at least 8; write"},
		{"serve --session-idle 5", usage, "write a time such as"},
		{"serve --transport x", usage, `transport is "x"; use`},
		{"serve --transport http --listen x", usage, `listen is "x"; write HOST:PORT`},
		{"serve --transport http --listen " + taken.Addr().String(), usage, "in use); name a free port"},
		{"serve --transport http --listen 0.0.0.0:0", usage, "there is no token; name a file"},
		{"serve --transport http --listen 127.0.0.1:0 --token-file absent", refused, "the token file does not exist; make it"},
		{"serve --transport http --listen 127.0.0.1:0 --token-file open", refused, "chmod 600"},
		{"serve --transport http --listen 127.0.0.1:0 --token-file short", usage, "has a token of 5 characters; use"},
		{"serve --transport http --listen 127.0.0.1:0 --tls-cert x", usage, "go together; name both"},
		{"serve --transport http --listen 127.0.0.1:0 --http-host http://x", usage, "is not a host name or address; write"},
		{"serve --listen 127.0.0.1:0", usage, "listen has no effect without --transport http; add it or leave listen out"},
		{"serve --token-file open", usage, "token-file has no effect without --transport http; add"},
		{"MCP_SANDBOX_LISTEN=127.0.0.1:0 serve", usage, "listen has no effect without --transport http; add"},
		{"serve --transport http --peer-url http://x:1", usage, "peer-url has no effect without --store; add"},
		{"serve --durable call", usage, "durable has no effect without --session NAME or --transport http; add"},
		{"serve --stage-apply model", usage, "stage-apply has no effect without --staged; add"},
		{"exec --listen 127.0.0.1:0 -- true", usage, "listen has no effect with this command; leave"},
		{"exec --expose 80 -- true", usage, "expose has no effect with this command; leave"},
		{"sessions list --network none", usage, "network has no effect with this command; leave"},
		{"snapshots list --root w --listen 127.0.0.1:0", usage, "listen has no effect with this command; leave"},
		{"sessions list --config server.toml", usage, "key-file cannot be read"}, // and no setting of the server is in the way
		{"MCP_SANDBOX_STAGE_APPLY=model exec --shell absent -- true", usage, "is not installed; install"},
		{"exec --config server.toml -- true", usage, "audit-strict has no effect without --audit-log; add"},
		{"serve --log-level x", usage, `log-level is "x"; use`},
		{"serve --metrics-listen x", usage, "write HOST:PORT"},
		{"serve --audit-log /absent/x", refused, "does not exist; create it"},
		{"serve --toolset x", usage, `no toolset "x"; use`},

		{"doctor --root absent", refused, "does not exist; create it first"},
		{"doctor --min-confinement high", usage, `"high"; use`},
		{"doctor x", usage, `unexpected word "x"; write`},
		{"review --root absent", refused, "does not exist; check"},
		{"review --root w", refused, "nothing is staged there; see"},
		{"sessions lst", usage, `unknown command "lst"; did you mean list?`},
		{"sessions delete", usage, "a word is missing after"},
		{"sessions delete absent", refused, `no saved session "absent"; list`},
		{"sessions get absent f", refused, `no saved session "absent"; list`},
		{"sessions end", usage, "write --principal NAME"},
		{"snapshots list", usage, "--root is missing; name"},
		{"snapshots --root w show", usage, "a word is missing after"},
		{"snapshots --root w show absent", refused, `no snapshot "absent"; list`},
		{"setup", usage, "one client is needed; use"},
		{"setup absent", usage, `no client "absent"; use`},
		{"setup cursor --root absent", refused, "does not exist; create it first"},
		{"setup cursor --http ftp://x", usage, "is not an address; write"},
		{"config absent", usage, `no client "absent"; use`},
		{"clean x", usage, `unexpected word "x"; write`},
	} {
		words := strings.Fields(tc.line)
		env := append(os.Environ(), "MCP_SANDBOX_STATE_DIR="+filepath.Join(dir, "state"))
		for strings.Contains(words[0], "=") && !strings.HasPrefix(words[0], "-") {
			env, words = append(env, words[0]), words[1:]
		}
		cmd := exec.Command(binary, words...)
		cmd.Dir, cmd.Env = dir, env
		startsNot(t, cmd, tc.code, tc.want)
	}
}

// startsNot wants a start to end with this code and one line that has want.
func startsNot(t *testing.T, cmd *exec.Cmd, code int, want string) {
	t.Helper()
	line := strings.Join(cmd.Args[1:], " ")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	_ = cmd.Run()
	said := stderr.String()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%s: exit code %d, want %d: %s", line, got, code, said)
	}
	if !strings.HasPrefix(said, "mcp-sandbox: ") || strings.Count(said, "\n") != 1 || !strings.Contains(said, want) {
		t.Errorf("%s: stderr is %q, want one line with %q", line, said, want)
	}
}
