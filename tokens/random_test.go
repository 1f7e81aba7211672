package tokens

import (
	"math/rand/v2"
	"strings"
	"unicode/utf8"
)

var randomWords = strings.Fields(`the quick brown fox getUserName HTTPServer x86_64 func return import package
	naïve Größe ÀÉÎ 日本語 中文 汉字 漢字かな カタカナ 한국어 Привет МИР мир مرحبا שלום नमस्ते สวัสดี Ελληνικά ǅ ʰ ª º
	it's WE'RE they'Ll 'tis o'clock 0x1F 3.14159 1,234,567 ٣٤٥ ½ Ⅷ == != <= -> :: // /* */ ... --- ### "" '' {} [] () </div> &nbsp; \n \t
	😀 👍🏽 👨‍👩‍👧 🏳️‍🌈 ✅ → ∑ € ™ http://example.com/a/b?c=d&e=f`)

var randomRunes = []rune("aAzZsStTrReEvVmMlLdD'ſİK 0519 \t\n\r\v\f/\\!?.,;:-_()[]{}\"#$%&*+<=>@^`|~" +
	"éÉßñǅǈʰªºˈ一丁汉字日本語あアー한국ІіЖжאبपिे่็\u0301\u0308\u20dd\u200d\ufe0f\u00a0\u0085\u1680\u2003\u2028\u2029\u202f\u3000\ufeff½²Ⅷ٣①" +
	"😀👍🏽🇩🇪€™→∑\ufffd\U00010400\U00010428\U0001d400\U000e0041\U0010ffff\x00\x7f")

// randomText is a short text in one of the styles that matter.
func randomText(rng *rand.Rand) string {
	var b strings.Builder
	for range 1 + rng.IntN(4) {
		switch rng.IntN(11) {
		case 0: // words and spaces
			for range rng.IntN(12) {
				b.WriteString(randomWords[rng.IntN(len(randomWords))])
				b.WriteString([]string{" ", " ", "  ", "\n", "", "\t", ", ", "/"}[rng.IntN(8)])
			}
		case 1, 2: // runes that the expressions tell apart
			for range rng.IntN(40) {
				b.WriteRune(randomRunes[rng.IntN(len(randomRunes))])
			}
		case 3: // any rune
			for range rng.IntN(12) {
				r := rune(rng.IntN(0x3000))
				if rng.IntN(4) == 0 {
					r = rune(rng.IntN(0x110000))
				}
				b.WriteString(string(r)) // surrogates become U+FFFD
			}
		case 4: // ASCII
			for range rng.IntN(40) {
				b.WriteByte(byte(rng.IntN(128)))
			}
		case 5: // bytes
			for range rng.IntN(20) {
				b.WriteByte(byte(rng.IntN(256)))
			}
		case 6: // Chinese, Japanese, Korean
			for range rng.IntN(30) {
				switch rng.IntN(6) {
				case 0:
					b.WriteRune(rune(0x3040 + rng.IntN(0xc0)))
				case 1:
					b.WriteRune(rune(0xac00 + rng.IntN(11172)))
				case 2:
					b.WriteRune(rune(0x3000 + rng.IntN(0x40)))
				default:
					b.WriteRune(rune(0x4e00 + rng.IntN(0x5200)))
				}
			}
		case 7: // spaces and line ends
			for range rng.IntN(30) {
				b.WriteByte(" \n\r\t  "[rng.IntN(6)])
			}
		case 8: // a run, with something inside now and then
			r := string(randomRunes[rng.IntN(len(randomRunes))])
			b.WriteString(strings.Repeat(r, rng.IntN(100)))
		case 9: // few different letters, so that the merges compete
			alphabet := "abeinorst"
			k := 1 + rng.IntN(4)
			at := rng.IntN(len(alphabet) - k)
			for range rng.IntN(60) {
				b.WriteByte(alphabet[at+rng.IntN(k)])
			}
		case 10: // letters, digits and capitals
			for range rng.IntN(40) {
				b.WriteByte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'_ "[rng.IntN(65)])
			}
		}
	}
	s := b.String()
	if rng.IntN(20) == 0 && len(s) > 4 { // cut inside characters
		s = s[rng.IntN(3) : len(s)-rng.IntN(3)]
	}
	if !utf8.ValidString(s) && rng.IntN(2) == 0 {
		return strings.ToValidUTF8(s, "")
	}
	return s
}
