package ptyproc

import (
	"strings"
	"time"
	"unicode"
)

// progress describes the process as it is now, to a call that has waited for
// elapsed.
func (p *process) progress(elapsed time.Duration) Progress {
	p.mu.Lock()
	tail, total := p.latest.buf.last(1024), p.out.total
	if p.errs != nil {
		total += p.errs.total
	}
	p.mu.Unlock()
	return Progress{Elapsed: elapsed, Bytes: total, LastLine: lastLine(tail)}
}

// lastLine is the newest line of b that shows something, without control
// sequences, at most 200 characters.
func lastLine(b []byte) string {
	const longest = 200
	var j joiner
	text := plainText(string(j.next(nil, b, true)))
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	for i := len(lines) - 1; i >= 0; i-- {
		line := strings.TrimSpace(lines[i])
		if line == "" {
			continue
		}
		if r := []rune(line); len(r) > longest {
			line = string(r[:longest])
		}
		return line
	}
	return ""
}

// plainText leaves out control characters other than line ends, and escape
// sequences in the plain forms programs use for progress: ESC [ ... letter and
// ESC ] ... BEL or ST.
func plainText(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); {
		if s[i] == 0x1b {
			i += escapeLen(s[i:])
			continue
		}
		if s[i] < 0x20 && s[i] != '\n' && s[i] != '\r' && s[i] != '\t' || s[i] == 0x7f {
			i++
			continue
		}
		out.WriteByte(s[i])
		i++
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' {
			return -1
		}
		return r
	}, out.String())
}

// escapeLen is the length of the escape sequence s starts with, at least 1.
func escapeLen(s string) int {
	if len(s) < 2 {
		return len(s)
	}
	switch s[1] {
	case '[':
		for i := 2; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
		}
		return len(s)
	case ']', 'P', '_', '^':
		for i := 2; i < len(s); i++ {
			if s[i] == 0x07 {
				return i + 1
			}
			if s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\' {
				return i + 2
			}
		}
		return len(s)
	}
	return 2
}
