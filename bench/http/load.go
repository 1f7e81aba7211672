package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// crowd is all the clients that work honestly.
type crowd struct {
	clients []*worker
	pause   time.Duration
	timing  atomic.Int64 // odd while the clock runs
	cancel  context.CancelFunc
	working sync.WaitGroup
}

// worker is a client with what it alone knows.
type worker struct {
	*client
	secret string

	mu       sync.Mutex
	count    int
	firstMS  float64
	times    map[int64][]float64 // by the clock's number
	answers  int
	crossed  int
	failed   int
	examples []string
}

func newCrowd(srv *server, o options) *crowd {
	c := &crowd{pause: o.pause}
	for i := range o.clients {
		c.clients = append(c.clients, &worker{client: newClient(srv.target(), srv.tokens[i/clientsPerPrincipal]), secret: rand.Text(), times: map[int64][]float64{}})
	}
	return c
}

// each does the same for all clients at once and joins what went wrong.
func (c *crowd) each(do func(*worker) error) error {
	errs := make([]error, len(c.clients))
	var wg sync.WaitGroup
	for i, w := range c.clients {
		wg.Go(func() { errs[i] = do(w) })
	}
	wg.Wait()
	// One of them says enough.
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
	}
	return nil
}

// open gives every client its session; the first command starts its sandbox
// and leaves there what tells it from all others.
func (c *crowd) open(ctx context.Context) error {
	return c.each(func(w *worker) error {
		if err := w.open(ctx); err != nil {
			return err
		}
		if err := w.listen(); err != nil {
			return err
		}
		begin := time.Now()
		_, err := w.sh(ctx, "echo "+w.secret+" > who")
		w.firstMS = milliseconds(time.Since(begin))
		return err
	})
}

func (c *crowd) first() (times []float64) {
	for _, w := range c.clients {
		times = append(times, w.firstMS)
	}
	return times
}

// work lets all clients run commands until stop.
func (c *crowd) work(ctx context.Context) {
	ctx, c.cancel = context.WithCancel(ctx)
	for _, w := range c.clients {
		c.working.Go(func() {
			for {
				// Between none and twice the pause, so that clients drift apart.
				pause(ctx, time.Duration(mathrand.Float64()*2*float64(c.pause)))
				if ctx.Err() != nil {
					return
				}
				w.one(&c.timing)
			}
		})
	}
}

func (c *crowd) stop() {
	c.cancel()
	c.working.Wait()
}

// one runs a command and checks the answer. It is not cut short when the run
// ends: every question gets its answer checked.
func (w *worker) one(timing *atomic.Int64) {
	w.count++
	nonce := fmt.Sprintf("%s-%d", w.secret, w.count)
	number := timing.Load()
	begin := time.Now()
	got, err := w.sh(context.Background(), "cat who; echo "+nonce)
	took := milliseconds(time.Since(begin))
	w.mu.Lock()
	defer w.mu.Unlock()
	if want := w.secret + "\n" + nonce + "\n"; err == nil && got != want {
		err = wrongReply(fmt.Sprintf("got %q, want %q", got, want))
	}
	var wrong wrongReply
	switch {
	case errors.As(err, &wrong):
		w.crossed++
	case err != nil:
		w.failed++
	default:
		w.answers++
		if number%2 == 1 {
			w.times[number] = append(w.times[number], took)
		}
	}
	if err != nil && len(w.examples) < 3 {
		w.examples = append(w.examples, err.Error())
	}
}

// clock starts the clock and, called again, stops it. Commands that begin while
// it runs are timed under the number that its start gave, however long they
// take.
func (c *crowd) clock() (number int64) { return c.timing.Add(1) }

// times are those of the commands of a segment that were answered by now.
func (c *crowd) times(number int64) (all []float64) {
	for _, w := range c.clients {
		w.mu.Lock()
		all = append(all, w.times[number]...)
		w.mu.Unlock()
	}
	return all
}

func (c *crowd) outcome() (answers, crossed, failed int, examples []string) {
	for _, w := range c.clients {
		w.mu.Lock()
		answers, crossed, failed = answers+w.answers, crossed+w.crossed, failed+w.failed
		examples = append(examples, w.examples...)
		w.mu.Unlock()
	}
	return answers, crossed, failed, examples[:min(len(examples), 5)]
}

func (c *crowd) close(ctx context.Context) error {
	return c.each(func(w *worker) error { return w.client.close(ctx) })
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
