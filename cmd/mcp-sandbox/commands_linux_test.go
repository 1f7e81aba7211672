package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestReturnsOnInput: a call comes back when the program has taken what was typed
// and waits for more, with everything it had to say. The yield is longer than
// the test may take, so that only that can have ended the call.
func TestReturnsOnInput(t *testing.T) {
	const long = 45_000
	c := startServer(t)
	c.initialize("2025-11-25")
	for _, mode := range []string{"tty", "keep_stdin"} {
		t.Run(mode, func(t *testing.T) {
			res := c.ok("exec_command", map[string]any{
				"cmd": `printf '? '; while read x; do sleep 0.3; printf 'got %s\n? ' "$x"; done`, mode: true, "yield_time_ms": long,
			})
			o := outcome(t, res)
			if o.Output != "? " || !strings.Contains(res.text(), "(waits for input)") {
				t.Fatalf("%q", res.text())
			}
			for i := range 10 {
				res = c.ok("write_stdin", map[string]any{"session_id": o.SessionID, "chars": fmt.Sprintf("%d\n", i), "yield_time_ms": long})
				if got := outcome(t, res).Output; !strings.HasSuffix(got, fmt.Sprintf("got %d", i)+ends(mode)+"? ") {
					t.Fatalf("line %d: %q", i, got)
				}
			}
			// An empty poll of what waits says so at once.
			if res = c.ok("write_stdin", map[string]any{"session_id": o.SessionID, "yield_time_ms": long}); !strings.Contains(res.text(), "(waits for input)") {
				t.Errorf("%q", res.text())
			}
			if got := outcome(t, c.ok("write_stdin", map[string]any{"session_id": o.SessionID, "close": true, "yield_time_ms": long})); got.ExitCode == nil {
				t.Errorf("%+v", got)
			}
		})
	}
}

func ends(mode string) string {
	if mode == "tty" {
		return "\r\n"
	}
	return "\n"
}

// TestPollIsQuiet: a poll does not end on mere output.
func TestPollIsQuiet(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	o := c.exec(map[string]any{"cmd": "for i in $(seq 20); do echo line $i; sleep 0.1; done", "yield_time_ms": 250})
	if o.SessionID == nil {
		t.Fatalf("%+v", o)
	}
	if o = outcome(t, c.ok("write_stdin", map[string]any{"session_id": o.SessionID, "yield_time_ms": 45_000})); o.ExitCode == nil || !strings.HasSuffix(o.Output, "line 20\n") {
		t.Errorf("%+v", o)
	}
}

func TestWaitFor(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	const long = 45_000
	for _, tc := range []struct {
		name, cmd, pattern string
		tty                bool
		want               string
	}{
		{"text", "echo starting; sleep 0.3; echo ready on 80; sleep 1000", `(?m)^ready on \d+$`, false, "ready on 80"},
		{"colours", `printf '\033[32mrea\033[1mdy\033[0m\r\n'; sleep 1000`, "ready", true, "rea"},
		{"split write", "printf rea; sleep 0.2; printf 'dy\n'; sleep 1000", "ready", false, "ready"},
		{"last words", "sleep 0.2; printf ready", "ready", false, "ready"},
		{"flood before", "head -c 3000000 /dev/zero | tr '\\0' x; echo ready; sleep 1000", "ready", false, "ready"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res := c.ok("exec_command", map[string]any{"cmd": tc.cmd, "wait_for": tc.pattern, "tty": tc.tty, "yield_time_ms": long})
			if o := outcome(t, res); !strings.Contains(res.text(), "wait_for was met") || !strings.Contains(o.Output, tc.want) {
				t.Errorf("%.300q", res.text())
			}
		})
	}
	if res := c.ok("exec_command", map[string]any{"cmd": "echo other", "wait_for": "ready", "yield_time_ms": long}); !strings.Contains(res.text(), "wait_for was not met") {
		t.Errorf("%q", res.text())
	}
	for _, bad := range []string{"(", "port:", "port:0", "port:65536", "port:x"} {
		c.bad("invalid_argument", "exec_command", map[string]any{"cmd": "true", "wait_for": bad})
	}
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		return // nothing may listen there
	}
	needPrograms(t, "python3")
	res := c.ok("exec_command", map[string]any{"cmd": "sleep 0.3; exec python3 -m http.server 8130 --bind 127.0.0.1", "wait_for": "port:8130", "yield_time_ms": long})
	if !strings.Contains(res.text(), "wait_for was met") || !strings.Contains(res.text(), "can allow one with --expose") {
		t.Errorf("%q", res.text())
	}
	if text := c.ok("session_info", nil).text(); !strings.Contains(text, "inside this session only; the operator can allow one with --expose") {
		t.Errorf("session_info: %s", text)
	}
	c = startServer(t, "--expose", "any")
	c.initialize("2025-11-25")
	res = c.ok("exec_command", map[string]any{"cmd": "exec python3 -m http.server 8130 --bind 127.0.0.1", "wait_for": "port:8130", "yield_time_ms": long})
	if text := c.ok("session_info", nil).text(); strings.Contains(res.text()+text, "can allow one") || !strings.Contains(res.text(), "wait_for was met") {
		t.Errorf("with --expose: %s %s", res.text(), text)
	}
}

// TestWaitForBesideInput: a server that takes keys is not taken to wait for them
// before it listens, a prompt ends the wait, and a doubtful one is told at its end.
func TestWaitForBesideInput(t *testing.T) {
	needPrograms(t, "python3")
	c := startServer(t)
	c.initialize("2025-11-25")
	const long = 45_000
	res := c.ok("exec_command", map[string]any{"cmd": "read -p '? ' x", "tty": true, "wait_for": "never", "yield_time_ms": long})
	if !strings.Contains(res.text(), "(waits for input)") || !strings.Contains(res.text(), "wait_for was not met") {
		t.Errorf("%q", res.text())
	}
	for _, cmd := range []string{
		`(sleep 1; echo is up; sleep 1000) & read x`,
		`python3 -c 'import select, time; select.select([0], [], [], 1.5); print("is up", flush=True); time.sleep(1000)'`,
	} {
		res = c.ok("exec_command", map[string]any{"cmd": cmd, "tty": true, "wait_for": "is up", "yield_time_ms": long})
		if strings.Contains(res.text(), "(waits for input)") || !strings.Contains(res.text(), "wait_for was met") {
			t.Errorf("%q", res.text())
		}
	}
	res = c.ok("exec_command", map[string]any{"cmd": "sleep 1000 & read x", "tty": true, "wait_for": "never", "yield_time_ms": 2000})
	id := outcome(t, res).SessionID
	waitFor(t, "a note that it waits for input", func() bool {
		if strings.Contains(res.text(), "(waits for input)") {
			return true
		}
		res = c.ok("write_stdin", map[string]any{"session_id": id, "chars": "", "wait_for": "never", "yield_time_ms": 2000})
		return false
	})
}

// TestWaitForIsNotMetByTheEcho: what was typed is not an answer to it.
func TestWaitForIsNotMetByTheEcho(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	for _, cmd := range []string{"while read x; do sleep 0.5; eval \"$x\"; done", "bash --norc -i", "stty -echo; printf ready; read x; sleep 0.5; eval \"$x\""} {
		id := outcome(t, c.ok("exec_command", map[string]any{"cmd": cmd, "tty": true, "yield_time_ms": 45_000})).SessionID
		res := c.ok("write_stdin", map[string]any{"session_id": id, "chars": "sleep 0.5; echo DONE; sleep 1000\r", "wait_for": "DONE", "yield_time_ms": 45_000})
		if o := outcome(t, res).Output; !strings.Contains("\n"+o, "\nDONE") || !strings.Contains(res.text(), "wait_for was met") {
			t.Errorf("%s: %q", cmd, res.text())
		}
	}
}

// TestKeysByPolling: a line editor that looks for keys ten times a second, as
// Python's since 3.13, waits for a line; a spinner that does so does not.
func TestKeysByPolling(t *testing.T) {
	needPrograms(t, "python3")
	c := startServer(t)
	c.initialize("2025-11-25")
	const long, short = 45_000, 2_000
	const begin = "import os, select, subprocess, tty\ntty.setcbreak(0)\ndef keys(): return select.select([0], [], [], 0.1)[0]\n"
	write := func(name, body string) string {
		c.ok("write_file", map[string]any{"path": name, "content": begin + body})
		return "python3 " + name
	}
	res := c.ok("exec_command", map[string]any{"tty": true, "yield_time_ms": long, "cmd": write("editor.py", `
while True:
    os.write(1, b"\x1b[?2004h> ")
    line = b""
    while not line.endswith(b"\n"):
        if keys():
            line += os.read(0, 1)
    os.write(1, b"\x1b[?2004l" + line.upper())
`)})
	id := outcome(t, res).SessionID
	for _, word := range []string{"one", "two", "three"} {
		if !strings.Contains(res.text(), "(waits for input)") || id == nil {
			t.Fatalf("%q", res.text())
		}
		res = c.ok("write_stdin", map[string]any{"session_id": id, "chars": word + "\r", "yield_time_ms": long})
		if o := outcome(t, res).Output; !strings.Contains(o, strings.ToUpper(word)) || !strings.HasSuffix(o, "> ") {
			t.Errorf("%q", o)
		}
	}
	for _, tc := range []struct {
		name, body string
		waits      bool
	}{
		{"quiet", "while True: keys()", true},
		{"spinner", "while not keys(): os.write(1, b'.')", false},
		{"spinner that takes pastes", "os.write(1, b'\\x1b[?2004h\\x1b[?25l')\nwhile not keys(): os.write(1, b'.')", false},
		{"children", "while not keys(): subprocess.run(['true'])", false},
		{"processor", "while not keys():\n    for _ in range(300000): pass", false},
		{"lines", "tty.tcsetattr(0, tty.TCSANOW, old)\nwhile not keys(): pass", false},
	} {
		body := tc.body
		if tc.name == "lines" {
			body = "import termios\nold = termios.tcgetattr(0)\nold[3] |= termios.ICANON\n" + body
		}
		yield := short
		if tc.waits {
			yield = long
		}
		res := c.ok("exec_command", map[string]any{"tty": true, "yield_time_ms": yield, "cmd": write("poll.py", body)})
		if got := strings.Contains(res.text(), "(waits for input)"); got != tc.waits {
			t.Errorf("%s: %q", tc.name, res.text())
		}
	}
}

// TestBackground: what an ended command left behind is named, and so is what a
// full table could end.
func TestBackground(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	res := c.ok("exec_command", map[string]any{"cmd": "sleep 1000 >/dev/null 2>&1 & echo $!"})
	o := outcome(t, res)
	if o.SessionID == nil || !strings.Contains(res.text(), "sleep pid "+strings.TrimSpace(o.Output)) {
		t.Fatalf("%q", res.text())
	}
	list := c.ok("list_processes", nil).text()
	if !strings.Contains(list, fmt.Sprintf("%d background (exited 0; sleep pid %s)", *o.SessionID, strings.TrimSpace(o.Output))) {
		t.Errorf("%q", list)
	}
	for range 63 {
		c.ok("exec_command", map[string]any{"cmd": "sleep 1000 &"})
	}
	if text := c.bad("limit_reached", "exec_command", map[string]any{"cmd": "true"}); !strings.Contains(text, fmt.Sprint(*o.SessionID)) {
		t.Errorf("%q", text)
	}
	c.ok("kill_process", map[string]any{"session_id": o.SessionID})
	c.sh("true")
}

// TestShell: the shell is bash where it exists, and the one that is set.
func TestShell(t *testing.T) {
	needPrograms(t, "bash")
	for _, tc := range []struct {
		args []string
		want string
	}{{nil, "bash"}, {[]string{"--shell", "sh"}, "sh"}, {[]string{"--shell", "/bin/bash"}, "/bin/bash"}} {
		c := startServer(t, tc.args...)
		c.initialize("2025-11-25")
		if got := c.sh("echo $0"); got != tc.want+"\n" {
			t.Errorf("%v runs %q", tc.args, got)
		}
		if list := string(c.request("tools/list", map[string]any{}).Result); !strings.Contains(list, "in a new "+tc.want+" in the workspace") {
			t.Errorf("%v: the description does not name %s", tc.args, tc.want)
		}
	}
	c := startServer(t)
	c.initialize("2025-11-25")
	for cmd, want := range map[string]string{
		`echo 'x\ny'`:                    "x\\ny\n",
		`echo {a,b}`:                     "a b\n",
		`[ x == x ] && echo same`:        "same\n",
		`cat <<< word`:                   "word\n",
		`false | true; echo $PIPESTATUS`: "1\n",
		"cat <<'EOF'\r\nline\r\nEOF\r\n": "line\n",
	} {
		if got := c.sh(cmd); got != want {
			t.Errorf("%q: %q, want %q", cmd, got, want)
		}
	}
	if o := c.exec(map[string]any{"argv": []string{"printf", "%s|", "a b", "$HOME"}}); o.Output != "a b|$HOME|" {
		t.Errorf("argv: %q", o.Output)
	}
	for _, bad := range []map[string]any{
		{}, {"cmd": ""}, {"argv": []string{}}, {"cmd": "true", "argv": []string{"true"}}, {"argv": []string{"true"}, "login": true},
		{"argv": []any{1}}, {"cmd": "true", "shell": "bash -x"}, {"cmd": "true", "shell": "./bash"},
	} {
		c.bad("invalid_argument", "exec_command", bad)
	}
}

// TestTextForTheModel: no control character reaches a result, the last frame of
// a progress line does, and what was written stays readable.
func TestTextForTheModel(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	for _, tty := range []bool{false, true} {
		res := c.ok("exec_command", map[string]any{
			"cmd": `printf 'a\0b\033[31mred\033[0m\033]52;c;aGk=\a\n'; for i in 1 2 3; do printf '\r%d%%' $i; done; echo`, "tty": tty,
		})
		o := outcome(t, res)
		if strings.ContainsFunc(res.text(), func(r rune) bool { return r < 0x20 && r != '\n' && r != '\r' || r == 0x7f }) ||
			!strings.HasPrefix(o.Output, `a\x00bred`) || strings.Contains(o.Output, "1%") || !strings.Contains(o.Output, "3%") {
			t.Errorf("tty %v: %q", tty, res.text())
		}
		raw := c.ok("read_output", map[string]any{"output_id": o.OutputID, "raw": true}).text()
		if !strings.Contains(raw, `a\x00b\x1b[31mred`) || !strings.Contains(raw, "1%") {
			t.Errorf("tty %v: raw %q", tty, raw)
		}
	}
	for _, budget := range []int{1, 10, 50, 100} {
		o := c.exec(map[string]any{"cmd": "seq 1000", "max_output_tokens": budget})
		if !strings.HasPrefix(o.Output, "1\n") || !strings.HasSuffix(o.Output, "1000\n") || !strings.Contains(o.Output, "cut") {
			t.Errorf("%d tokens: %q", budget, o.Output)
		}
	}
	o := c.exec(map[string]any{"cmd": `head -c 2000000 /dev/zero | tr '\0' x; printf NEEDLE; head -c 2000000 /dev/zero | tr '\0' y; echo END`})
	if text := c.ok("read_output", map[string]any{"output_id": o.OutputID, "pattern": "xNEEDLEy"}).text(); !strings.Contains(text, "xNEEDLEy") {
		t.Errorf("%.200q", text)
	}
	if text := c.ok("read_output", map[string]any{"output_id": o.OutputID, "byte_offset": 1999999, "byte_limit": 8}).text(); !strings.HasSuffix(text, "\nxNEEDLEy") {
		t.Errorf("%.200q", text)
	}
	c.bad("invalid_argument", "read_output", map[string]any{"output_id": o.OutputID, "byte_offset": 0, "offset": 3})
}

// needPrograms skips, and says so, unless the programs are there. CI wants all.
func needPrograms(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			if os.Getenv("MCP_SANDBOX_TEST_NOSKIP") == "1" {
				t.Fatal(err)
			}
			t.Skipf("%s is not installed", n)
		}
	}
}

// TestShortProgramsAreNotInput: programs that come and go after the input was
// taken are neither waited for as readers nor taken for what cannot be seen.
func TestShortProgramsAreNotInput(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	for i := range 40 {
		mode := []string{"tty", "keep_stdin"}[i%2]
		o := c.exec(map[string]any{"cmd": `read x; wc -c < /dev/null; echo "$x"; echo "$(ls / | grep -c .)" | cat; (exit 7)`, mode: true, "yield_time_ms": 45_000})
		if o.SessionID == nil {
			t.Fatalf("%+v", o)
		}
		if o = outcome(t, c.ok("write_stdin", map[string]any{"session_id": *o.SessionID, "chars": "in\n", "yield_time_ms": 45_000})); o.ExitCode == nil || *o.ExitCode != 7 {
			t.Errorf("%d, %s: %+v", i, mode, o)
		}
	}
}
