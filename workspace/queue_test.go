package workspace

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTurnsBetweenServers: a server whose writers ask again as soon as they are
// done does not keep another one waiting. Servers have queues of their own and
// share nothing but the lock.
func TestTurnsBetweenServers(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	file := filepath.Join(dir, "f")
	var mu sync.Mutex
	held := time.Hour // the shortest turn
	take := func(ctx context.Context, q *turn) error {
		unlock, err := q.lockDirectory(ctx, fd, "f")
		if err != nil {
			return err
		}
		began := time.Now()
		defer func() {
			mu.Lock()
			held = min(held, time.Since(began))
			mu.Unlock()
			unlock()
		}()
		for range 10 {
			if err := os.WriteFile(file, make([]byte, 64<<10), 0o600); err != nil {
				return err
			}
		}
		return nil
	}
	ctx, stop := context.WithCancel(t.Context())
	busy, quiet := &turn{}, &turn{}
	turns, began := 0, make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for ; ctx.Err() == nil; turns++ {
			if err := take(ctx, busy); err != nil && ctx.Err() == nil {
				t.Errorf("the busy server: %v", err)
				return
			}
			if turns == 0 {
				close(began)
			}
		}
	})
	<-began
	const want = 40
	for i := range want {
		if err := take(ctx, quiet); err != nil {
			t.Errorf("turn %d: %v", i, err)
			break
		}
	}
	stop()
	wg.Wait()
	t.Logf("%d turns of one server, %d of the other, of %v", turns, want, held)
	if most := 8 + 4*int(longRun/held); turns > most*want {
		t.Errorf("the busy server had %d turns while the other had %d", turns, want)
	}
	// Nobody waits any more, and a later server finds the directory free.
	if anotherWaits(fd) {
		t.Error("an announcement outlived its server")
	}
	if err := take(t.Context(), &turn{}); err != nil {
		t.Error(err)
	}
}
