package terminal

import "unicode/utf8"

const (
	maxParams  = 32
	maxParam   = 1 << 16
	maxControl = 256 // bytes kept of an OSC string
)

type state uint8

// The states of Paul Flo Williams' parser (vt100.net/emu/dec_ansi_parser),
// those that only differ in what they ignore put together.
const (
	ground state = iota
	escape
	escapeIntermediate
	csi
	csiIgnore
	osc
	ignored       // DCS, SOS, PM, APC: swallowed up to ST
	oscEscape     // ESC inside an OSC string
	ignoredEscape // ESC inside an ignored string
)

// parser holds what of a sequence has come so far; sequences may be split over
// any number of writes.
type parser struct {
	state        state
	private      byte // one of < = > ? after CSI
	intermediate byte
	params       [maxParams]int // -1 is absent
	// sub marks parameters that followed a colon.
	sub     [maxParams]bool
	n       int
	control []byte
	// partial is a character cut off at the end of a write.
	partial  [utf8.UTFMax]byte
	partialN int
}

// Write feeds output. It never fails; the error is for io.Writer.
func (e *Emulator) Write(p []byte) (int, error) {
	for i := 0; i < len(p); {
		if e.parser.state == ground {
			i += e.text(p[i:])
			continue
		}
		e.step(p[i])
		i++
	}
	return len(p), nil
}

// text handles bytes outside of sequences and returns how many it took.
func (e *Emulator) text(p []byte) int {
	ps := &e.parser
	if ps.partialN > 0 {
		return e.finishPartial(p)
	}
	for i := 0; i < len(p); {
		b := p[i]
		switch {
		case b >= 0x20 && b < 0x7f:
			e.print(rune(b))
			i++
		case b < 0x20:
			i++
			e.execute(b)
			if ps.state != ground {
				return i
			}
		case b == 0x7f:
			i++
		default:
			if !utf8.FullRune(p[i:]) {
				ps.partialN = copy(ps.partial[:], p[i:])
				return len(p)
			}
			r, size := decode(p[i:])
			e.printRune(r)
			i += size
		}
	}
	return len(p)
}

// finishPartial completes a character begun by an earlier write.
func (e *Emulator) finishPartial(p []byte) int {
	ps := &e.parser
	had := ps.partialN
	n := copy(ps.partial[had:], p)
	whole := ps.partial[:had+n]
	if !utf8.FullRune(whole) {
		ps.partialN += n
		return n
	}
	r, size := decode(whole)
	ps.partialN = 0
	e.printRune(r)
	// An invalid sequence ends before the byte that broke it, but never before
	// what was held back: that could still have become a character.
	return size - had
}

// decode takes one character, or the longest beginning of one for U+FFFD.
func decode(p []byte) (r rune, size int) {
	r, size = utf8.DecodeRune(p)
	if r == utf8.RuneError && size == 1 {
		for size < len(p) && !utf8.FullRune(p[:size+1]) {
			size++
		}
	}
	return r, size
}

func (e *Emulator) printRune(r rune) {
	// C1 controls as characters: no program relies on them in UTF-8.
	if r >= 0x80 && r < 0xa0 {
		return
	}
	e.print(r)
}

func (e *Emulator) step(b byte) {
	ps := &e.parser
	// CAN and SUB end any sequence, ESC begins a new one.
	switch {
	case b == 0x18 || b == 0x1a:
		ps.state = ground
		return
	case b == 0x1b:
		switch ps.state {
		case osc:
			ps.state = oscEscape
		case ignored:
			ps.state = ignoredEscape
		case oscEscape, ignoredEscape:
		default:
			e.begin()
		}
		return
	}
	switch ps.state {
	case osc, ignored:
		e.inString(b)
		return
	case oscEscape, ignoredEscape:
		if b == '\\' {
			if ps.state == oscEscape {
				e.endControl()
			}
			ps.state = ground
			return
		}
		e.begin()
	}
	switch {
	case b < 0x20:
		e.execute(b)
	case b >= 0x7f:
		if b >= 0x80 {
			ps.state = ground
		}
	case ps.state == escape || ps.state == escapeIntermediate:
		e.inEscape(b)
	default:
		e.inCSI(b)
	}
}

func (e *Emulator) begin() {
	ps := &e.parser
	ps.state, ps.private, ps.intermediate, ps.n = escape, 0, 0, 0
	ps.control = ps.control[:0]
}

func (e *Emulator) inString(b byte) {
	ps := &e.parser
	switch {
	case b == 0x07 && ps.state == osc:
		ps.state = ground
		e.endControl()
	case ps.state == osc && len(ps.control) < maxControl:
		ps.control = append(ps.control, b)
	}
}

func (e *Emulator) inEscape(b byte) {
	ps := &e.parser
	if b < 0x30 {
		ps.intermediate, ps.state = b, escapeIntermediate
		return
	}
	if ps.state == escape {
		switch b {
		case '[':
			ps.state = csi
			ps.params[0], ps.sub[0] = -1, false
			return
		case ']':
			ps.state = osc
			return
		case 'P', 'X', '^', '_':
			ps.state = ignored
			return
		}
	}
	ps.state = ground
	e.escapeDispatch(ps.intermediate, b)
}

func (e *Emulator) inCSI(b byte) {
	ps := &e.parser
	switch {
	case b >= 0x40:
		run := ps.state == csi
		ps.state = ground
		if run {
			ps.n++
			e.csiDispatch(b)
		}
	case ps.state == csiIgnore:
	case b >= '0' && b <= '9':
		if ps.intermediate != 0 {
			ps.state = csiIgnore
			return
		}
		v := max(0, ps.params[ps.n])*10 + int(b-'0')
		ps.params[ps.n] = min(v, maxParam)
	case b == ';' || b == ':':
		if ps.n+1 >= maxParams {
			ps.state = csiIgnore
			return
		}
		ps.n++
		ps.params[ps.n], ps.sub[ps.n] = -1, b == ':'
	case b >= 0x3c:
		// Only the first byte may be one of < = > ?.
		if ps.n > 0 || ps.params[0] >= 0 || ps.private != 0 {
			ps.state = csiIgnore
			return
		}
		ps.private = b
	default:
		ps.intermediate = b
	}
}

// param is the i-th parameter, or otherwise when it is absent.
func (ps *parser) param(i, otherwise int) int {
	if i >= ps.n || ps.params[i] < 0 {
		return otherwise
	}
	return ps.params[i]
}

// count is the i-th parameter where 0 and absent mean 1.
func (ps *parser) count(i int) int { return max(1, ps.param(i, 1)) }
