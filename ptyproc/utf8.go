package ptyproc

import (
	"slices"
	"unicode/utf8"
)

const replacement = "\uFFFD"

// joiner turns the bytes of successive replies into valid UTF-8 without ever
// splitting a character: a sequence that is cut off at the end of one reply is
// held back and completed by the next. Invalid input becomes one U+FFFD for
// each maximal subpart (Unicode Standard 16.0, section 3.9, "U+FFFD
// Substitution of Maximal Subparts", which WHATWG and Python follow too).
type joiner struct {
	pending []byte // a valid but incomplete sequence, at most 3 bytes
}

// next appends the text of p to dst. Unless last, an incomplete sequence at the
// end is kept for the next call.
func (j *joiner) next(dst, p []byte, last bool) []byte {
	if len(j.pending) > 0 {
		p = slices.Concat(j.pending, p)
		j.pending = nil
	}
	// The usual case: one pass to validate, one copy.
	if utf8.Valid(p) {
		return append(dst, p...)
	}
	for len(p) > 0 {
		n := 0
		for n < len(p) {
			if p[n] < utf8.RuneSelf {
				n++
				continue
			}
			r, size := utf8.DecodeRune(p[n:])
			if r == utf8.RuneError && size <= 1 {
				break
			}
			n += size
		}
		dst = append(dst, p[:n]...)
		if p = p[n:]; len(p) == 0 {
			break
		}
		sub := subpart(p)
		if sub == len(p) && !utf8.FullRune(p) && !last {
			j.pending = append([]byte(nil), p...)
			break
		}
		dst = append(dst, replacement...)
		p = p[sub:]
	}
	return dst
}

// cut forgets the held-back bytes and says how many there were: what would have
// completed them was dropped.
func (j *joiner) cut() int {
	n := len(j.pending)
	j.pending = nil
	return n
}

// subpart is the length of the ill-formed sequence p starts with: the longest
// prefix that could have begun a character, at least 1.
func subpart(p []byte) int {
	n := 1
	for n < len(p) && n < utf8.UTFMax && !utf8.FullRune(p[:n+1]) {
		n++
	}
	return n
}

// continuation counts the bytes at the start of p that can only be the rest of
// a character whose beginning is missing, at most 3.
func continuation(p []byte) int {
	n := 0
	for n < len(p) && n < utf8.UTFMax-1 && !utf8.RuneStart(p[n]) {
		n++
	}
	return n
}
