// Package gitconfig reads and edits git's configuration files as text. It runs
// nothing: a configuration that a session wrote is data here, and what git would
// execute because of it is somebody else's to judge.
//
// The syntax is that of git-config(1), "CONFIGURATION FILE". Includes are entries
// like any other, see [ReadUser] for the one place that follows them.
package gitconfig

import (
	"fmt"
	"slices"
	"strings"
)

// Entry is one variable of a file. Section and Key are in lower case.
type Entry struct {
	Section, Subsection, Key string
	// Value is what git would give, without quotes and escapes. Bare says that no
	// "=" was there, which git reads as true.
	Value string
	Bare  bool

	start, end int // of the text, with its line where nothing else is on it
}

// Name is the dotted name, such as remote.origin.url.
func (e *Entry) Name() string { return name(e.Section, e.Subsection, e.Key) }

func name(section, sub, key string) string {
	if sub == "" {
		return section + "." + key
	}
	return section + "." + sub + "." + key
}

type header struct {
	section, sub string
	end          int // after its line
}

// File is the content of one configuration file.
type File struct {
	text    string
	entries []Entry
	headers []header
}

// MaxSize bounds a file that is parsed, in bytes.
const MaxSize = 1 << 20

// Parse reads a file. An error says in which line git would stop.
func Parse(text string) (*File, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("the configuration has %d bytes, more than %d", len(text), MaxSize)
	}
	f := &File{text: text}
	p := parser{f: f, s: text}
	return f, p.run()
}

// Text is the file as it stands.
func (f *File) Text() string { return f.text }

// Entries are the variables in the order of the file.
func (f *File) Entries() []Entry { return slices.Clone(f.entries) }

// Values are all values of one variable, in order.
func (f *File) Values(section, sub, key string) []string {
	var out []string
	for i := range f.entries {
		e := &f.entries[i]
		if e.Section == section && e.Subsection == sub && e.Key == key {
			v := e.Value
			if e.Bare {
				v = "true"
			}
			out = append(out, v)
		}
	}
	return out
}

// Last is the value that counts where only one can, "" without any.
func (f *File) Last(section, sub, key string) string {
	if v := f.Values(section, sub, key); len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// Set gives a variable the values, in place of those it has. All other text stays
// as it is. No value may hold a NUL byte or a line end.
func (f *File) Set(section, sub, key string, values []string) error {
	for _, v := range append([]string{sub}, values...) {
		if strings.ContainsAny(v, "\x00\n\r") {
			return fmt.Errorf("%s cannot hold a line end", name(section, sub, key))
		}
	}
	text, at := f.text, -1
	for i := len(f.entries) - 1; i >= 0; i-- {
		if e := &f.entries[i]; e.Section == section && e.Subsection == sub && e.Key == key {
			text = text[:e.start] + text[e.end:]
		}
	}
	g, err := Parse(text)
	if err != nil {
		return err
	}
	for _, h := range g.headers {
		if h.section == section && h.sub == sub {
			at = h.end
		}
	}
	if len(values) > 0 {
		var b strings.Builder
		if at < 0 {
			at = len(text)
			// A line that goes on past the end takes what comes next into its value.
			if at > 0 && text[at-1] != '\n' || strings.HasSuffix(text, "\\\n") || strings.HasSuffix(text, "\\\r\n") {
				b.WriteByte('\n')
			}
			b.WriteString("[" + section)
			if sub != "" {
				b.WriteString(" " + quote(sub))
			}
			b.WriteString("]\n")
		} else if at > 0 && text[at-1] != '\n' {
			b.WriteByte('\n')
		}
		for _, v := range values {
			b.WriteString("\t" + key + " = " + value(v) + "\n")
		}
		text = text[:at] + b.String() + text[at:]
		if g, err = Parse(text); err != nil {
			return err
		}
	}
	*f = *g
	return nil
}

// quote writes s between double quotes.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// value writes a value, quoted where git would read it differently.
func value(s string) string {
	if strings.Trim(s, " \t") != s || strings.ContainsAny(s, "#;\"\\\t\b") {
		return strings.NewReplacer("\t", `\t`, "\b", `\b`).Replace(quote(s))
	}
	return s
}
