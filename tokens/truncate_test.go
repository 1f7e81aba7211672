package tokens

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

const markText = "[%d tokens, %d lines cut; read_output out_1]"

func testMark(tokens, lines int) string { return fmt.Sprintf(markText, tokens, lines) }

// checkCut proves what every cut must keep to, from the texts alone.
func checkCut(t *testing.T, e *Encoding, head, tail string, gap Gap, budget int, c Truncation) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s, budget %d, of %.200q ... %.200q: %s\ncut %+v", e.name, budget, head, tail, fmt.Sprintf(format, args...), c)
	}
	if n := e.Count(c.Text); n > max(budget, 0) {
		fail("%d tokens", n)
	}
	if !utf8.ValidString(c.Text) {
		fail("not valid UTF-8")
	}
	if !c.Truncated {
		if gap.Bytes > 0 || c.Text != valid(head) || c.RemovedTokens != 0 || c.RemovedLines != 0 {
			fail("changed, but not said to be")
		}
		return
	}
	line := testMark(c.RemovedTokens, c.RemovedLines)
	at := strings.Index(c.Text, line)
	if at < 0 {
		if !strings.HasPrefix(line, c.Text) {
			fail("neither text and mark nor a part of the mark")
		}
		return
	}
	left := strings.TrimSuffix(c.Text[:at], "\n")
	right := strings.TrimPrefix(c.Text[at+len(line):], "\n")
	if at > 0 && c.Text[at-1] != '\n' {
		fail("the mark does not start a line")
	}
	if at+len(line) < len(c.Text) && c.Text[at+len(line)] != '\n' {
		fail("the mark does not end a line")
	}
	if !strings.HasPrefix(head, left) || !strings.HasSuffix(tail, right) {
		fail("not a head and a tail of the text")
	}
	if gap.Bytes == 0 && len(left)+len(right) > len(head) {
		fail("head and tail overlap")
	}
	if c.RemovedTokens <= 0 || c.RemovedTokens > c.OriginalTokens || c.RemovedLines <= 0 {
		fail("removed nothing, or more than there was")
	}
}

func TestTruncateKeepsItsPromises(t *testing.T) {
	rng := rand.New(rand.NewPCG(rand.Uint64(), 7))
	for _, name := range Names() {
		e := get(t, name)
		for range 400 {
			var b strings.Builder
			for range 1 + rng.IntN(12) {
				b.WriteString(randomText(rng))
				if rng.IntN(3) == 0 {
					b.WriteString("\r\n")
				}
			}
			text := valid(b.String())
			n := e.Count(text)
			for _, budget := range []int{-1, 0, 1, 2, 3, 7, 15, 16, 17, 18, 20, 25, 40, n / 2, n - 1, n, n + 1, rng.IntN(n + 2)} {
				c := e.Truncate(text, budget, testMark)
				if c.OriginalTokens != n || c.Truncated != (n > budget) || c.Estimated {
					t.Fatalf("%d tokens, budget %d: %+v", n, budget, c)
				}
				checkCut(t, e, text, text, Gap{}, budget, c)
				half := len(text) / 2
				for half > 0 && !utf8.RuneStart(text[half]) {
					half--
				}
				gap := Gap{Bytes: int64(1 + rng.IntN(100000)), Lines: rng.IntN(50)}
				if rng.IntN(2) == 0 {
					gap.Total = n + 10 + rng.IntN(1000)
				}
				c = e.TruncateParts(text[:half], text[half:], gap, budget, testMark)
				if !c.Truncated || c.Estimated != (gap.Total == 0) || gap.Total > 0 && c.OriginalTokens != gap.Total {
					t.Fatalf("gap %+v: %+v", gap, c)
				}
				checkCut(t, e, text[:half], text[half:], gap, budget, c)
			}
		}
	}
}

func TestTruncate(t *testing.T) {
	e := get(t, "o200k_base")
	lines := func(from, to int) string {
		var b strings.Builder
		for i := from; i <= to; i++ {
			fmt.Fprintf(&b, "line %d of the log\n", i)
		}
		return b.String()
	}
	tests := []struct {
		name, text string
		budget     int
		want       string
		tokens     int
		lines      int
	}{
		{"fits", "short", 10, "short", 0, 0},
		{"exactly fits", "one two three", 3, "one two three", 0, 0},
		{"whole lines", lines(1, 100), 80, lines(1, 4) + "[644 tokens, 92 lines cut; read_output out_1]\n" + lines(97, 100), 0, 0},
		{"nothing", "one two three", 0, "", 3, 1},
		{"less than nothing", "one two three", -5, "", 3, 1},
		{"a part of the mark", strings.Repeat("word ", 50), 3, "[51 tokens", 51, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := e.Truncate(test.text, test.budget, testMark)
			if test.lines == 0 && c.Truncated {
				test.tokens, test.lines = c.RemovedTokens, c.RemovedLines
				kept := strings.Split(test.want, testMark(c.RemovedTokens, c.RemovedLines)+"\n")
				if len(kept) == 2 && e.Count(kept[0])+e.Count(kept[1])+c.RemovedTokens != c.OriginalTokens {
					t.Errorf("%d tokens removed of %d", c.RemovedTokens, c.OriginalTokens)
				}
			}
			if c.Text != test.want || c.RemovedTokens != test.tokens || c.RemovedLines != test.lines {
				t.Errorf("got %q, %d tokens and %d lines removed\nwant %q, %d, %d",
					c.Text, c.RemovedTokens, c.RemovedLines, test.want, test.tokens, test.lines)
			}
		})
	}
}

func TestTruncateKeepsCharactersTogether(t *testing.T) {
	e := get(t, "cl100k_base")
	for _, unit := range []string{"👨‍👩‍👧‍👦", "👍🏽", "❤️", "e\u0301\u0323", "\r\n", "漢", "कि"} {
		text := strings.Repeat(unit, 400)
		for budget := 25; budget < 90; budget++ {
			c := e.Truncate(text, budget, testMark)
			left, right, ok := strings.Cut(c.Text, testMark(c.RemovedTokens, c.RemovedLines))
			if !ok {
				t.Fatalf("%q, budget %d: no mark in %q", unit, budget, c.Text)
			}
			if unit != "\r\n" {
				left, right = strings.TrimSuffix(left, "\n"), strings.TrimPrefix(right, "\n")
			} else {
				right = strings.TrimPrefix(right, "\n")
			}
			if len(left)%len(unit) != 0 || len(right)%len(unit) != 0 {
				t.Fatalf("%q, budget %d: cut to %q and %q", unit, budget, left, right)
			}
		}
	}
	// Marks without end are cut somewhere after all.
	c := e.Truncate("a"+strings.Repeat("\u0301", 5000), 100, testMark)
	if n := e.Count(c.Text); n > 100 || n < 80 {
		t.Fatalf("%d tokens of 100", n)
	}
}

func TestTruncateUsesItsBudget(t *testing.T) {
	e := get(t, "o200k_base")
	for _, text := range []string{goSource(t, 300000), strings.Repeat("x", 100000), strings.Repeat("汉字", 30000)} {
		c := e.Truncate(text, 2000, nil)
		if n := e.Count(c.Text); n > 2000 || n < 1800 {
			t.Errorf("%.20q: %d tokens of 2000", text, n)
		}
	}
}

func TestTruncateInvalidText(t *testing.T) {
	e := get(t, "o200k_base")
	if c := e.Truncate("a\xff\xfeb", 10, nil); c.Text != "a\ufffd\ufffdb" || c.Truncated {
		t.Errorf("got %+v", c)
	}
	c := e.Truncate(strings.Repeat("\xff", 1000), 50, func(int, int) string { return "\xfe" })
	if !c.Truncated || !utf8.ValidString(c.Text) || e.Count(c.Text) > 50 {
		t.Errorf("got %+v", c)
	}
}

func TestTruncatePartsWithoutGap(t *testing.T) {
	e := get(t, "o200k_base")
	if c := e.TruncateParts("hel", "lo", Gap{}, 10, nil); c.Text != "hello" || c.OriginalTokens != 1 {
		t.Errorf("got %+v", c)
	}
	c := e.TruncateParts("head\n", "tail\n", Gap{Bytes: 4000, Lines: 9, Total: 1004}, 100, testMark)
	if want := "head\n[1000 tokens, 10 lines cut; read_output out_1]\ntail\n"; c.Text != want {
		t.Errorf("got %q, want %q", c.Text, want)
	}
}
