package tokens

import "unicode/utf8"

// A published regular expression that splits text into pieces is written out
// here by hand as a grammar. From the first characters of a piece it is clear
// which alternative takes it; every alternative is then an optional first
// character and a run of one kind.

type kind uint8

const (
	kindWord    kind = iota // letters and marks in the case patterns of o200k, and a contraction
	kindLetters             // letters
	kindNumbers             // numbers
	kindSymbols             // neither letters, numbers nor spaces
	kindSpaces              // spaces
	kindDone                // nothing: the piece ends where its run would start
)

// grammar is one such expression.
type grammar struct {
	// start tells, for the piece at s[p:], its kind and where the run of that
	// kind starts. s is valid UTF-8 and p < len(s).
	start func(s string, p int) (k kind, run int)
	// slash says that symbols take "/" among the line ends behind them.
	slash bool
}

// grammarO200k:
//
//	[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//	[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//	\p{N}{1,3}
//	 ?[^\s\p{L}\p{N}]+[\r\n/]*
//	\s*[\r\n]+
//	\s+(?!\S)
//	\s+
var grammarO200k = grammar{start: startO200k, slash: true}

func startO200k(s string, p int) (kind, int) {
	class, size := classAt(s, p)
	if class&classWord != 0 {
		// A mark might also be the optional first character. It makes no
		// difference: it can be either part of a word that has it anyway.
		return kindWord, p
	}
	if class&classNumber != 0 {
		return kindNumbers, p
	}
	if class&classLine != 0 {
		return kindSpaces, p
	}
	next := p + size
	if next == len(s) {
		return otherKind(class), p
	}
	after, _ := classAt(s, next)
	if after&classWord != 0 {
		return kindWord, next
	}
	if s[p] == ' ' && after&(classNumber|classSpace) == 0 {
		return kindSymbols, next
	}
	return otherKind(class), p
}

// grammarCL100k:
//
//	(?i:'s|'t|'re|'ve|'m|'ll|'d)
//	[^\r\n\p{L}\p{N}]?\p{L}+
//	\p{N}{1,3}
//	 ?[^\s\p{L}\p{N}]+[\r\n]*
//	\s*[\r\n]+
//	\s+(?!\S)
//	\s+
var grammarCL100k = grammar{start: startCL100k}

func startCL100k(s string, p int) (kind, int) {
	class, size := classAt(s, p)
	if letter(class) {
		return kindLetters, p
	}
	if class&classNumber != 0 {
		return kindNumbers, p
	}
	if class&classLine != 0 {
		return kindSpaces, p
	}
	if s[p] == '\'' {
		if end := contraction(s, p); end > p {
			return kindDone, end
		}
	}
	next := p + size
	if next == len(s) {
		return otherKind(class), p
	}
	after, _ := classAt(s, next)
	if letter(after) {
		return kindLetters, next
	}
	if s[p] == ' ' && after&(classNumber|classSpace) == 0 {
		return kindSymbols, next
	}
	return otherKind(class), p
}

// otherKind is the kind of a class that is neither letters nor numbers.
func otherKind(class byte) kind {
	if class&classSpace != 0 {
		return kindSpaces
	}
	return kindSymbols
}

// split is where the piece that starts at s[p:] ends. s is valid UTF-8 and
// p < len(s).
func (g *grammar) split(s string, p int) int {
	k, run := g.start(s, p)
	return g.end(k, s, run)
}

// end is where a piece ends whose run of kind k starts at s[run:].
func (g *grammar) end(k kind, s string, run int) int {
	switch k {
	case kindWord:
		return word(s, run)
	case kindLetters:
		return letters(s, run)
	case kindNumbers:
		return digits(s, run)
	case kindSymbols:
		return g.lineTail(s, symbols(s, run))
	case kindSpaces:
		return spaces(s, run)
	}
	return run
}

// word matches the two word alternatives of grammarO200k at s[p:], without the
// optional first character; there must be a letter or a mark.
//
// The first alternative wants as many upper-case characters as possible and
// then at least one lower-case one. Some characters are both; if no plain
// lower-case one follows, the last of them is the one, and the word ends
// there. The second alternative is left with nothing but upper case.
func word(s string, p int) int {
	lastBoth := -1
	for p < len(s) {
		class, size := asciiClass[s[p]], 1
		if class == classWide {
			class, size = wideClassAt(s, p)
		}
		if class&classUpper == 0 {
			if class&classLower != 0 {
				return contraction(s, run(s, p+size, classLower, 0))
			}
			break
		}
		p += size
		if class&classLower != 0 {
			lastBoth = p
		}
	}
	if lastBoth >= 0 {
		return contraction(s, lastBoth)
	}
	return contraction(s, p)
}

// run is the end of the run at s[p:] of runes with a class in any and none in
// not.
func run(s string, p int, any, not byte) int {
	for p < len(s) {
		class, size := asciiClass[s[p]], 1
		if class == classWide {
			class, size = wideClassAt(s, p)
		}
		if class&any == 0 || class&not != 0 {
			break
		}
		p += size
	}
	return p
}

func letter(class byte) bool { return class&classWord != 0 && class&classMark == 0 }

func letters(s string, p int) int { return run(s, p, classWord, classMark) }

// contraction is the end of 's, 't, 're, 've, 'm, 'll or 'd in any case at
// s[p:], or p.
//
// Case here is ASCII case, as in tiktoken-go, whose engine lowers the text;
// engines that fold case would also take the long s, U+017F.
func contraction(s string, p int) int {
	if p+1 >= len(s) || s[p] != '\'' {
		return p
	}
	switch s[p+1] | 0x20 {
	case 's', 't', 'm', 'd':
		return p + 2
	case 'r', 'v':
		if p+2 < len(s) && s[p+2]|0x20 == 'e' {
			return p + 3
		}
	case 'l':
		if p+2 < len(s) && s[p+2]|0x20 == 'l' {
			return p + 3
		}
	}
	return p
}

// digits matches \p{N}{1,3}; the first is known to be there.
func digits(s string, p int) int {
	for range 3 {
		if p >= len(s) {
			break
		}
		class, size := classAt(s, p)
		if class&classNumber == 0 {
			break
		}
		p += size
	}
	return p
}

// symbols matches [^\s\p{L}\p{N}]*, which takes marks.
func symbols(s string, p int) int {
	for p < len(s) {
		class, size := asciiClass[s[p]], 1
		if class == classWide {
			class, size = wideClassAt(s, p)
		}
		if class&(classNumber|classSpace) != 0 || letter(class) {
			break
		}
		p += size
	}
	return p
}

// lineTail matches [\r\n/]* or [\r\n]*.
func (g *grammar) lineTail(s string, p int) int {
	for p < len(s) && (s[p] == '\n' || s[p] == '\r' || g.slash && s[p] == '/') {
		p++
	}
	return p
}

// spaces matches \s*[\r\n]+, \s+(?!\S) or \s+,
// whichever does first; there must be a space. If the run has line ends, the
// match ends after the last of them. If not, the last space is left to what
// follows, if anything does and there is more than one space.
func spaces(s string, p int) int {
	end, lastLine := p, -1
	for end < len(s) {
		class, size := classAt(s, end)
		if class&classSpace == 0 {
			break
		}
		end += size
		if class&classLine != 0 {
			lastLine = end
		}
	}
	if lastLine >= 0 {
		return lastLine
	}
	if end == len(s) {
		return end
	}
	_, size := utf8.DecodeLastRuneInString(s[p:end])
	if end-size == p {
		return end
	}
	return end - size
}
