package session

import "sync"

// atOnce calls fn for each item, n of them at a time, and returns when those that
// began have ended. It begins no more once quit is closed.
func atOnce[T any](n int, items []T, quit <-chan struct{}, fn func(T)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, n)
	for _, item := range items {
		select {
		case places <- struct{}{}:
		case <-quit:
			return
		}
		select {
		case <-quit:
			return
		default:
		}
		wg.Go(func() {
			defer func() { <-places }()
			fn(item)
		})
	}
}
