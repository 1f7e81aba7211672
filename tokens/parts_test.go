package tokens

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A text in parts has the tokens it has in one, whatever stands around the
// places where it is divided.
func TestPartsEqualWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 11))
	rounds := 6
	if raceEnabled || testing.Short() {
		rounds = 1
	}
	for _, name := range Names() {
		e := get(t, name)
		for range rounds {
			var b strings.Builder
			for b.Len() < 3*partSize+rng.IntN(3*partSize) {
				b.WriteString(randomText(rng))
				b.WriteString([]string{"\n", "\r\n", "\n\n", " \n", "\n  \n", "}\n", "/\n", "\u2028\n", "'\n"}[rng.IntN(9)])
				b.WriteByte("abzAZs/ 9'"[rng.IntN(10)])
			}
			text := valid(b.String())
			ps := e.parts(text)
			if len(ps) < 2 {
				t.Fatal("the text was not divided")
			}
			var starts, ends []int
			e.walk(text, 0, len(text), func(start, end int) bool {
				starts, ends = append(starts, start), append(ends, end)
				return true
			})
			if n := total(ps); n != len(starts) || n != len(e.Encode(text)) {
				t.Fatalf("%s: %d tokens in parts, %d in one", name, n, len(starts))
			}
			for _, p := range ps {
				if _, ok := slices.BinarySearch(starts, p.from); !ok {
					t.Fatalf("%s: a part begins inside a token: %q", name, text[p.from-8:p.from+8])
				}
			}
			for _, n := range []int{0, 1, ps[len(ps)-1].n, ps[len(ps)-1].n + 1, len(starts) / 2, len(starts), len(starts) + 1} {
				k := min(n, len(starts))
				if got := e.heads(text, n); !slices.Equal(got, ends[:k]) {
					t.Fatalf("%s: the first %d tokens end elsewhere", name, n)
				}
				if got := e.tails(text, ps, n); !slices.Equal(got, starts[len(starts)-k:]) {
					t.Fatalf("%s: the last %d tokens start elsewhere", name, n)
				}
			}
		}
	}
}

// Parts that do not fit together are found out, wherever the mistake is.
func TestPartsThatDoNotFit(t *testing.T) {
	text := strings.Repeat("some words and 12345 numbers\n", 200)
	for _, name := range Names() {
		e := get(t, name)
		want := len(e.Encode(text))
		for _, cut := range []int{2, 5, len(text) / 2, len(text) - 3} {
			if text[cut-1] == '\n' {
				cut += 2
			}
			ps := e.countParts(text, []part{{from: 0, to: cut}, {from: cut, to: len(text)}})
			if len(ps) != 1 || ps[0].n != want || ps[0].to != len(text) {
				t.Errorf("%s, cut at %d: %+v, want one of %d", name, cut, ps, want)
			}
		}
	}
}
