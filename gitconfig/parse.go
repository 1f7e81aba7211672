package gitconfig

import (
	"fmt"
	"strings"
)

// parser walks a file once. Positions are bytes of the text.
type parser struct {
	f            *File
	s            string
	at           int
	section, sub string
}

func (p *parser) fail(what string) error {
	return fmt.Errorf("line %d: %s", 1+strings.Count(p.s[:p.at], "\n"), what)
}

func (p *parser) run() error {
	p.at = len(p.s) - len(strings.TrimPrefix(p.s, "\ufeff"))
	line := p.at // where the line began, as long as only blanks were on it
	for p.at < len(p.s) {
		switch c := p.s[p.at]; {
		case c == '\n':
			p.at++
			line = p.at
		case c == ' ' || c == '\t' || c == '\r':
			p.at++
		case c == '#' || c == ';':
			p.skipLine()
			line = p.at
		case c == '[':
			if err := p.header(); err != nil {
				return err
			}
			line = -1
		case letter(c):
			if p.section == "" {
				return p.fail("a variable stands before the first section")
			}
			if err := p.variable(line); err != nil {
				return err
			}
			line = p.at
		default:
			return p.fail("neither a section nor a variable")
		}
	}
	return nil
}

func (p *parser) skipLine() {
	if i := strings.IndexByte(p.s[p.at:], '\n'); i >= 0 {
		p.at += i + 1
	} else {
		p.at = len(p.s)
	}
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func word(c byte) bool { return letter(c) || c >= '0' && c <= '9' || c == '-' }

// header reads [section], [section "subsection"] or the old [section.subsection].
func (p *parser) header() error {
	p.at++
	start := p.at
	for p.at < len(p.s) && (word(p.s[p.at]) || p.s[p.at] == '.') {
		p.at++
	}
	section, sub, _ := strings.Cut(strings.ToLower(p.s[start:p.at]), ".")
	if section == "" {
		return p.fail("a section without a name")
	}
	space := p.at
	for p.at < len(p.s) && (p.s[p.at] == ' ' || p.s[p.at] == '\t') {
		p.at++
	}
	if p.at < len(p.s) && p.s[p.at] == '"' && p.at > space {
		p.at++
		var b strings.Builder
		for {
			if p.at >= len(p.s) || p.s[p.at] == '\n' {
				return p.fail("a subsection that does not end")
			}
			c := p.s[p.at]
			p.at++
			if c == '"' {
				break
			}
			if c == '\\' {
				if p.at >= len(p.s) || p.s[p.at] == '\n' {
					return p.fail("a subsection that does not end")
				}
				c = p.s[p.at]
				p.at++
			}
			b.WriteByte(c)
		}
		if sub != "" {
			sub += "."
		}
		sub += b.String()
	}
	if p.at >= len(p.s) || p.s[p.at] != ']' {
		return p.fail("a section that does not end")
	}
	p.at++
	p.section, p.sub = section, sub
	end := p.at
	rest, _, more := strings.Cut(p.s[p.at:], "\n")
	if t := strings.TrimSpace(rest); t == "" || t[0] == '#' || t[0] == ';' {
		end = p.at + len(rest)
		if more {
			end++
		}
	}
	p.f.headers = append(p.f.headers, header{section, sub, end})
	return nil
}

// variable reads "key = value". line is where the line began, -1 where a section
// stands on it.
func (p *parser) variable(line int) error {
	e := Entry{Section: p.section, Subsection: p.sub, start: p.at}
	if line >= 0 {
		e.start = line
	}
	start := p.at
	for p.at < len(p.s) && word(p.s[p.at]) {
		p.at++
	}
	e.Key = strings.ToLower(p.s[start:p.at])
	for p.at < len(p.s) && (p.s[p.at] == ' ' || p.s[p.at] == '\t' || p.s[p.at] == '\r' && strings.HasPrefix(p.s[p.at:], "\r\n")) {
		p.at++
	}
	switch {
	case p.at >= len(p.s) || p.s[p.at] == '\n' || p.s[p.at] == '#' || p.s[p.at] == ';':
		e.Bare = true
		p.skipLine()
	case p.s[p.at] == '=':
		p.at++
		v, err := p.value()
		if err != nil {
			return err
		}
		e.Value = v
	default:
		return p.fail("a variable without a value")
	}
	e.end = p.at
	p.f.entries = append(p.f.entries, e)
	return nil
}

// value reads up to the end of the line, and takes it.
func (p *parser) value() (string, error) {
	var b strings.Builder
	kept := 0 // of b, without blanks at the end
	quoted := false
	for {
		if p.at >= len(p.s) {
			if quoted {
				return "", p.fail("a quote that does not end")
			}
			return b.String()[:kept], nil
		}
		c := p.s[p.at]
		if c == '\r' && strings.HasPrefix(p.s[p.at:], "\r\n") {
			p.at++
			c = '\n'
		}
		p.at++
		switch {
		case c == '\n':
			if quoted {
				return "", p.fail("a quote that does not end")
			}
			return b.String()[:kept], nil
		case !quoted && (c == ' ' || c == '\t'):
			if b.Len() > 0 {
				b.WriteByte(c)
			}
			continue
		case !quoted && (c == '#' || c == ';'):
			p.skipLine()
			return b.String()[:kept], nil
		case c == '"':
			quoted = !quoted
		case c == '\\':
			if p.at >= len(p.s) {
				return "", p.fail("an escape that does not end")
			}
			c = p.s[p.at]
			p.at++
			switch c {
			case '\r':
				if p.at < len(p.s) && p.s[p.at] == '\n' {
					p.at++
					continue
				}
				return "", p.fail("an unknown escape")
			case '\n':
				continue
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			case 'b':
				b.WriteByte('\b')
			case '"', '\\':
				b.WriteByte(c)
			default:
				return "", p.fail("an unknown escape")
			}
		default:
			b.WriteByte(c)
		}
		kept = b.Len()
	}
}
