package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestKeys: what a key types follows the mode of the terminal, also when its
// sequence is typed as text, and an Escape is a key of its own.
func TestKeys(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	for _, tc := range []struct {
		name, mode string
		input      map[string]any
		want       string
	}{
		{"normal", "", map[string]any{"keys": []string{"Up", "F2", "C-c", "Enter"}}, "1b5b411b4f51030d"},
		{"application", `\033[?1h`, map[string]any{"keys": []string{"Up", "End", "PageUp"}}, "1b4f411b4f461b5b357e"},
		{"typed in application mode", `\033[?1h`, map[string]any{"chars": "\x1b[Bx\x1b[3~"}, "1b4f42781b5b337e"},
		{"typed in normal mode", `\033[?1h\033[?1l`, map[string]any{"chars": "\x1b[Bx"}, "1b5b4278"},
		{"text, then keys", "", map[string]any{"chars": "ab", "keys": `["Escape", "b", "Tab"]`}, "61621b6209"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := len(tc.want) / 2
			o := c.exec(map[string]any{"cmd": fmt.Sprintf("stty raw -echo; printf '%s'; printf up; head -c %d | od -An -tx1", tc.mode, n), "tty": true, "yield_time_ms": 45_000})
			if o.SessionID == nil {
				t.Fatalf("%+v", o)
			}
			tc.input["session_id"], tc.input["yield_time_ms"] = *o.SessionID, 45_000
			if got := outcome(t, c.ok("write_stdin", tc.input)).Output; strings.Join(strings.Fields(got), "") != tc.want {
				t.Errorf("%q, want %s", got, tc.want)
			}
		})
	}
	o := c.exec(map[string]any{"cmd": "cat", "tty": true, "yield_time_ms": 45_000})
	c.bad("invalid_argument", "write_stdin", map[string]any{"session_id": *o.SessionID, "keys": []string{"Sideways"}})
	c.bad("invalid_argument", "write_stdin", map[string]any{"session_id": *o.SessionID, "keys": []any{1}})
	c.ok("kill_process", map[string]any{"session_id": *o.SessionID})
}

// TestResize: a running terminal takes a new size, and its program is told.
func TestResize(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	// Shells lose a signal that meets its own trap, so the trap is short.
	o := c.exec(map[string]any{"cmd": "trap told=1 WINCH; echo up; while :; do sleep 0.05; test -z $told || { told=; stty size; }; done", "tty": true, "wait_for": "up", "yield_time_ms": 45_000})
	if o.SessionID == nil {
		t.Fatalf("%+v", o)
	}
	for _, tc := range []struct {
		size map[string]any
		want string
	}{{map[string]any{"cols": 90, "rows": 20}, "20 90"}, {map[string]any{"cols": 70}, "20 70"}, {map[string]any{"rows": 10}, "10 70"}} {
		tc.size["session_id"], tc.size["wait_for"], tc.size["yield_time_ms"] = *o.SessionID, tc.want, 45_000
		if res := c.ok("write_stdin", tc.size); !strings.Contains(res.text(), "wait_for was met") {
			t.Errorf("%s: %q", tc.want, res.text())
		}
	}
	for _, bad := range []map[string]any{{"cols": 0}, {"cols": 501}, {"rows": 201}, {"rows": -1}} {
		bad["session_id"] = *o.SessionID
		c.bad("invalid_argument", "write_stdin", bad)
	}
	c.ok("kill_process", map[string]any{"session_id": *o.SessionID})
}

// TestWithoutTerminal: what only a terminal does is refused without one, with
// what to use instead.
func TestWithoutTerminal(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	closed := c.exec(map[string]any{"cmd": "sleep 1000", "yield_time_ms": 250})
	open := c.exec(map[string]any{"cmd": "cat | od -An -tx1", "keep_stdin": true, "yield_time_ms": 45_000})
	if closed.SessionID == nil || open.SessionID == nil {
		t.Fatalf("%+v %+v", closed, open)
	}
	for _, tc := range []struct {
		code string
		id   int
		args map[string]any
		want string
	}{
		{"stdin_closed", *closed.SessionID, map[string]any{"chars": "\x03"}, "kill_process signal INT"},
		{"stdin_closed", *closed.SessionID, map[string]any{"chars": "\x1a"}, "kill_process signal TSTP"},
		{"stdin_closed", *closed.SessionID, map[string]any{"chars": "x"}, "keep_stdin"},
		{"invalid_argument", *open.SessionID, map[string]any{"keys": []string{"C-c"}}, "kill_process signal INT"},
		{"invalid_argument", *open.SessionID, map[string]any{"cols": 80}, "tty"},
	} {
		tc.args["session_id"] = tc.id
		if text := c.bad(tc.code, "write_stdin", tc.args); !strings.Contains(text, tc.want) {
			t.Errorf("%v: %q", tc.args, text)
		}
	}
	if text := c.ok("write_stdin", map[string]any{"session_id": *open.SessionID, "chars": "\x03"}).text(); !strings.Contains(text, "kill_process signal INT") {
		t.Errorf("%q", text)
	}
	if o := outcome(t, c.ok("write_stdin", map[string]any{"session_id": *open.SessionID, "close": true, "yield_time_ms": 45_000})); strings.TrimSpace(o.Output) != "03" {
		t.Errorf("what was written is %q", o.Output)
	}
	c.ok("kill_process", map[string]any{"session_id": *closed.SessionID})
}

// TestLongLineIsTold: a terminal in line mode drops what is beyond 4,095 bytes of
// a line, which is told however the line was typed.
func TestLongLineIsTold(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	const note = "the terminal keeps 4095"
	for _, tc := range []struct {
		name, stty string
		typed      []string
		told       bool
	}{
		{"fits", "-echo", []string{strings.Repeat("x", 4095) + "\n"}, false},
		{"too long", "-echo", []string{strings.Repeat("x", 4096) + "\n"}, true},
		{"in two calls", "-echo", []string{strings.Repeat("x", 4000), strings.Repeat("x", 4000) + "\n"}, true},
		{"many lines", "-echo", []string{strings.Repeat(strings.Repeat("x", 100)+"\n", 30)}, false},
		{"no line mode", "-icanon -echo", []string{strings.Repeat("x", 5000) + "\n"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := c.exec(map[string]any{"cmd": "stty " + tc.stty + "; printf up; while read -r x; do printf '%s.' ${#x}; done", "tty": true, "yield_time_ms": 45_000})
			if o.SessionID == nil {
				t.Fatalf("%+v", o)
			}
			told := false
			for _, chars := range tc.typed {
				res := c.ok("write_stdin", map[string]any{"session_id": *o.SessionID, "chars": chars, "yield_time_ms": 2000})
				told = told || strings.Contains(res.text(), note)
			}
			if told != tc.told {
				t.Errorf("told: %v", told)
			}
			c.ok("kill_process", map[string]any{"session_id": *o.SessionID})
		})
	}
}

// TestLastScreen: what a terminal showed at its end can still be read.
func TestLastScreen(t *testing.T) {
	c := startServer(t)
	c.initialize("2025-11-25")
	o := c.exec(map[string]any{"cmd": `printf '\033[2J\033[2;3Hlast words\n'; read x`, "tty": true, "yield_time_ms": 45_000})
	if o.SessionID == nil {
		t.Fatalf("%+v", o)
	}
	c.ok("write_stdin", map[string]any{"session_id": *o.SessionID, "keys": []string{"Enter"}, "yield_time_ms": 45_000})
	if text := c.ok("read_screen", map[string]any{"session_id": *o.SessionID}).text(); !strings.Contains(text, "  last words") {
		t.Errorf("%q", text)
	}
	c.ok("read_screen", map[string]any{"session_id": *o.SessionID, "format": "png"})
}
