package main

import "testing"

func TestProcessors(t *testing.T) {
	for _, c := range []struct {
		n    int
		set  string
		want int
	}{{1, "", 2}, {2, "", 3}, {4, "", 5}, {5, "", 5}, {64, "", 64}, {1, "1", 1}, {2, "2", 2}} {
		if got := processors(c.n, c.set); got != c.want {
			t.Errorf("%d processors, GOMAXPROCS=%q: %d, want %d", c.n, c.set, got, c.want)
		}
	}
}
