package snapshot

import (
	"fmt"
	"runtime"
	"testing"
)

// A server with many sessions stores a small workspace at the start of each.
func TestSmallSnapshotAllocatesLittle(t *testing.T) {
	w := newWorld(t, Options{})
	one := func(i int) {
		w.write("who", fmt.Sprintf("number %d", i))
		_, err := w.repo.Create(t.Context(), CreateRequest{Auto: true})
		must(t, err)
	}
	one(0)
	const times, most = 20, 1 << 20 // bytes; it was 3 MB
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range times {
		one(i + 1)
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / times; got > most {
		t.Errorf("a snapshot of one small file allocates %d bytes, more than %d", got, most)
	}
}
