package tokens

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// streamed counts text in parts of random sizes.
func streamed(e *Encoding, text string, window int, rng *rand.Rand) *Counter {
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
	return c
}

// wrong says how c differs from what text is when looked at in one go.
func wrong(c *Counter, text string) string {
	text = valid(text)
	pieces := 0
	for p := 0; p < len(text); pieces++ {
		p = c.e.grammar.split(text, p)
	}
	end, want := c.finished(), c.e.Count(text)
	if c.Total() != want || end.total != want || end.pieces != pieces {
		return fmt.Sprintf("%s, window %d: Counter says %d tokens in %d pieces, not %d in %d, of %.4000q",
			c.e.name, c.window, end.total, end.pieces, want, pieces, text)
	}
	return ""
}

// longText has pieces longer than a small window, of every kind and with every
// way to end, and places late in them that decide where they end.
func longText(rng *rand.Rand) string {
	runs := []string{"a", "A", "一", "ʰ", "\u0301", " ", "\n", "\r\n", "\u3000", "!", "/", "-=", "1", "Ⅷ", "ab", "AB", "ABC一", "A一", "é", "the", "日本", "Ǆ", "\t", " \n", "\xff"}
	var b strings.Builder
	for range 1 + rng.IntN(5) {
		switch rng.IntN(4) {
		case 0, 1:
			b.WriteString(randomText(rng))
		case 2:
			b.WriteString([]string{"一", "!一", "\u0301", "\n", " \n"}[rng.IntN(5)])
			b.WriteString(strings.Repeat([]string{"A", " "}[rng.IntN(2)], rng.IntN(2500)))
			b.WriteString([]string{"a", "\n", "'s", "A", "一"}[rng.IntN(5)])
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
		if w := wrong(streamed(e, text, window, rng), text); w != "" {
			t.Fatal(w)
		}
	}
}

// Texts of which a part decides, maybe long after it came, where pieces end
// that came before; counted with the end of the buffer at every place in turn.
func TestCounterWhereverTheBufferEnds(t *testing.T) {
	var texts []string
	for _, before := range []string{"", "x 一", "!一", "\u0301", "a\n", "a \n ", "1", "  "} {
		for _, run := range []string{"A", " ", "一", "a", "!", "/", "\n", "\u3000", "7"} {
			for _, after := range []string{"", "a", "'s", "'RE it's", "\n", "一", " ", "!", "\n x"} {
				n := 700
				if len(before) == 0 {
					n = 350 // shorter than some windows, to end inside
				}
				texts = append(texts, before+strings.Repeat(run, n/len(run))+after+" we'll they'RE 'd")
			}
		}
	}
	texts = append(texts, strings.Repeat("it's they're we'Ll 123456 !\n\n", 40), strings.Repeat("一A's 一Ab'll\n \n", 40))
	step := 7
	if raceEnabled || testing.Short() {
		step = 97
	}
	for i, text := range texts {
		for _, name := range []string{"o200k_base", "cl100k_base", "p50k_base"} {
			e := get(t, name)
			windows := step
			if i >= len(texts)-2 {
				windows = 1
			}
			for window := 260 + i%windows; window < 420; window += windows {
				c := e.NewCounter()
				c.window = window
				for i := range len(text) {
					io.WriteString(c, text[i:i+1])
				}
				if w := wrong(c, text); w != "" {
					t.Fatal(w)
				}
			}
		}
	}
}

func TestCounterEqualsCountOfRealText(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	for _, name := range Names() {
		e := get(t, name)
		for _, text := range []string{goSource(t, 400000), corpusFile(t, "cjk.txt", 300000), strings.Repeat("a", 300000) + "'s"} {
			if w := wrong(streamed(e, text, window, rng), text); w != "" {
				t.Errorf("%.300s", w)
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
