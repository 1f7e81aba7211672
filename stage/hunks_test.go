package stage

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestHunks: all hunks make the new text, none the old, and any choice of them what is
// the same whether it is taken by applying or by leaving out.
func TestHunks(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var old, now []string
		for i := range rnd.IntN(60) {
			line := fmt.Sprintf("line %d", i)
			old = append(old, line)
			switch rnd.IntN(12) {
			case 0:
			case 1:
				now = append(now, line+" changed")
			case 2:
				now = append(now, line, "added")
			default:
				now = append(now, line)
			}
		}
		a, b := strings.Join(old, "\n"), strings.Join(now, "\n")
		if rnd.IntN(2) == 0 {
			a += "\n"
		}
		if rnd.IntN(2) == 0 {
			b += "\n"
		}
		h := Hunks(a, b)
		if got := Patch(a, h, func(int) bool { return true }); got != b {
			t.Fatalf("all hunks of\n%q\nto\n%q\nmake\n%q", a, b, got)
		}
		if got := Patch(a, h, func(int) bool { return false }); got != a {
			t.Fatalf("no hunk of\n%q\nto\n%q\nmakes\n%q", a, b, got)
		}
		// One after the other, as a person applies them.
		text := a
		for i := 0; len(Hunks(text, b)) > 0; i++ {
			if i > len(h)+1 {
				t.Fatalf("the hunks of %q to %q do not end", a, b)
			}
			text = Patch(text, Hunks(text, b), func(i int) bool { return i == 0 })
		}
		if text != b {
			t.Fatalf("one by one: %q, want %q", text, b)
		}
	}
}
