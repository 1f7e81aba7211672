package ptyproc

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Key is one key of a keyboard: what it types depends on the terminal's mode.
type Key struct {
	text string // of a key without a sequence of its own
	// final and number make CSI number final, or SS3 final where short.
	final  byte
	number int
	// cursor keys change with DECCKM; short ones are SS3 always (F1 to F4).
	cursor, short bool
	mod           int // xterm's: 1 for Shift, 2 for Alt, 4 for Control
}

const (
	modShift = 1 << iota
	modAlt
	modControl
)

// namedKeys are the keys with names, in lower case: those of tmux and of people.
// Their sequences are xterm's, see "PC-Style Function Keys" in its ctlseqs.
var namedKeys = map[string]Key{
	"up": {final: 'A', cursor: true}, "down": {final: 'B', cursor: true},
	"right": {final: 'C', cursor: true}, "left": {final: 'D', cursor: true},
	"home": {final: 'H', cursor: true}, "end": {final: 'F', cursor: true},
	"insert": {final: '~', number: 2}, "ic": {final: '~', number: 2},
	"delete": {final: '~', number: 3}, "dc": {final: '~', number: 3},
	"pageup": {final: '~', number: 5}, "ppage": {final: '~', number: 5}, "pgup": {final: '~', number: 5},
	"pagedown": {final: '~', number: 6}, "npage": {final: '~', number: 6}, "pgdn": {final: '~', number: 6},
	"f1": {final: 'P', short: true}, "f2": {final: 'Q', short: true},
	"f3": {final: 'R', short: true}, "f4": {final: 'S', short: true},
	"f5": {final: '~', number: 15}, "f6": {final: '~', number: 17}, "f7": {final: '~', number: 18},
	"f8": {final: '~', number: 19}, "f9": {final: '~', number: 20}, "f10": {final: '~', number: 21},
	"f11": {final: '~', number: 23}, "f12": {final: '~', number: 24},
	"enter": {text: "\r"}, "return": {text: "\r"}, "cr": {text: "\r"},
	"tab": {text: "\t"}, "btab": {final: 'Z'}, "space": {text: " "},
	"escape": {text: "\x1b"}, "esc": {text: "\x1b"},
	"backspace": {text: "\x7f"}, "bspace": {text: "\x7f"}, "bs": {text: "\x7f"},
}

// modifiers are the prefixes of a key's name, in lower case.
var modifiers = []struct {
	prefix string
	mod    int
}{
	{"c-", modControl}, {"ctrl-", modControl}, {"ctrl+", modControl}, {"control-", modControl}, {"control+", modControl},
	{"m-", modAlt}, {"a-", modAlt}, {"alt-", modAlt}, {"alt+", modAlt}, {"meta-", modAlt}, {"meta+", modAlt},
	{"s-", modShift}, {"shift-", modShift}, {"shift+", modShift}, {"^", modControl},
}

// ParseKeys reads names of keys: Up, Enter, F2, C-c, M-x, S-Tab, in any case, or
// a single character. Code: invalid_argument.
func ParseKeys(names []string) ([]Key, error) {
	keys := make([]Key, 0, len(names))
	for _, name := range names {
		k, ok := parseKey(name)
		if !ok {
			return nil, errorf("invalid_argument", nil,
				"%q is not a key; use Up, Down, Left, Right, Home, End, PageUp, PageDown, Insert, Delete, Enter, Tab, Space, Escape, Backspace, F1 to F12 or one character, with C-, M- or S- in front, and chars for text", name)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func parseKey(name string) (Key, bool) {
	rest, mod := name, 0
	for cut := true; cut && utf8.RuneCountInString(rest) > 1; {
		cut = false
		for _, m := range modifiers {
			// Something must be left: "^" and "-" are keys themselves.
			if len(rest) > len(m.prefix) && strings.EqualFold(rest[:len(m.prefix)], m.prefix) {
				rest, mod, cut = rest[len(m.prefix):], mod|m.mod, true
				break
			}
		}
	}
	if k, ok := namedKeys[strings.ToLower(rest)]; ok {
		k.mod = mod
		switch {
		case k.text == "\t" && mod == modShift:
			k = Key{final: 'Z'}
		case k.text == " " && mod&modControl != 0:
			k.text = "\x00"
		}
		return k, true
	}
	r, size := utf8.DecodeRuneInString(rest)
	if size == 0 || size != len(rest) || r == utf8.RuneError {
		return Key{}, false
	}
	k := Key{text: rest, mod: mod}
	if mod&modControl != 0 {
		c, ok := control(r)
		if !ok {
			return Key{}, false
		}
		k.text = string(rune(c))
	} else if mod&modShift != 0 {
		k.text = strings.ToUpper(rest)
	}
	return k, true
}

// control is what a terminal types for Control and a character.
func control(r rune) (byte, bool) {
	switch {
	case r >= 'a' && r <= 'z':
		return byte(r - 'a' + 1), true
	case r >= '@' && r <= '_':
		return byte(r - '@'), true
	case r == '?':
		return 0x7f, true
	case r == '/':
		return 0x1f, true
	}
	return 0, false
}

// bytes is what the key types; application is the state of DECCKM.
func (k Key) bytes(application bool) []byte {
	if k.text != "" {
		if k.mod&modAlt != 0 {
			return append([]byte{0x1b}, k.text...)
		}
		return []byte(k.text)
	}
	switch {
	case k.mod != 0 && k.number == 0:
		return fmt.Appendf(nil, "\x1b[1;%d%c", k.mod+1, k.final)
	case k.mod != 0:
		return fmt.Appendf(nil, "\x1b[%d;%d%c", k.number, k.mod+1, k.final)
	case k.number != 0:
		return fmt.Appendf(nil, "\x1b[%d%c", k.number, k.final)
	case k.short || k.cursor && application:
		return []byte{0x1b, 'O', k.final}
	}
	return []byte{0x1b, '[', k.final}
}

// alone says that programs wait for what may follow the key: an Escape that comes
// with the next key is Alt and that key.
func (k Key) alone() bool { return k.text == "\x1b" && k.mod&modAlt == 0 }

// forApplication rewrites the cursor keys in text typed as sequences, as the
// keyboard of a terminal in application cursor mode (DECCKM) never sends them
// in their normal form, and curses programs do not know it then.
func forApplication(chars []byte) []byte {
	out := append([]byte(nil), chars...)
	for i := 0; i+2 < len(out); i++ {
		if out[i] == 0x1b && out[i+1] == '[' && strings.IndexByte("ABCDHF", out[i+2]) >= 0 {
			out[i+1] = 'O'
		}
	}
	return out
}
