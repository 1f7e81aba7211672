package tokens

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"

	"go.uber.org/goleak"

	"mcp-sandbox/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGetUnknown(t *testing.T) {
	_, err := Get("gpt5")
	if sandbox.CodeOf(err) != "invalid_argument" {
		t.Fatalf("got %v", err)
	}
	want := `there is no encoding "gpt5"; use one of o200k_base, cl100k_base`
	if err.Error() != want {
		t.Fatalf("got %q\nwant %q", err, want)
	}
}

func TestGetIsOneEncoding(t *testing.T) {
	for _, name := range Names() {
		if first := get(t, name); first != get(t, name) || first.Name() != name {
			t.Errorf("%s is not itself", name)
		}
	}
}

func TestDecode(t *testing.T) {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 5))
	for _, name := range Names() {
		e, o := get(t, name), oracle(t, name)
		for range 300 {
			text := randomText(rng)
			if got, err := e.Decode(e.Encode(text)); err != nil || got != valid(text) {
				t.Fatalf("%s: %q came back as %q, %v", name, text, got, err)
			}
			// Tokens in any order, so that they are no encoding of anything.
			ids := make([]int, rng.IntN(20))
			for i := range ids {
				ids[i] = rng.IntN(50000)
			}
			if got, err := e.Decode(ids); err != nil || got != o.Decode(ids) {
				t.Fatalf("%s: %v is %q, %v, to the oracle %q", name, ids, got, err, o.Decode(ids))
			}
		}
		for _, id := range []int{-1, int(e.vocab.limit), 1 << 40} {
			if _, err := e.Decode([]int{1, id}); sandbox.CodeOf(err) != "invalid_argument" {
				t.Errorf("%s: %d gave %v", name, id, err)
			}
		}
	}
}

// The classes were generated; this fails when the toolchain's Unicode version
// has moved on, and go generate is the answer.
func TestClassesEqualUnicode(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		s := string(r)
		if r >= 0xd800 && r < 0xe000 {
			continue // not a rune that text can have
		}
		class, size := classAt(s, 0)
		if size != len(s) {
			t.Fatalf("%U has size %d", r, size)
		}
		is := func(bit byte, want bool) {
			if (class&bit != 0) != want {
				t.Fatalf("%U: bit %#x is %v; the tables are of another Unicode version than %s, run go generate",
					r, bit, class&bit != 0, unicode.Version)
			}
		}
		both := unicode.In(r, unicode.Lm, unicode.Lo, unicode.M)
		is(classUpper, both || unicode.In(r, unicode.Lu, unicode.Lt))
		is(classLower, both || unicode.Is(unicode.Ll, r))
		is(classMark, unicode.Is(unicode.M, r))
		is(classNumber, unicode.Is(unicode.N, r))
		is(classSpace, unicode.IsSpace(r))
		is(classLine, r == '\r' || r == '\n')
		if letter(class) != unicode.IsLetter(r) {
			t.Fatalf("%U: letter is %v", r, letter(class))
		}
	}
}

// Every pair the table knows is the split of its token; that it knows no other
// is checked on pairs close to those, and on random ones.
func TestPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 6))
	for _, name := range Names() {
		v := get(t, name).vocab
		parts := map[[2]uint32]uint32{}
		for id := range int(v.limit) {
			if id >= 256 && v.has(id) {
				l, r := v.parts(uint32(id))
				parts[[2]uint32{l, r}] = uint32(id)
			}
		}
		check := func(l, r uint32) {
			want, ok := parts[[2]uint32{l, r}]
			if !ok {
				want = noToken
			}
			if got := v.pair(l, r); got != want {
				t.Fatalf("%s: pair(%d, %d) = %d, want %d", name, l, r, got, want)
			}
		}
		for p := range parts {
			check(p[0], p[1])
			check(p[1], p[0])
			check(p[0], p[1]+1)
		}
		for range 200000 {
			check(uint32(rng.IntN(int(v.limit))), uint32(rng.IntN(int(v.limit))))
		}
	}
}

// naive merges as byte-pair encoding is defined.
func naive(v *vocab, s string) []uint32 {
	var parts []uint32
	for i := range len(s) {
		id, _ := v.whole(s[i : i+1])
		parts = append(parts, id)
	}
	for {
		best, at := uint32(noToken), -1
		for i := range len(parts) - 1 {
			var text []byte
			text = v.appendToken(v.appendToken(text, parts[i]), parts[i+1])
			if id, ok := v.whole(string(text)); ok && id < best {
				best, at = id, i
			}
		}
		if at < 0 {
			return parts
		}
		parts[at] = best
		parts = slices.Delete(parts, at+1, at+2)
	}
}

// Merging is compared with its definition on pieces no grammar would make, of
// tokens put together so that merges across their borders compete.
func TestMergeEqualsDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 8))
	for _, name := range Names() {
		e := get(t, name)
		m := e.getMerger()
		for range 1500 {
			var text []byte
			kin := uint32(rng.IntN(50000))
			for range 1 + rng.IntN(8) {
				// A random token, or a part of it, or one near it.
				if rng.IntN(3) == 0 {
					kin = uint32(rng.IntN(50000))
				}
				id := kin
				for id >= 256 && rng.IntN(3) > 0 {
					l, r := e.vocab.parts(id)
					id = []uint32{l, r}[rng.IntN(2)]
				}
				text = e.vocab.appendToken(text, id)
			}
			var got []uint32
			for _, p := range e.vocab.merge(string(text), m) {
				got = append(got, p.token)
			}
			if want := naive(e.vocab, string(text)); !slices.Equal(got, want) {
				t.Fatalf("%s: %q merges to %d, by definition to %d", name, text, got, want)
			}
		}
		putMerger(m)
	}
}

func TestManyAtOnce(t *testing.T) {
	text := strings.Repeat("func naïve(日本語 string) { return 12345 }\n", 50)
	want := map[string]int{}
	for _, name := range Names() {
		want[name] = len(oracle(t, name).EncodeOrdinary(text))
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 20 {
				name := Names()[(i+j)%len(Names())]
				e, err := Get(name)
				if err != nil {
					t.Error(err)
					return
				}
				if n := e.Count(text); n != want[name] {
					t.Errorf("%s: %d tokens, want %d", name, n, want[name])
				}
			}
		})
	}
	wg.Wait()
}
