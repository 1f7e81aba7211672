package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

// Clients' settings are JSON that people write, with comments and commas at the end of
// lists in some: it is changed in its text, so that all else stays as it was.

// jsonMember is one of an object, by where its parts begin and end in the text.
type jsonMember struct {
	name                             string
	start, value, end, after, before int // after: past its comma, or its end; before: past the comma before it, or the brace
}

// deepestJSON bounds nesting.
const deepestJSON = 64

var errJSON = errors.New("it is not a JSON object")

// skipJSON skips white space and comments.
func skipJSON(b []byte, i int) int {
	for i < len(b) {
		switch rest := b[i:]; {
		case strings.IndexByte(" \t\r\n", b[i]) >= 0:
			i++
		case bytes.HasPrefix(rest, []byte("\ufeff")):
			i += 3
		case bytes.HasPrefix(rest, []byte("//")):
			n := bytes.IndexByte(rest, '\n')
			if n < 0 {
				return len(b)
			}
			i += n
		case bytes.HasPrefix(rest, []byte("/*")):
			n := bytes.Index(rest[2:], []byte("*/"))
			if n < 0 {
				return len(b)
			}
			i += n + 4
		default:
			return i
		}
	}
	return i
}

// stringEnd is past the string that begins at i.
func stringEnd(b []byte, i int) (int, error) {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1, nil
		case '\n':
			return 0, errJSON
		}
	}
	return 0, errJSON
}

// valueEnd is past the value that begins at i.
func valueEnd(b []byte, i, depth int) (int, error) {
	if i >= len(b) || depth > deepestJSON {
		return 0, errJSON
	}
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{':
		_, end, err := jsonMembers(b, i, depth+1)
		return end, err
	case '[':
		for i = skipJSON(b, i+1); i < len(b) && b[i] != ']'; {
			end, err := valueEnd(b, i, depth+1)
			if err != nil {
				return 0, err
			}
			if i = skipJSON(b, end); i < len(b) && b[i] == ',' {
				i = skipJSON(b, i+1)
			} else if i < len(b) && b[i] != ']' {
				return 0, errJSON
			}
		}
		if i >= len(b) {
			return 0, errJSON
		}
		return i + 1, nil
	}
	end := i
	for end < len(b) && strings.IndexByte(",]} \t\r\n/", b[end]) < 0 {
		end++
	}
	if !json.Valid(b[i:end]) {
		return 0, errJSON
	}
	return end, nil
}

// jsonMembers are those of the object whose brace is at i, and its end.
func jsonMembers(b []byte, i, depth int) (out []jsonMember, end int, err error) {
	if i >= len(b) || b[i] != '{' || depth > deepestJSON {
		return nil, 0, errJSON
	}
	before := i + 1
	for i = skipJSON(b, i+1); i < len(b) && b[i] != '}'; i = skipJSON(b, before) {
		m := jsonMember{start: i, before: before}
		if b[i] != '"' {
			return nil, 0, errJSON
		}
		if end, err = stringEnd(b, i); err != nil {
			return nil, 0, err
		}
		if json.Unmarshal(b[i:end], &m.name) != nil {
			return nil, 0, errJSON
		}
		if i = skipJSON(b, end); i >= len(b) || b[i] != ':' {
			return nil, 0, errJSON
		}
		m.value = skipJSON(b, i+1)
		if m.end, err = valueEnd(b, m.value, depth); err != nil {
			return nil, 0, err
		}
		m.after = m.end
		if i = skipJSON(b, m.end); i < len(b) && b[i] == ',' {
			m.after = i + 1
		} else if i < len(b) && b[i] != '}' {
			return nil, 0, errJSON
		}
		before = max(m.after, m.end)
		out = append(out, m)
	}
	if i >= len(b) {
		return nil, 0, errJSON
	}
	return out, i + 1, nil
}

// editJSON sets the member name of the object key of a settings file, or removes it
// where entry is nil. The text of everything else stays.
func editJSON(text []byte, key, name string, entry any) ([]byte, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		if entry == nil {
			return text, nil
		}
		text = []byte("{}\n")
	}
	was, err := plainJSON(text)
	if err != nil {
		return nil, err
	}
	top := skipJSON(text, 0)
	members, end, err := jsonMembers(text, top, 0)
	if err != nil || skipJSON(text, end) != len(text) {
		return nil, errJSON
	}
	out := text
	at, err := oneMember(members, key)
	switch {
	case err != nil:
		return nil, err
	case at == nil && entry == nil:
		return text, nil
	case at == nil:
		out = insertMember(text, top, members, key, map[string]any{name: entry})
	default:
		servers, _, err := jsonMembers(text, at.value, 1)
		if err != nil {
			return nil, fmt.Errorf("%q in it is not an object", key)
		}
		server, err := oneMember(servers, name)
		switch {
		case err != nil:
			return nil, err
		case server == nil && entry == nil:
			return text, nil
		case server == nil:
			out = insertMember(text, at.value, servers, name, entry)
		case entry == nil:
			out = removeMember(text, servers, server)
		default:
			indent, _ := indentOf(text, server.start)
			indent = indent[:len(indent)-len(strings.TrimLeft(indent, " \t"))]
			out = splice(text, server.value, server.end, indented(entry, indent, unitOf(text)))
		}
	}
	return out, sameBut(was, out, key, name, entry)
}

func oneMember(members []jsonMember, name string) (*jsonMember, error) {
	var found *jsonMember
	for i := range members {
		if members[i].name == name {
			if found != nil {
				return nil, fmt.Errorf("it has %q twice", name)
			}
			found = &members[i]
		}
	}
	return found, nil
}

func splice(text []byte, from, to int, with string) []byte {
	return append(append(bytes.Clone(text[:from]), with...), text[to:]...)
}

// indentOf is the white space before what stands at i, when nothing else does.
func indentOf(text []byte, i int) (string, bool) {
	line := text[bytes.LastIndexByte(text[:i], '\n')+1 : i]
	return string(line), len(bytes.TrimSpace(line)) == 0
}

// unitOf is what a text indents its members by.
func unitOf(text []byte) string {
	if m := regexp.MustCompile(`(?m)^(\t| +)[ \t]*"`).FindSubmatch(text); m != nil && len(m[1]) <= 8 {
		return string(m[1])
	}
	return "  "
}

func indented(v any, indent, unit string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent(indent, unit)
	_ = enc.Encode(v)
	return strings.TrimSpace(b.String())
}

// insertMember makes a member the first of the object at brace, which needs no look at
// how the list ends.
func insertMember(text []byte, brace int, members []jsonMember, name string, v any) []byte {
	outer, _ := indentOf(text, brace)
	outer = outer[:len(outer)-len(strings.TrimLeft(outer, " \t"))]
	unit := unitOf(text)
	indent, tail := outer+unit, ","
	if len(members) == 0 {
		tail = "\n" + outer
		if skipJSON(text, brace+1) != brace+1 {
			tail = "" // a comment, or a line's end, is there
		}
	} else if own, alone := indentOf(text, members[0].start); alone {
		indent = own
	}
	return splice(text, brace+1, brace+1, "\n"+indent+jsonText(name)+": "+indented(v, indent, unit)+tail)
}

// removeMember takes a member out, with its comma and the white space before it.
func removeMember(text []byte, members []jsonMember, m *jsonMember) []byte {
	from, to := m.before, m.after
	if skipJSON(text, from) != m.start || len(bytes.TrimSpace(text[from:m.start])) > 0 {
		from = m.start // a comment before it stays
	}
	if last := &members[len(members)-1]; last.start == m.start && m.after == m.end && len(members) > 1 {
		// The comma before it goes, in place of one after it.
		comma := members[len(members)-2]
		if from == m.start {
			return splice(splice(text, from, to, ""), comma.after-1, comma.after, "")
		}
		from = comma.end
	}
	return splice(text, from, to, "")
}

// plainJSON reads JSON with comments and commas at the end of lists.
func plainJSON(text []byte) (map[string]any, error) {
	var b bytes.Buffer
	for i := skipJSON(text, 0); i < len(text); i = skipJSON(text, i) {
		if text[i] == '"' {
			end, err := stringEnd(text, i)
			if err != nil {
				return nil, err
			}
			b.Write(text[i:end])
			i = end
			continue
		}
		if text[i] == ',' {
			if next := skipJSON(text, i+1); next < len(text) && (text[next] == '}' || text[next] == ']') {
				i = next
				continue
			}
		}
		b.WriteByte(text[i])
		i++
		if next := skipJSON(text, i); next > i {
			b.WriteByte(' ')
		}
	}
	var out map[string]any
	if err := json.Unmarshal(b.Bytes(), &out); err != nil || out == nil {
		return nil, errJSON
	}
	return out, nil
}

// sameBut reports a change of anything but the one member.
func sameBut(was map[string]any, text []byte, key, name string, entry any) error {
	now, err := plainJSON(text)
	if err != nil {
		return err
	}
	servers, _ := was[key].(map[string]any)
	if servers == nil {
		servers = map[string]any{}
	}
	delete(servers, name)
	if entry != nil {
		var v any
		if err := json.Unmarshal([]byte(jsonText(entry)), &v); err != nil {
			return err
		}
		servers[name] = v
	}
	was[key] = servers
	if !reflect.DeepEqual(was, now) {
		return errors.New("its form is not understood")
	}
	return nil
}
