package tokens

import (
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// streamed counts text in parts of random sizes.
func streamed(e *Encoding, text string, window int, rng *rand.Rand) int {
	c := e.NewCounter()
	c.window = window
	for len(text) > 0 {
		n := 1 + rng.IntN(min(len(text), 1+rng.IntN(2*window)))
		io.WriteString(c, text[:n])
		text = text[n:]
		if rng.IntN(16) == 0 {
			c.Total() // looking changes nothing
		}
	}
	return c.Total()
}

// longText has pieces longer than a small window, of every kind and with every
// way to end, and places late in them that decide where they end.
func longText(rng *rand.Rand) string {
	runs := []string{"a", "A", "一", "ʰ", "\u0301", " ", "\n", "\r\n", "\u3000", "!", "/", "-=", "1", "Ⅷ", "ab", "AB", "ABC一", "A一", "é", "the", "日本", "Ǆ", "\t", " \n", "\xff"}
	var b strings.Builder
	for range 1 + rng.IntN(5) {
		if rng.IntN(2) == 0 {
			b.WriteString(randomText(rng))
		}
		r := runs[rng.IntN(len(runs))]
		b.WriteString(strings.Repeat(r, rng.IntN(2500/len(r))))
		if rng.IntN(2) == 0 {
			r := runs[rng.IntN(len(runs))]
			b.WriteString(strings.Repeat(r, rng.IntN(2500/len(r))))
		}
		b.WriteString([]string{"", "'s", "'", "'R", "'re", "a", "A", "\n", " ", "!", "x\n", "1", "'ll'"}[rng.IntN(13)])
	}
	return b.String()
}

func TestCounterEqualsCount(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	rounds := 1500
	if raceEnabled {
		rounds = 200
	}
	for i := range rounds {
		e := get(t, Names()[i%len(Names())])
		text := longText(rng)
		window := 300 + rng.IntN(600)
		if got, want := streamed(e, text, window, rng), e.Count(text); got != want {
			t.Fatalf("%s, window %d: Counter says %d, Count %d, of %q", e.name, window, got, want, text)
		}
	}
}

func TestCounterEqualsCountOfRealText(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	for _, name := range Names() {
		e := get(t, name)
		for _, text := range []string{goSource(t, 400000), corpusFile(t, "cjk.txt", 300000), strings.Repeat("a", 300000) + "'s"} {
			if got, want := streamed(e, text, window, rng), e.Count(text); got != want {
				t.Errorf("%s: Counter says %d, Count %d, of %.40q", name, got, want, text)
			}
			n, err := e.CountReader(iotest.OneByteReader(strings.NewReader(text[:5000])))
			if want := e.Count(text[:5000]); n != want || err != nil {
				t.Errorf("%s: CountReader says %d, %v, Count %d, of %.40q", name, n, err, want, text)
			}
		}
	}
}

func TestCountReaderError(t *testing.T) {
	e := get(t, "o200k_base")
	broken := errors.New("broken")
	n, err := e.CountReader(io.MultiReader(strings.NewReader("one two"), iotest.ErrReader(broken)))
	if n != 2 || err != broken {
		t.Fatalf("got %d, %v", n, err)
	}
}

// repeating gives its text again and again until it has given n bytes.
type repeating struct {
	text string
	n    int
}

func (r *repeating) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && r.n > 0 {
		k := copy(p[n:min(len(p), n+r.n)], r.text)
		n, r.n = n+k, r.n-k
	}
	return n, nil
}

// The memory of a count must not depend on the text, and least of all on a
// text made to defeat it.
func TestCountReaderKeepsLittle(t *testing.T) {
	size := 8 << 20
	if testing.Short() || raceEnabled {
		size = 2 << 20
	}
	for _, name := range []string{"o200k_base", "cl100k_base", "r50k_base"} {
		e := get(t, name)
		for _, unit := range []string{"a", " ", "\n", "A", "一", "!", "/", "一A", " \n", "word word, ", "\xff", "7"} {
			r := &repeating{strings.Repeat(unit, 999), size}
			var peak uint64
			watched := readerFunc(func(p []byte) (int, error) {
				if r.n&(1<<18-1) < 32<<10 {
					var stats runtime.MemStats
					runtime.GC()
					runtime.ReadMemStats(&stats)
					peak = max(peak, stats.HeapAlloc)
				}
				return r.Read(p)
			})
			runtime.GC()
			var before runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := e.CountReader(watched); err != nil {
				t.Fatal(err)
			}
			if grown := int64(peak) - int64(before.HeapAlloc); grown > 2<<20 {
				t.Errorf("%s: %d bytes for %q", name, grown, unit)
			}
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
