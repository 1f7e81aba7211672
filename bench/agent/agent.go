package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// agent works a task as a model would that reads each result: it goes on when the
// result shows what it needs, else looks or waits with another call.
type agent struct {
	hands
	ctx context.Context
	// calls are what is counted; quiet ones, of setting up and checking, are not.
	calls int
	quiet bool
}

// mostLooks ends a task whose program does not get on.
const mostLooks = 100

func (a *agent) count() {
	if !a.quiet {
		a.calls++
	}
}

// taskError ends a task.
type taskError struct{ error }

func fail(format string, args ...any) { panic(taskError{fmt.Errorf(format, args...)}) }

func (a *agent) check(err error) {
	if err != nil {
		panic(taskError{err})
	}
}

// do runs a task and gives why it could not be done.
func (a *agent) do(task func(*agent)) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case taskError:
			err = r.error
		default:
			panic(r)
		}
	}()
	task(a)
	return nil
}

// quietly makes calls that do not count.
func (a *agent) quietly(f func()) {
	a.quiet = true
	defer func() { a.quiet = false }()
	f()
}

// program is a running command.
type program struct {
	a    *agent
	id   int
	tty  bool
	last turn
}

func (a *agent) open(cmd string, o startOptions) *program {
	a.count()
	t, err := a.start(a.ctx, cmd, o)
	a.check(err)
	return &program{a, t.id, o.tty, t}
}

// run runs a command to its end and gives its output.
func (a *agent) run(cmd string) string {
	return a.open(cmd, startOptions{}).finish()
}

// finish waits for the end.
func (p *program) finish() string {
	var all strings.Builder
	all.WriteString(p.last.text)
	for n := 0; !p.last.ended; n++ {
		if n == mostLooks {
			fail("it did not end")
		}
		all.WriteString(p.look().text)
	}
	return all.String()
}

func (p *program) look() turn {
	p.a.count()
	t, err := p.a.poll(p.a.ctx, p.id)
	p.a.check(err)
	p.last = t
	return t
}

// shows waits until a result has one of the texts, and tells which. On a terminal
// a model looks at the screen before it waits.
func (p *program) shows(want ...string) int {
	for n := 0; ; n++ {
		if at := shown(p.last.text, want); at >= 0 {
			return at
		}
		if n == mostLooks || p.last.ended {
			fail("no %q in %q", want[0], tailOf(p.last.text))
		}
		if p.tty && strings.Contains(p.last.text, "\x1b[") {
			p.a.count()
			s, err := p.a.screen(p.a.ctx, p.id)
			p.a.check(err)
			if at := shown(s, want); at >= 0 {
				return at
			}
		}
		p.look()
	}
}

func shown(text string, want []string) int {
	return slices.IndexFunc(want, func(w string) bool { return strings.Contains(text, w) })
}

// enter types a line, and waits until a result shows what it should.
func (p *program) enter(line string, want ...string) {
	p.a.count()
	t, err := p.a.hands.enter(p.a.ctx, p.id, line)
	p.sent(t, err, want)
}

// press types keys.
func (p *program) press(keys string, want ...string) {
	p.a.count()
	t, err := p.a.hands.press(p.a.ctx, p.id, keys)
	p.sent(t, err, want)
}

func (p *program) sent(t turn, err error, want []string) {
	p.a.check(err)
	p.last = t
	if len(want) > 0 {
		p.shows(want...)
	}
}

func (a *agent) readFile(path string) string {
	a.count()
	s, err := a.read(a.ctx, path)
	a.check(err)
	return s
}

func (a *agent) editFile(path, old, new string) {
	a.count()
	a.check(a.edit(a.ctx, path, old, new))
}

func (a *agent) expect(text, want string) {
	if !strings.Contains(text, want) {
		fail("no %q in %q", want, tailOf(text))
	}
}

// ask runs a quick command, again when its output is not there.
func (a *agent) ask(cmd, want string) {
	var text string
	for range 3 {
		if text = a.run(cmd); strings.Contains(text, want) {
			return
		}
	}
	a.expect(text, want)
}

// repl opens a program that asks for lines, on a terminal where there is one.
func (a *agent) repl(cmd string) *program {
	return a.open(cmd, startOptions{tty: a.terminal()})
}

func tailOf(s string) string { return s[max(0, len(s)-200):] }
