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
	classWide               // not a class: the first byte of a rune outside ASCII

	classWord = classUpper | classLower // any letter or mark
)

// classTable holds the classes of all runes, from the Unicode version of the
// toolchain that generated it: for every 128 runes the number of their block
// in one byte, then the blocks, a byte a rune.
//
//go:embed data/classes.bin
var classTable string

const classBlocks = 0x110000 >> 7

// asciiClass is classTable for what nearly all text is made of, with classLine,
// by first byte.
var asciiClass = [256]byte{
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
	0x80: classWide, 0x81: classWide, 0x82: classWide, 0x83: classWide, 0x84: classWide, 0x85: classWide, 0x86: classWide, 0x87: classWide,
	0x88: classWide, 0x89: classWide, 0x8a: classWide, 0x8b: classWide, 0x8c: classWide, 0x8d: classWide, 0x8e: classWide, 0x8f: classWide,
	0x90: classWide, 0x91: classWide, 0x92: classWide, 0x93: classWide, 0x94: classWide, 0x95: classWide, 0x96: classWide, 0x97: classWide,
	0x98: classWide, 0x99: classWide, 0x9a: classWide, 0x9b: classWide, 0x9c: classWide, 0x9d: classWide, 0x9e: classWide, 0x9f: classWide,
	0xa0: classWide, 0xa1: classWide, 0xa2: classWide, 0xa3: classWide, 0xa4: classWide, 0xa5: classWide, 0xa6: classWide, 0xa7: classWide,
	0xa8: classWide, 0xa9: classWide, 0xaa: classWide, 0xab: classWide, 0xac: classWide, 0xad: classWide, 0xae: classWide, 0xaf: classWide,
	0xb0: classWide, 0xb1: classWide, 0xb2: classWide, 0xb3: classWide, 0xb4: classWide, 0xb5: classWide, 0xb6: classWide, 0xb7: classWide,
	0xb8: classWide, 0xb9: classWide, 0xba: classWide, 0xbb: classWide, 0xbc: classWide, 0xbd: classWide, 0xbe: classWide, 0xbf: classWide,
	0xc0: classWide, 0xc1: classWide, 0xc2: classWide, 0xc3: classWide, 0xc4: classWide, 0xc5: classWide, 0xc6: classWide, 0xc7: classWide,
	0xc8: classWide, 0xc9: classWide, 0xca: classWide, 0xcb: classWide, 0xcc: classWide, 0xcd: classWide, 0xce: classWide, 0xcf: classWide,
	0xd0: classWide, 0xd1: classWide, 0xd2: classWide, 0xd3: classWide, 0xd4: classWide, 0xd5: classWide, 0xd6: classWide, 0xd7: classWide,
	0xd8: classWide, 0xd9: classWide, 0xda: classWide, 0xdb: classWide, 0xdc: classWide, 0xdd: classWide, 0xde: classWide, 0xdf: classWide,
	0xe0: classWide, 0xe1: classWide, 0xe2: classWide, 0xe3: classWide, 0xe4: classWide, 0xe5: classWide, 0xe6: classWide, 0xe7: classWide,
	0xe8: classWide, 0xe9: classWide, 0xea: classWide, 0xeb: classWide, 0xec: classWide, 0xed: classWide, 0xee: classWide, 0xef: classWide,
	0xf0: classWide, 0xf1: classWide, 0xf2: classWide, 0xf3: classWide, 0xf4: classWide, 0xf5: classWide, 0xf6: classWide, 0xf7: classWide,
	0xf8: classWide, 0xf9: classWide, 0xfa: classWide, 0xfb: classWide, 0xfc: classWide, 0xfd: classWide, 0xfe: classWide, 0xff: classWide,
}

// classAt is the class of the rune at s[p:] and its length in bytes. s must be
// valid UTF-8 and p the start of a rune in it.
func classAt(s string, p int) (class byte, size int) {
	if class = asciiClass[s[p]]; class != classWide {
		return class, 1
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
