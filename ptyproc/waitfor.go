package ptyproc

import (
	"bytes"
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"mcp-sandbox/sandbox"
)

// WaitFor is what a call waits for besides exit and input: a pattern in new
// output, or a port that something in the session listens on.
type WaitFor struct {
	pattern *regexp.Regexp
	port    int
}

// ParseWaitFor reads a regular expression (RE2) or "port:N". The pattern is
// looked for in output that no reply has carried yet, without control sequences
// and with LF as the only line end. "" is nil.
// Code: invalid_argument.
func ParseWaitFor(s string) (*WaitFor, error) {
	if s == "" {
		return nil, nil
	}
	if n, ok := strings.CutPrefix(s, "port:"); ok {
		port, err := strconv.Atoi(strings.TrimSpace(n))
		if err != nil || port < 1 || port > 65535 {
			return nil, errorf("invalid_argument", nil, "wait_for %q names no port; use port:1 to port:65535, or a pattern", shorten(s))
		}
		return &WaitFor{port: port}, nil
	}
	re, err := regexp.Compile(s)
	if err != nil {
		return nil, errorf("invalid_argument", err, "wait_for is not a regular expression (%s); use RE2 syntax or port:N", sandbox.OneLine(err.Error()))
	}
	return &WaitFor{pattern: re}, nil
}

// PortChild is a Child that knows the ports its session listens on.
type PortChild interface {
	// Listening reports whether a process of the session listens on a TCP port.
	Listening(ctx context.Context, port int) (bool, error)
}

const (
	// A pattern is matched against a window of the newest output.
	matchWindow = 64 << 10
	// Scans are at least this far apart, so that a flood costs little.
	scanEvery = 10 * time.Millisecond
	// The rest of the matching line mostly follows at once.
	matchQuiet = 20 * time.Millisecond
	matchMost  = 100 * time.Millisecond
	// The first look at ports, and the longest pause between two.
	portFirst = 5 * time.Millisecond
	portLast  = 100 * time.Millisecond
)

// matcher is one call's WaitFor. Its window is guarded by process.mu.
type matcher struct {
	p       *process
	pattern *regexp.Regexp
	window  []byte
	dirty   bool
	scanned time.Time
	met     time.Time // zero until matched
	echo    echo

	port  int
	child PortChild
	next  time.Time
	pause time.Duration
	begin time.Time
	spent time.Duration
}

// echo is what a call has typed, which is not an answer to it: it is left out of the
// output from the byte on where the output stood before.
type echo struct {
	typed []byte
	at    int
}

// watch begins to match; the matcher is nil without anything to wait for.
func (p *process) watch(w *WaitFor, typed echo, begin time.Time) (m *matcher, stop func()) {
	if w == nil {
		return nil, func() {}
	}
	m = &matcher{p: p, pattern: w.pattern, port: w.port, echo: typed, begin: begin, next: begin, pause: portFirst}
	if m.pattern == nil {
		m.child, _ = p.child.(PortChild)
		return m, func() {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	m.window, m.dirty = p.out.buf.last(p.out.buf.len()), true
	if p.errs != nil {
		m.window = append(m.window, p.errs.buf.last(p.errs.buf.len())...)
	}
	p.matchers = append(p.matchers, m)
	return m, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.matchers = slices.DeleteFunc(p.matchers, func(o *matcher) bool { return o == m })
	}
}

// feed takes new output. Needs p.mu.
func (m *matcher) feed(b []byte) {
	m.window = append(m.window, b...)
	m.dirty = true
	// What falls out of the window must have been looked at.
	if len(m.window) > 4*matchWindow {
		m.scan()
	}
}

// scan needs p.mu.
func (m *matcher) scan() {
	if !m.dirty {
		return
	}
	m.dirty, m.scanned = false, time.Now()
	at := min(m.echo.at, len(m.window))
	if m.met.IsZero() && m.pattern.Match(append(plainLines(m.window[:at]), withoutEcho(plainLines(m.window[at:]), m.echo.typed)...)) {
		m.met = m.scanned
	}
	if over := len(m.window) - matchWindow; over > 0 {
		m.echo = echo{}
		m.window = append([]byte(nil), m.window[over:]...)
	}
}

// plainLines is output as a pattern sees it.
func plainLines(b []byte) []byte {
	text := []byte(plainText(string(b)))
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
}

// check reports a match, or when to check again.
func (m *matcher) check(ctx context.Context, now time.Time) (met bool, at time.Time) {
	never := now.Add(time.Hour)
	switch {
	case m == nil:
		return false, never
	case m.pattern == nil:
		return m.checkPort(ctx, now)
	}
	m.p.mu.Lock()
	defer m.p.mu.Unlock()
	if m.met.IsZero() && m.dirty {
		if at := m.scanned.Add(scanEvery); now.Before(at) {
			return false, at
		}
		m.scan()
	}
	if m.met.IsZero() {
		return false, never
	}
	at = earlier(later(m.p.newest, m.begin).Add(matchQuiet), m.met.Add(matchMost))
	return !now.Before(at), at
}

// why explains a WaitFor that can never be met.
func (m *matcher) why() string {
	if m.pattern == nil && m.child == nil {
		return ": this platform does not tell which ports are in use; wait for a pattern"
	}
	return ""
}

// found reports a match in what has come by now.
func (m *matcher) found() bool {
	if m == nil || m.pattern == nil {
		return false
	}
	m.p.mu.Lock()
	defer m.p.mu.Unlock()
	m.scan()
	return !m.met.IsZero()
}

func (m *matcher) checkPort(ctx context.Context, now time.Time) (met bool, at time.Time) {
	if m.child == nil {
		return false, now.Add(time.Hour)
	}
	if now.Before(m.next) {
		return false, m.next
	}
	met, err := m.child.Listening(ctx, m.port)
	if err != nil {
		m.p.t.o.Log.Debug("ports not read", "error", err)
	}
	after := time.Now()
	m.spent += min(after.Sub(now), lookMost)
	m.next = later(after.Add(m.pause), m.begin.Add((m.spent-lookBurst)*lookShare))
	m.pause = min(2*m.pause, portLast)
	return met, m.next
}
