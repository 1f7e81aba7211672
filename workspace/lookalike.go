package workspace

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Text that a model has copied often differs from the file in characters that
// look the same: blanks that do not break, quotation marks that a word processor
// has made, letters with their accent apart. Such a difference cannot be seen in
// the lines themselves, so it is named.

// mostDiffering bounds the lines whose difference is told.
const mostDiffering = 3

// lookAlike finds the place where lines read like wanted once characters that
// look alike are taken as the same; at is -1 when there is none, and when
// nothing there differs but blanks. differ names the differences, one a line.
func lookAlike(lines, wanted []string) (at int, differ []string) {
	want := make([]string, len(wanted))
	for i, w := range wanted {
		want[i] = foldLine(w)
	}
	if want[0] == "" && len(want) == 1 {
		return -1, nil
	}
	for i := 0; i+len(want) <= len(lines); i++ {
		if !looksLike(lines[i:], want) {
			continue
		}
		for j := range want {
			line, cut := strings.TrimSuffix(lines[i+j], "\r"), 0
			switch {
			case len(want) == 1:
				cut = originalOffset(line, strings.Index(foldLine(line), want[0]))
			case j == 0:
				cut = originalOffset(line, len(foldLine(line))-len(want[0]))
			}
			if d := firstDifference(line, cut, strings.TrimSuffix(wanted[j], "\r")); d != "" && len(differ) < mostDiffering {
				differ = append(differ, fmt.Sprintf("line %d, %s", i+j+1, d))
			}
		}
		if len(differ) > 0 {
			return i, differ
		}
	}
	return -1, nil
}

// looksLike compares as a text within a file: its first line may begin within a
// line, its last end within one.
func looksLike(lines, want []string) bool {
	first, last := foldLine(lines[0]), len(want)-1
	if last == 0 {
		return strings.Contains(first, want[0])
	}
	if !strings.HasSuffix(first, want[0]) {
		return false
	}
	for j := 1; j < last; j++ {
		if foldLine(lines[j]) != want[j] {
			return false
		}
	}
	return strings.HasPrefix(foldLine(lines[last]), want[last])
}

// foldLine writes characters that look alike in one way.
func foldLine(line string) string {
	line = strings.TrimSuffix(line, "\r")
	plain := true
	for i := 0; i < len(line) && plain; i++ {
		plain = line[i] < utf8.RuneSelf
	}
	if plain {
		return line
	}
	var b strings.Builder
	for rest := line; rest != ""; {
		n := segment(rest)
		b.WriteString(foldSegment(rest[:n]))
		rest = rest[n:]
	}
	return b.String()
}

// latinTwins are letters of other scripts that are drawn as Latin ones, by the Latin
// letter (Unicode TS 39).
var latinTwins = func() map[rune]rune {
	twins := map[rune]rune{}
	for _, pair := range []struct{ other, latin string }{
		{"\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb", "aeopcyxijsdh"}, // Cyrillic
		{"\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0406\u0408\u0405", "ABEKMHOPCTYXIJS"},
		{"\u03bf\u03bd\u03b9\u03c1\u03b1", "ovipa"}, // Greek
		{"\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7", "ABEZHIKMNOPTYX"},
	} {
		latin := []rune(pair.latin)
		for i, r := range []rune(pair.other) {
			twins[r] = latin[i]
		}
	}
	return twins
}()

// segment is the length of a character with the marks that combine with it.
func segment(s string) int {
	if n := norm.NFC.NextBoundaryInString(s, true); n > 0 {
		return n
	}
	return len(s)
}

func foldSegment(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == len(s) {
		switch {
		case r < utf8.RuneSelf:
			return s
		case r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Zs, r):
			return " "
		case invisible(r):
			return ""
		case strings.ContainsRune("\u2018\u2019\u201a\u201b\u2032\u02bc\u00b4\uff07", r):
			return "'"
		case strings.ContainsRune("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\uff02", r):
			return `"`
		case r >= '\u2010' && r <= '\u2015' || r == '\u2212' || r == '\ufe63' || r == '\uff0d':
			return "-"
		case r == '\u2026':
			return "..."
		case r >= '\uff01' && r <= '\uff5e':
			return string(r - 0xfee0) // full width
		case latinTwins[r] != 0:
			return string(latinTwins[r])
		}
	}
	return norm.NFC.String(strings.Map(func(r rune) rune {
		if invisible(r) {
			return -1
		}
		return r
	}, s))
}

// invisible reports characters without a width of their own.
func invisible(r rune) bool {
	return r == '\u00ad' || r == '\ufeff' || r >= '\ufe00' && r <= '\ufe0f' || unicode.Is(unicode.Cf, r)
}

// originalOffset is the byte of line whose folded form begins at the byte folded.
func originalOffset(line string, folded int) int {
	at, n := 0, 0
	for at < len(line) && n < folded {
		s := segment(line[at:])
		n += len(foldSegment(line[at : at+s]))
		at += s
	}
	return at
}

// firstDifference names the first character in which the line, from the byte cut
// on, is not want; "" when there is none.
func firstDifference(line string, cut int, want string) string {
	column := func(at int) int { return utf8.RuneCountInString(line[:at]) + 1 }
	for at := cut; want != ""; {
		if at == len(line) {
			return fmt.Sprintf("column %d: the file's line ends where yours has %s", column(at), spelled(want[:segment(want)]))
		}
		a, b := segment(line[at:]), segment(want)
		have, sent := line[at:at+a], want[:b]
		switch {
		case have == sent:
			at, want = at+a, want[b:]
		case foldSegment(have) == "" && foldSegment(sent) != "":
			return fmt.Sprintf("column %d: the file has %s, which yours leaves out", column(at), spelled(have))
		case foldSegment(sent) == "":
			return fmt.Sprintf("column %d: yours has %s, which the file leaves out", column(at), spelled(sent))
		default:
			return fmt.Sprintf("column %d: the file has %s where yours has %s", column(at), spelled(have), spelled(sent))
		}
	}
	return ""
}

// characterNames are of characters that cannot be told by their looks.
var characterNames = map[rune]string{
	' ': "a space", '\t': "a tab", '\u00a0': "a no-break space", '\u00ad': "a soft hyphen", '\u200b': "a zero width space", '\u200c': "a zero width non-joiner",
	'\u200d': "a zero width joiner", '\u2060': "a word joiner", '\ufeff': "a byte order mark", '\u202f': "a narrow no-break space", '\u3000': "an ideographic space",
	'\u2018': "a curly quote", '\u2019': "a curly quote", '\u201c': "a curly quote", '\u201d': "a curly quote", '\'': "a straight quote", '"': "a straight quote",
	'\u2010': "a hyphen", '\u2011': "a no-break hyphen", '\u2013': "an en dash", '\u2014': "an em dash", '\u2212': "a minus sign", '-': "a hyphen-minus", '\u2026': "an ellipsis",
}

// spelled gives the code points of s, with a word for what they are.
func spelled(s string) string {
	var points []string
	for _, r := range s {
		points = append(points, fmt.Sprintf("U+%04X", r))
	}
	out, what := strings.Join(points, " "), ""
	switch r, n := utf8.DecodeRuneInString(s); {
	case n == len(s) && characterNames[r] != "":
		what = characterNames[r]
	case n == len(s) && latinTwins[r] != 0 && unicode.Is(unicode.Cyrillic, r):
		what = "a Cyrillic letter"
	case n == len(s) && latinTwins[r] != 0:
		what = "a Greek letter"
	case n == len(s) && r >= '\uff01' && r <= '\uff5e':
		what = "a full width form"
	case n == len(s) && unicode.Is(unicode.Zs, r):
		what = "a kind of space"
	case n == len(s) && invisible(r):
		what = "an invisible character"
	case n < len(s):
		what = "a letter and its mark apart, NFD"
		if norm.NFC.IsNormalString(s) {
			what = "several code points"
		}
	case !norm.NFD.IsNormalString(s):
		what = "one character, NFC"
	}
	if what == "" {
		return out
	}
	return out + " (" + what + ")"
}
