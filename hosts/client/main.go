// Client tries a server over its standard input and output and says what it saw:
// the program that hosts/run takes into each guest, static, as a guest may have
// neither Go nor Python.
//
//	client [-level LEVEL] [-brief] [-repository DIR] [-calls N] -- mcp-sandbox serve --root DIR
//
// It prints a line "level LEVEL", a line "ms TOOL PLAIN" with the medians of
// exec_command of true with sh and of sh -c true run by itself, taken turn by turn,
// and a line "ok WHAT" or "FAIL WHAT: WHY" for each check. It exits with 1 if any
// failed.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	level := flag.String("level", "", "the level of confinement that the session must have")
	repository := flag.String("repository", "", "the root of the server, a git repository: a commit made inside must arrive in it")
	brief := flag.Bool("brief", false, "the level, a command, its rights and what is out of reach alone")
	calls := flag.Int("calls", 20, "how many times exec_command is measured")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "client: name the server to start, such as: client -- mcp-sandbox serve")
		os.Exit(2)
	}
	s, err := start(flag.Args())
	if err != nil {
		fmt.Printf("FAIL start: %v\n", err)
		os.Exit(1)
	}
	t := &trial{server: s}
	t.run(*level)
	if !*brief {
		t.rest()
	}
	if *repository != "" {
		t.commit(*repository)
	}
	t.measure(*calls)
	if err := s.stop(); err != nil {
		t.fail("end of input ends the server", err.Error())
	}
	if t.failed {
		os.Exit(1)
	}
}

// trial is the checks of one server.
type trial struct {
	server *server
	failed bool
}

func (t *trial) fail(what, why string) {
	t.failed = true
	fmt.Printf("FAIL %s: %s\n", what, strings.ReplaceAll(strings.TrimSpace(why), "\n", " | "))
}

// want calls a tool and fails unless its text holds all that is asked for.
func (t *trial) want(what, tool string, args map[string]any, parts ...string) string {
	text, isError, err := t.server.call(tool, args)
	switch {
	case err != nil:
		t.fail(what, err.Error())
		return ""
	case isError:
		t.fail(what, text)
		return ""
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.fail(what, fmt.Sprintf("no %q in %q", part, text))
			return ""
		}
	}
	fmt.Printf("ok %s\n", what)
	return text
}

func (t *trial) command(what, cmd string, parts ...string) {
	t.want(what, "exec_command", map[string]any{"cmd": cmd, "yield_time_ms": 45000}, parts...)
}

func (t *trial) run(level string) {
	info := t.want("session_info", "session_info", nil, "confinement.level: ")
	_, rest, _ := strings.Cut(info, "confinement.level: ")
	has, _, _ := strings.Cut(rest, "\n")
	fmt.Printf("level %s\n", has)
	if level != "" && has != level {
		t.fail("the level", fmt.Sprintf("%s and not %s: %s", has, level, info))
	}
	t.command("a command", "echo $((40+2)); exit 7", "42", "7")
	t.command("no rights", `set -- $(sed -n 's/^\(NoNewPrivs\|Seccomp\|CapEff\):[[:space:]]*//p' /proc/self/status | tr '\n' ' '); echo "has: $*"`, "has: 0000000000000000 1 2")
	t.command("files outside are out of reach", "cat /etc/shadow && echo had; ls /root; true", "etc/shadow")
	if strings.HasPrefix(has, "namespaces") {
		t.command("a network of its own", "cat /proc/net/dev; (exec 3<>/dev/tcp/127.0.0.1/1) 2>&1; true", "lo:", "refused")
	}
}

// rest is files, snapshots, a terminal and a background process.
func (t *trial) rest() {
	t.want("write_file", "write_file", map[string]any{"path": "a.txt", "content": "one\ntwo\n"})
	t.want("edit_file", "edit_file", map[string]any{"path": "a.txt", "old_text": "two", "new_text": "three"})
	t.command("commands and tools see the same files", "cat a.txt; mkdir d; echo four > d/b.txt; ln -s d/b.txt l", "three")
	t.want("read_file", "read_file", map[string]any{"path": "d/b.txt"}, "four")
	t.want("search_text", "search_text", map[string]any{"pattern": "th.ee"}, "a.txt")
	t.snapshots()
	t.terminal()
	t.command("a background process", "sleep 300 & echo started", "started")
}

func (t *trial) snapshots() {
	text := t.want("snapshot_create", "snapshot_create", map[string]any{"label": "first"})
	id := after(text, "snapshot_id")
	if id == "" {
		t.fail("snapshot_create", "no id in "+text)
		return
	}
	t.command("removed", "rm -r d a.txt; ls")
	t.want("snapshot_restore", "snapshot_restore", map[string]any{"snapshot_id": id})
	t.command("a snapshot brings files back", "cat a.txt l", "three", "four")
}

// after is the word that follows a name in a text, "" without one.
func after(text, name string) string {
	_, rest, _ := strings.Cut(text, name)
	words := strings.FieldsFunc(rest, func(r rune) bool { return strings.ContainsRune(" :=()\"\n,;.", r) })
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// terminal types into a shell on a terminal; the answer and not the echo alone must
// come back with the call.
func (t *trial) terminal() {
	text := t.want("a terminal", "exec_command", map[string]any{"cmd": "bash --norc", "tty": true, "yield_time_ms": 20000, "shell": "bash"}, "session ID")
	id := after(text, "session ID")
	n, err := strconv.Atoi(id)
	if err != nil {
		return
	}
	t.want("the answer of a terminal in one call", "write_stdin", map[string]any{"session_id": n, "chars": "echo $((40+2))x; stty size\n", "yield_time_ms": 20000}, "42x", "30 120")
	t.want("kill_process", "kill_process", map[string]any{"session_id": n})
}

// commit makes a commit in the session, which must arrive in the repository.
func (t *trial) commit(dir string) {
	t.command("git commit inside", "echo inside > inside.txt; git add inside.txt; git -c user.name=a -c user.email=a@localhost commit -q -m inside; git log --oneline | cat", "inside")
	out, err := exec.Command("git", "-c", "safe.directory=*", "-C", dir, "log", "--format=%s").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "inside\n") {
		t.fail("the commit arrives in the repository", fmt.Sprintf("%v: %s", err, out))
		return
	}
	fmt.Println("ok the commit arrives in the repository")
}

func (t *trial) measure(calls int) {
	var tool, plain []float64
	for range calls {
		begin := time.Now()
		if _, _, err := t.server.call("exec_command", map[string]any{"cmd": "true", "shell": "sh"}); err != nil {
			t.fail("exec_command of true", err.Error())
			return
		}
		tool = append(tool, float64(time.Since(begin))/1e6)
		begin = time.Now()
		if err := exec.Command("sh", "-c", "true").Run(); err != nil {
			t.fail("sh -c true", err.Error())
			return
		}
		plain = append(plain, float64(time.Since(begin))/1e6)
	}
	if calls > 0 {
		fmt.Printf("ms %.0f %.0f\n", median(tool), median(plain))
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
