package tokens

import _ "embed"

// What the splitters must know about a rune, as bits.
const (
	classUpper  = 1 << iota // Lu Lt Lm Lo M
	classLower              // Ll Lm Lo M
	classMark               // M
	classNumber             // N
	classSpace              // White_Space
	classLine               // carriage return and line feed, which are classSpace too

	classWord = classUpper | classLower // any letter or mark
)

// classTable holds the classes of all runes, from the Unicode version of the
// toolchain that generated it: for every 128 runes the number of their block
// in one byte, then the blocks, a byte a rune.
//
//go:embed data/classes.bin
var classTable string

const classBlocks = 0x110000 >> 7

// asciiClass is classTable for what nearly all text is made of, with classLine.
var asciiClass = [128]byte{
	'\t': classSpace, '\v': classSpace, '\f': classSpace, ' ': classSpace,
	'\n': classSpace | classLine, '\r': classSpace | classLine,
	'0': classNumber, '1': classNumber, '2': classNumber, '3': classNumber, '4': classNumber,
	'5': classNumber, '6': classNumber, '7': classNumber, '8': classNumber, '9': classNumber,
	'A': classUpper, 'B': classUpper, 'C': classUpper, 'D': classUpper, 'E': classUpper,
	'F': classUpper, 'G': classUpper, 'H': classUpper, 'I': classUpper, 'J': classUpper,
	'K': classUpper, 'L': classUpper, 'M': classUpper, 'N': classUpper, 'O': classUpper,
	'P': classUpper, 'Q': classUpper, 'R': classUpper, 'S': classUpper, 'T': classUpper,
	'U': classUpper, 'V': classUpper, 'W': classUpper, 'X': classUpper, 'Y': classUpper, 'Z': classUpper,
	'a': classLower, 'b': classLower, 'c': classLower, 'd': classLower, 'e': classLower,
	'f': classLower, 'g': classLower, 'h': classLower, 'i': classLower, 'j': classLower,
	'k': classLower, 'l': classLower, 'm': classLower, 'n': classLower, 'o': classLower,
	'p': classLower, 'q': classLower, 'r': classLower, 's': classLower, 't': classLower,
	'u': classLower, 'v': classLower, 'w': classLower, 'x': classLower, 'y': classLower, 'z': classLower,
}

// classAt is the class of the rune at s[p:] and its length in bytes. s must be
// valid UTF-8 and p the start of a rune in it.
func classAt(s string, p int) (class byte, size int) {
	b := s[p]
	if b < 0x80 {
		return asciiClass[b], 1
	}
	return wideClassAt(s, p)
}

func wideClassAt(s string, p int) (class byte, size int) {
	var r uint32
	switch b := uint32(s[p]); {
	case b < 0xe0:
		r, size = b&0x1f<<6|uint32(s[p+1]&0x3f), 2
	case b < 0xf0:
		r, size = b&0x0f<<12|uint32(s[p+1]&0x3f)<<6|uint32(s[p+2]&0x3f), 3
	default:
		r, size = b&0x07<<18|uint32(s[p+1]&0x3f)<<12|uint32(s[p+2]&0x3f)<<6|uint32(s[p+3]&0x3f), 4
	}
	block := int(classTable[r>>7])
	return classTable[classBlocks+block<<7+int(r&127)], size
}
