package ptyproc

import (
	"bytes"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// cookedLine is what a terminal in canonical mode keeps of one line before
	// its end; it drops the rest, termios(3).
	cookedLine = 4095
	// escapePause is longer than editors and shells wait after an Escape for the
	// rest of a sequence (vim 100 ms, readline none by default).
	escapePause = 150 * time.Millisecond
)

// inputPart is what is written at once, and how long to wait before the next.
type inputPart struct {
	data  []byte
	pause time.Duration
}

// typed is what a Write sends to a terminal: its text, then its keys.
func (p *process) typed(r WriteRequest) []inputPart {
	application := p.screen.applicationCursor()
	text := r.Chars
	if application {
		text = forApplication(text)
	}
	parts := []inputPart{{data: append([]byte(nil), text...)}}
	if len(r.Keys) > 0 && bytes.HasSuffix(text, []byte{0x1b}) {
		parts[0].pause = escapePause
		parts = append(parts, inputPart{})
	}
	for _, k := range r.Keys {
		last := &parts[len(parts)-1]
		last.data = append(last.data, k.bytes(application)...)
		if k.alone() {
			last.pause = escapePause
			parts = append(parts, inputPart{})
		}
	}
	last := &parts[len(parts)-1]
	if r.Close {
		last.data = append(last.data, typedEnd(last.data)[len(last.data):]...)
	}
	if len(last.data) == 0 && len(parts) > 1 {
		parts = parts[:len(parts)-1]
		parts[len(parts)-1].pause = 0
	}
	return parts
}

// noticeLine tells of a line that is longer than the terminal takes. What was
// typed of it by earlier calls counts. The caller holds p.writing.
func (p *process) noticeLine(data []byte) string {
	if !p.canonical() {
		p.lineTyped = 0
		return ""
	}
	longest := 0
	for len(data) > 0 {
		end := bytes.IndexAny(data, "\n\r\x03\x04\x15\x1c")
		if end < 0 {
			p.lineTyped += len(data)
			longest = max(longest, p.lineTyped)
			break
		}
		longest = max(longest, p.lineTyped+end)
		p.lineTyped, data = 0, data[end+1:]
	}
	if longest <= cookedLine {
		return ""
	}
	return fmt.Sprintf("a line of %d bytes was typed, of which the terminal keeps %d and drops the rest; send shorter lines, or start the command with keep_stdin instead of tty", longest, cookedLine)
}

// canonical says that the terminal hands over whole lines.
func (p *process) canonical() bool {
	t := p.termios()
	return t != nil && t.Lflag&unix.ICANON != 0
}

// termios is nil where it cannot be read.
func (p *process) termios() (t *unix.Termios) {
	f := p.child.Stdin()
	if f == nil {
		return nil
	}
	rc, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	_ = rc.Control(func(fd uintptr) {
		if got, err := unix.IoctlGetTermios(int(fd), ioctlGetTermios); err == nil {
			t = got
		}
	})
	return t
}

// longestEcho is how much typed text is looked for in the output.
const longestEcho = 1024

// echoOf is the text that the terminal, or a line editor on it, will show as it
// was typed; nil when it shows nothing or something else.
func (p *process) echoOf(chars []byte) []byte {
	if !p.tty || len(chars) > longestEcho || bytes.ContainsFunc(chars, func(r rune) bool { return r < ' ' && r != '\r' && r != '\n' || r == 0x7f }) {
		return nil
	}
	if t := p.termios(); t == nil || t.Lflag&(unix.ICANON|unix.ECHO) == unix.ICANON {
		return nil
	}
	return chars
}

// withoutEcho takes the first showing of each typed line out of text, also when
// it has not come whole.
func withoutEcho(text, typed []byte) []byte {
	var out []byte
	for _, line := range bytes.FieldsFunc(typed, func(r rune) bool { return r == '\r' || r == '\n' }) {
		head, rest, found := bytes.Cut(text, line)
		if !found {
			part := min(len(text), len(line)-1)
			for part > 0 && !bytes.HasSuffix(text, line[:part]) {
				part--
			}
			return append(out, text[:len(text)-part]...)
		}
		out, text = append(out, head...), rest
	}
	return append(out, text...)
}

// pipeKey is a byte that a terminal acts on, and what to do without one.
type pipeKey struct {
	char         byte
	name, advice string
}

var (
	signalKeys = []pipeKey{
		{0x03, `\u0003`, "kill_process signal INT"},
		{0x1c, `\u001c`, "kill_process signal QUIT"},
		{0x1a, `\u001a`, "kill_process signal TSTP"},
	}
	keysOnPipe = append(signalKeys[:len(signalKeys):len(signalKeys)], pipeKey{0x04, `\u0004`, "write_stdin close"})
)

// signalKey is the first in chars that would send a signal on a terminal.
func signalKey(chars []byte) *pipeKey {
	for i := range signalKeys {
		if bytes.IndexByte(chars, signalKeys[i].char) >= 0 {
			return &signalKeys[i]
		}
	}
	return nil
}

// noticePipe tells that a control character does nothing on a pipe.
func noticePipe(chars []byte) string {
	for _, k := range keysOnPipe {
		if bytes.IndexByte(chars, k.char) >= 0 {
			return fmt.Sprintf("%s is only a byte without a terminal; use %s", k.name, k.advice)
		}
	}
	return ""
}
