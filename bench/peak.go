package main

import (
	"time"

	"mcp-sandbox/bench/internal/proctree"
)

// watchPeak samples the tree's memory until stop, which gives the largest.
func watchPeak(roots func() []int) (stop func() int64) {
	done, result := make(chan struct{}), make(chan int64)
	go func() {
		// Often enough for a peak of a tenth of a second, seldom enough that
		// reading does not hold up what it watches.
		tick := time.NewTicker(30 * time.Millisecond)
		defer tick.Stop()
		var peak int64
		for {
			peak = max(peak, proctree.PSS(proctree.Tree(roots()...)))
			select {
			case <-done:
				result <- max(peak, proctree.PSS(proctree.Tree(roots()...)))
				return
			case <-tick.C:
			}
		}
	}()
	return func() int64 { close(done); return <-result }
}
