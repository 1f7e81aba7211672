package session

import (
	"fmt"
	"sync"
	"testing"
)

// TestRecordsBesideSweeps: servers that start at the same time in one state
// directory sweep it while others record their sessions, and no record is lost.
func TestRecordsBesideSweeps(t *testing.T) {
	w := newWorld(t)
	m := w.manager(Config{})
	stop := make(chan struct{})
	var sweeps, records sync.WaitGroup
	for range 4 {
		sweeps.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					m.state.sweep(m.log)
				}
			}
		})
	}
	for i := range 4 {
		records.Go(func() {
			for k := range 100 {
				r, err := m.state.add(fmt.Sprintf("%032x", i*1000+k), recordData{})
				if err != nil {
					t.Error(err)
					return
				}
				d := r.data
				d.Owned = true
				if err := r.update(d); err != nil {
					t.Error(err)
				}
				if err := r.remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	records.Wait()
	close(stop)
	sweeps.Wait()
}
