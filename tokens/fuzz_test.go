package tokens

import (
	"testing"
)

// FuzzEqualsOracle compares with tiktoken-go, guided by coverage.
//
//	go test ./tokens -fuzz FuzzEqualsOracle
func FuzzEqualsOracle(f *testing.F) {
	for i, s := range samples {
		f.Add(uint8(i), s)
	}
	f.Fuzz(func(t *testing.T, which uint8, text string) {
		if len(text) > 2000 {
			return // the oracle takes quadratic time on long pieces
		}
		name := Names()[int(which)%len(Names())]
		if d := differ(get(t, name), oracle(t, name), text); d != "" {
			t.Fatal(d)
		}
	})
}

// FuzzTruncate lets texts and budgets be found that a cut breaks its promises
// for.
func FuzzTruncate(f *testing.F) {
	for i, s := range samples {
		f.Add(s+s+s, i, i)
	}
	f.Fuzz(func(t *testing.T, text string, budget, at int) {
		if budget > 1<<20 {
			return
		}
		e := get(t, "o200k_base")
		text = valid(text)
		checkCut(t, e, text, text, Gap{}, budget, e.Truncate(text, budget, testMark))
		runes := []rune(text)
		at = max(0, min(at, len(runes)))
		head, tail := string(runes[:at]), string(runes[at:])
		gap := Gap{Bytes: 1000, Lines: 10}
		checkCut(t, e, head, tail, gap, budget, e.TruncateParts(head, tail, gap, budget, testMark))
	})
}
