package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// docAsk runs a command on a terminal and answers its questions with yes.
const docAsk = `
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execvp("bash", ["bash", "-c", sys.argv[1]])
seen = text = b""
while True:
    try:
        more = os.read(fd, 65536)
    except OSError:
        break
    if not more:
        break
    text, seen = text + more, seen + more
    if seen.endswith(b"[y/N] "):
        os.write(fd, b"y\n")
        seen = b""
sys.stdout.buffer.write(text.replace(b"\r\n", b"\n"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`

// docAsks are the commands that ask a person.
var docAsks = regexp.MustCompile(`^mcp-sandbox (setup|clean --all)`)

// docWorlds prepare what a section of a page is about, in a home that holds the
// directory project.
var docWorlds = map[string]struct {
	files  map[string]string
	before string // a command
}{
	"README.md#Sessions":                                       {files: map[string]string{"calc/parser.py": "def parse(text):\n    return int(text)\n"}},
	"README.md#A session of an agent":                          {files: map[string]string{"calc/calc.py": "def mean(numbers):\n    return sum(numbers) / len(numbers)\n", "calc/test_calc.py": "from calc import mean\n\nassert mean([1, 2, 6]) == 3\nassert mean([]) == 0\nprint(\"2 tests passed\")\n"}},
	"README.md#Many clients":                                   {before: "(umask 077; echo alice:0123456789abcdef0123456789abcdef > tokens)"},
	"docs/sessions.md#Named sessions":                          {files: map[string]string{"project.toml": "version = 1\n\n[entries.Makefile]\ntype = \"file\"\ncontent = \"all:\\n\\techo made > result\\n\"\n"}},
	"docs/snapshots.md#Starting from a snapshot or an archive": {files: map[string]string{"src/app/main.go": "package main\n"}},
	"docs/confinement.md#Git directories":                      {before: "git init -q project; mcp-sandbox exec --root project 'git config core.fsmonitor ./watch.sh' 2>&1"},
	"docs/recipes.md#Uninstall":                                {before: "mcp-sandbox setup cursor --root project --yes; mcp-sandbox exec --root project -- 'echo > note'"},
}

// docHome is a first day's home: a project, a name for commits, and nothing else.
var docHome = map[string]string{
	"project/README.md":   "# Project\n",
	"project/src/app.py":  "print('hello')\n",
	"project/.env":        "API_KEY=1234\n",
	"project/Makefile":    "test:\n\t@python3 src/app.py\n",
	".gitconfig":          "[user]\n\tname = Ann Example\n\temail = ann@example.com\n",
	".local/bin/.no-file": "",
}

// docSlow are sections that only make test-long runs: they took longest.
var docSlow = []string{"docs/recipes.md#A development server", "docs/recipes.md#A team over HTTP", "docs/recipes.md#In CI", "docs/staged.md#Staged workspace"}

// TestDocCommands runs the commands of every page as they are printed, those of a
// section one after the other in a home of its own, and compares what they print with
// what the page shows. Put in are a free port and, where a person is asked, yes.
func TestDocCommands(t *testing.T) {
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		t.Skip("the pages show the strongest level")
	}
	needPrograms(t, "bash", "curl", "git", "openssl", "python3")
	for _, page := range docPages(t) {
		sections := map[string][]docCommand{}
		var order []string
		for _, c := range docCommands(t, page) {
			if c.aside() != "" {
				continue
			}
			if sections[c.section] == nil {
				order = append(order, c.section)
			}
			sections[c.section] = append(sections[c.section], c)
		}
		for _, section := range order {
			if !long() && slices.Contains(docSlow, page+"#"+section) {
				continue
			}
			t.Run(page+"/"+section, func(t *testing.T) {
				t.Parallel()
				runDocs(t, page+"#"+section, sections[section])
			})
		}
	}
}

// docWorld is where the commands of one section run.
type docWorld struct {
	dir, home string
	port      int
	env       []string
}

func newDocWorld(t *testing.T, files map[string]string) docWorld {
	t.Helper()
	w := docWorld{dir: t.TempDir()}
	openPath(t, w.dir)
	w.home = filepath.Join(w.dir, "you")
	writeTree(t, w.home, docHome)
	writeTree(t, w.home, files)
	bin := filepath.Join(w.home, ".local", "bin")
	if err := os.Remove(filepath.Join(bin, ".no-file")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(bin, "mcp-sandbox")); err != nil {
		t.Fatal(err)
	}
	tmp := filepath.Join(w.dir, "tmp")
	if err := os.Mkdir(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	w.env = []string{"HOME=" + w.home, "TMPDIR=" + tmp, "PATH=" + bin + ":" + os.Getenv("PATH"), "LANG=C.UTF-8", "GORACE=" + os.Getenv("GORACE"), "USER=you", "EDITOR=true"}
	return w
}

// asPrinted is an output with what a page cannot know put back.
func (w docWorld) asPrinted(text string) string {
	real, err := filepath.EvalSymlinks(binary)
	if err != nil {
		real = binary
	}
	return strings.NewReplacer(
		real, "/home/you/.local/bin/mcp-sandbox", binary, "/home/you/.local/bin/mcp-sandbox",
		w.home, "/home/you", strconv.Itoa(w.port), "8765").Replace(text)
}

func runDocs(t *testing.T, key string, commands []docCommand) {
	world := docWorlds[key]
	w := newDocWorld(t, world.files)
	for len(commands) > 0 {
		n := 1
		for n < len(commands) && (commands[n].language == "mcp") == (commands[0].language == "mcp") {
			n++
		}
		if commands[0].language == "mcp" {
			playDocs(t, w, commands[:n])
		} else {
			typeDocs(t, w, world.before, commands[:n])
		}
		commands = commands[n:]
	}
}

// typeDocs types commands into a shell.
func typeDocs(t *testing.T, w docWorld, before string, commands []docCommand) {
	var script strings.Builder
	script.WriteString("trap 'kill $servers 2>/dev/null; wait' EXIT\nservers=; cd\n{ true; " + before + "\n} >/dev/null\n")
	for i, c := range commands {
		text := strings.ReplaceAll(c.text, "8765", strconv.Itoa(w.port))
		text = strings.Replace(text, "go run ./cmd/mcp-sandbox", "mcp-sandbox", 1)
		fmt.Fprintf(&script, "# %s\n", c.where())
		bare, _, _ := strings.Cut(text, "  #")
		switch {
		case docAsks.MatchString(text) && !strings.Contains(text, "--print"):
			fmt.Fprintf(&script, "python3 -c \"$ASK\" %s\n", shellWord(text))
		case strings.HasPrefix(text, "mcp-sandbox serve ") && strings.Contains(text, "--transport http"):
			fmt.Fprintf(&script, "( exec %s\n) 2>server.log & servers=\"$servers $!\"\nuntil grep -q :%d server.log; do kill -0 $! || { cat server.log; exit 1; }; sleep 0.02; done\ntrue\n", bare, w.port)
		case strings.HasPrefix(text, "mcp-sandbox serve"):
			fmt.Fprintf(&script, "printf '%%s\\n' \"$HELLO\" | { %s\n}\n", text)
		default:
			fmt.Fprintf(&script, "{ %s\n} </dev/null\n", text)
		}
		fmt.Fprintf(&script, "printf '\\x1e%d %%s\\x1e\\n' $?\n", i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", "exec 2>&1\n"+script.String())
	cmd.WaitDelay = patience // a server that outlives the shell holds its output
	cmd.Env = append(w.env, "ASK="+docAsk, "HELLO="+hello("2025-06-18"))
	out, err := cmd.CombinedOutput()
	rest := w.asPrinted(string(out))
	for i, c := range commands {
		mark := regexp.MustCompile(fmt.Sprintf("\x1e%d (\\d+)\x1e\n", i)).FindStringSubmatchIndex(rest)
		if mark == nil {
			t.Fatalf("%s: %s\ndid not end: %v\n%s", c.where(), c.text, err, rest)
		}
		got, status := rest[:mark[0]], rest[mark[2]:mark[3]]
		rest = rest[mark[1]:]
		switch {
		case strings.HasPrefix(c.text, "mcp-sandbox serve") && !strings.Contains(c.text, "--transport http"):
			if status != "0" || !strings.Contains(got, `"serverInfo"`) {
				t.Errorf("%s: %s\nserves nobody (status %s):\n%s", c.where(), c.text, status, got)
			}
		case c.shown != nil:
			shownAs(t, c, got)
		case status != "0":
			t.Errorf("%s: %s\nends with status %s:\n%s", c.where(), c.text, status, got)
		}
	}
}

// playDocs makes the calls of a block of calls: the first line starts the server.
func playDocs(t *testing.T, w docWorld, commands []docCommand) {
	cmd := exec.Command("bash", "-c", "cd && exec "+strings.ReplaceAll(commands[0].text, "8765", strconv.Itoa(w.port)))
	cmd.Env = w.env
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReaderSize(out, 1<<20)
	ask := func(id int, method string, params any) json.RawMessage {
		request, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
		if _, err := in.Write(append(request, '\n')); err != nil {
			t.Fatal(err)
		}
		for {
			text, err := lines.ReadBytes('\n')
			if err != nil {
				t.Fatalf("%s: no answer: %v", commands[0].where(), err)
			}
			var m struct {
				ID     *int
				Result json.RawMessage
			}
			if err := json.Unmarshal(text, &m); err == nil && m.ID != nil && *m.ID == id {
				return m.Result
			}
		}
	}
	ask(1, "initialize", map[string]any{"protocolVersion": "2025-06-18", "capabilities": map[string]any{}, "clientInfo": map[string]any{"name": "docs", "version": "1"}})
	session := regexp.MustCompile(`session ID (\d+)`)
	ids := map[string]string{} // as the page has them, and as they are
	for i, c := range commands[1:] {
		tool, args, _ := strings.Cut(c.text, " ")
		for printed, is := range ids {
			args = strings.ReplaceAll(args, printed, is)
		}
		var r toolResult
		if err := json.Unmarshal(ask(i+2, "tools/call", map[string]any{"name": tool, "arguments": json.RawMessage(args)}), &r); err != nil {
			t.Fatal(err)
		}
		got := w.asPrinted(r.text())
		if was, is := session.FindStringSubmatch(strings.Join(c.shown, "\n")), session.FindStringSubmatch(got); was != nil && is != nil {
			ids[was[1]] = is[1]
			got = strings.ReplaceAll(got, is[1], was[1])
		}
		shownAs(t, c, got)
	}
	_ = in.Close()
	_, _ = io.Copy(io.Discard, lines)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("the server ended with %v", err)
		}
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		t.Error("the server did not end with its input")
	}
}
