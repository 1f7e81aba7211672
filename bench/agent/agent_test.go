package main

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
)

// TestTwoTasks works two tasks on a real server.
func TestTwoTasks(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
	t.Chdir("..") // as the program is run
	r, err := measure(t.Context(), options{binary: os.Getenv("MCP_SANDBOX_TEST_BIN"), only: []string{"fix", "less"}, prompts: 1})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"fix": 3, "less": 4}
	for _, row := range r.rows {
		if c := row.cells[0]; c.err != nil || c.calls != want[row.name] || c.took <= 0 {
			t.Errorf("%s: %s, want %d calls", row.name, c, want[row.name])
		}
	}
	var b strings.Builder
	if err := r.write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| Task | mcp-sandbox |\n", "| less: a file of 1000 lines", "| 4 calls, ", "| bare terminal |"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

// scripted answers with turns given beforehand.
type scripted struct {
	hands
	turns []turn
	looks int
}

func (s *scripted) next() (turn, error) {
	if len(s.turns) == 0 {
		return turn{}, errors.New("no more turns")
	}
	t := s.turns[0]
	s.turns = s.turns[1:]
	return t, nil
}

func (s *scripted) start(context.Context, string, startOptions) (turn, error) { return s.next() }
func (s *scripted) enter(context.Context, int, string) (turn, error)          { return s.next() }
func (s *scripted) poll(context.Context, int) (turn, error)                   { return s.next() }
func (s *scripted) terminal() bool                                            { return true }
func (s *scripted) screen(context.Context, int) (string, error)               { s.looks++; return "menu", nil }

func TestAgentGoesOnWhenItSeesWhatItNeeds(t *testing.T) {
	s := &scripted{turns: []turn{
		{text: "", id: 1}, {text: "name? ", id: 1}, // a start that says nothing yet
		{text: "bob\r\n", id: 1}, {text: "hi bob", id: 1}, // an echo first
		{text: "\x1b[Hmen", id: 1}, // drawn
		{text: "bye", ended: true},
	}}
	a := &agent{hands: s, ctx: t.Context()}
	err := a.do(func(a *agent) {
		p := a.repl("ask")
		p.shows("name?")
		p.enter("bob", "hi bob")
		p.enter("m", "menu")
		a.quietly(func() { a.expect(p.finish(), "bye") })
	})
	if err != nil || a.calls != 6 || s.looks != 1 {
		t.Errorf("%d calls, %d looks, %v; want 6 and 1", a.calls, s.looks, err)
	}
	s.turns = []turn{{text: "other", ended: true}}
	if err := a.do(func(a *agent) { a.repl("ask").shows("name?") }); err == nil || !strings.Contains(err.Error(), `no "name?" in "other"`) {
		t.Errorf("got %v", err)
	}
}

func TestOptions(t *testing.T) {
	if _, err := measure(t.Context(), options{before: true}); err == nil || !strings.Contains(err.Error(), "-binary") {
		t.Errorf("got %v", err)
	}
	if _, err := measure(t.Context(), options{only: []string{"fly"}}); err == nil || !strings.Contains(err.Error(), `"fly"`) {
		t.Errorf("got %v", err)
	}
}
