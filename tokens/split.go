package tokens

import "unicode/utf8"

// splitter returns where the piece that starts at s[p:] ends. s is valid
// UTF-8 and p < len(s). Each splitter is one published regular expression,
// written out by hand; the expression stands above it.
type splitter func(s string, p int) int

// splitO200k:
//
//	[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//	[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
//	\p{N}{1,3}
//	 ?[^\s\p{L}\p{N}]+[\r\n/]*
//	\s*[\r\n]+
//	\s+(?!\S)
//	\s+
func splitO200k(s string, p int) int {
	class, size := classAt(s, p)
	if class&classWord != 0 && class&classMark == 0 {
		end, _ := word(s, p)
		return end
	}
	if class&classNumber != 0 {
		return digits(s, p)
	}
	if class&classLine != 0 {
		return spaces(s, p)
	}
	next := p + size
	var after byte
	if next < len(s) {
		after, _ = classAt(s, next)
	}
	switch {
	case after&classWord != 0:
		end, lower := word(s, next)
		if class&classMark != 0 && !lower {
			// A mark may be the optional first character or the word itself,
			// and the first alternative, which needs a lower-case letter or
			// a mark, is tried both ways before the second one.
			return contraction(s, next)
		}
		return end
	case class&classMark != 0:
		return contraction(s, next)
	case class&classSpace == 0:
		return symbols(s, next, true)
	case s[p] == ' ' && next < len(s) && after&(classNumber|classSpace) == 0:
		return symbols(s, next, true)
	}
	return spaces(s, p)
}

// splitCL100k:
//
//	(?i:'s|'t|'re|'ve|'m|'ll|'d)
//	[^\r\n\p{L}\p{N}]?\p{L}+
//	\p{N}{1,3}
//	 ?[^\s\p{L}\p{N}]+[\r\n]*
//	\s*[\r\n]+
//	\s+(?!\S)
//	\s+
func splitCL100k(s string, p int) int {
	class, size := classAt(s, p)
	next := p + size
	if letter(class) {
		return letters(s, next)
	}
	if class&classNumber != 0 {
		return digits(s, p)
	}
	if class&classLine != 0 {
		return spaces(s, p)
	}
	if s[p] == '\'' {
		if end := contraction(s, p); end > p {
			return end
		}
	}
	var after byte
	if next < len(s) {
		after, _ = classAt(s, next)
	}
	switch {
	case letter(after):
		return letters(s, next)
	case class&classSpace == 0:
		return symbols(s, next, false)
	case s[p] == ' ' && next < len(s) && after&(classNumber|classSpace) == 0:
		return symbols(s, next, false)
	}
	return spaces(s, p)
}

// splitP50k, also of r50k_base:
//
//	's|'t|'re|'ve|'m|'ll|'d
//	 ?\p{L}+
//	 ?\p{N}+
//	 ?[^\s\p{L}\p{N}]+
//	\s+(?!\S)
//	\s+
func splitP50k(s string, p int) int {
	if s[p] == '\'' {
		if end := contraction(s, p); end > p && lowerASCII(s[p+1:end]) {
			return end
		}
	}
	start := p
	class, _ := classAt(s, p)
	if s[p] == ' ' && p+1 < len(s) {
		if after, _ := classAt(s, p+1); after&classSpace == 0 {
			start, class = p+1, after
		}
	}
	if class&classSpace != 0 {
		end := run(s, p, classSpace, 0)
		return beforeLast(s, p, end)
	}
	if letter(class) {
		return letters(s, start)
	}
	if class&classNumber != 0 {
		return run(s, start, classNumber, 0)
	}
	return plainSymbols(s, start)
}

// word matches the two word alternatives of splitO200k at s[p:], without the
// optional first character; there must be a letter or a mark. It also tells
// whether it was the first of them.
//
// That one wants as many upper-case characters as possible and then at least
// one lower-case one. Some characters are both; if no plain lower-case one
// follows, the last of them is the one, and the word ends there.
func word(s string, p int) (end int, lower bool) {
	lastBoth := -1
	for p < len(s) {
		class, size := asciiClass[s[p]], 1
		if class == classWide {
			class, size = wideClassAt(s, p)
		}
		if class&classUpper == 0 {
			if class&classLower != 0 {
				return contraction(s, run(s, p+size, classLower, 0)), true
			}
			break
		}
		p += size
		if class&classLower != 0 {
			lastBoth = p
		}
	}
	if lastBoth >= 0 {
		return contraction(s, lastBoth), true
	}
	return contraction(s, p), false
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

func lowerASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 'a' {
			return false
		}
	}
	return true
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

// plainSymbols matches [^\s\p{L}\p{N}]*, which takes marks.
func plainSymbols(s string, p int) int {
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

// symbols matches [^\s\p{L}\p{N}]* and then [\r\n]*, or [\r\n/]* if slash.
func symbols(s string, p int, slash bool) int {
	p = plainSymbols(s, p)
	for p < len(s) && (s[p] == '\n' || s[p] == '\r' || slash && s[p] == '/') {
		p++
	}
	return p
}

// spaces matches \s*[\r\n]+, \s+(?!\S) or \s+, whichever does first; there
// must be a space. If the run has line ends, the match ends after the last of
// them. If not, the last space is left to what follows, if anything does and
// there is more than one space.
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
	return beforeLast(s, p, end)
}

// beforeLast matches \s+(?!\S) or \s+ on the run of spaces s[p:end].
func beforeLast(s string, p, end int) int {
	if end == len(s) {
		return end
	}
	_, size := utf8.DecodeLastRuneInString(s[p:end])
	if end-size == p {
		return end
	}
	return end - size
}
