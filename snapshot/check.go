package snapshot

import (
	"context"
	"sync"
)

// CheckResult says how whole a snapshot is.
type CheckResult struct {
	Files  int   `json:"files"`
	Chunks int   `json:"chunks"` // different ones that were read
	Bytes  int64 `json:"bytes"`  // of them
	// Damaged lists files that cannot be restored, at most 100 of DamagedCount.
	Damaged      []string `json:"damaged,omitempty"`
	DamagedCount int      `json:"damaged_count,omitempty"`
}

// Check reads all that a snapshot needs and verifies it against its hashes,
// as a restore would. Damage is in the result; a list of files that cannot be
// read at all is an error.
func (r *Repo) Check(ctx context.Context, id string) (CheckResult, error) {
	var res CheckResult
	done, err := r.share(ctx)
	if err != nil {
		return res, err
	}
	defer done()
	m, err := r.manifest(ctx, id)
	if err != nil {
		return res, err
	}
	defer m.close()
	c := &checker{ctx: ctx, r: r, state: map[chunkID]bool{}}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	files := make(chan *entry, jobsLength)
	var wg sync.WaitGroup
	for range r.opt.Parallel {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := c.run(files); err != nil {
				cancel(err)
			}
		}()
	}
	for {
		e, err := m.next()
		if err != nil {
			cancel(err)
		}
		if err != nil || e == nil {
			break
		}
		if e.kind != kindFile {
			continue
		}
		res.Files++
		if e.hard != "" {
			continue
		}
		select {
		case files <- e:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(files)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return res, fail(err, "snapshot %s could not be checked", id)
	}
	res.Chunks, res.Bytes = c.chunks, c.bytes
	res.DamagedCount = len(c.damaged)
	res.Damaged = c.damaged[:min(len(c.damaged), maxSkipped)]
	return res, nil
}

type checker struct {
	ctx context.Context
	r   *Repo

	mu      sync.Mutex
	state   map[chunkID]bool // read, and whether it was whole
	damaged []string
	chunks  int
	bytes   int64
}

func (c *checker) run(files <-chan *entry) error {
	dec, err := newExpander()
	if err != nil {
		return err
	}
	defer restExpander(dec)
	var buf []byte
	for e := range files {
		whole := true
		for _, p := range e.pieces {
			if p.hole() {
				continue
			}
			c.mu.Lock()
			ok, known := c.state[p.id]
			c.mu.Unlock()
			if !known {
				b, err := c.r.chunks.read(c.ctx, dec, buf, p.id)
				if c.ctx.Err() != nil {
					return c.ctx.Err()
				}
				if ok = err == nil; ok {
					buf = b
				}
				c.mu.Lock()
				if _, known := c.state[p.id]; !known {
					c.state[p.id] = ok
					if ok {
						c.chunks++
						c.bytes += int64(len(b))
					}
				}
				c.mu.Unlock()
			}
			whole = whole && ok
		}
		if !whole {
			c.mu.Lock()
			c.damaged = append(c.damaged, printable(e.path))
			c.mu.Unlock()
		}
	}
	return nil
}
