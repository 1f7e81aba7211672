package serve

import (
	"errors"
	"io"
	"sync"
	"time"
)

// A message of megabytes is rare, and a tight read loop never yields to the
// netpoller, so one client could keep the processors from all others. The start of a
// body is therefore read as it comes and the rest at a bounded rate, part by part, in
// pooled memory; the remainder waits at the client.
const (
	// initialRead is read into memory that grows with what arrives, in bytes: most
	// messages are shorter, and a client that sends nothing holds none.
	initialRead = 16 << 10
	bodyPart    = 64 << 10
	// unpacedBytes is read as it comes.
	unpacedBytes = initialRead + 4*bodyPart
	// A body longer than largeBody counts as large: maxLarge may arrive at once for
	// one principal and maxLargeInAll in total, since each holds memory until it is
	// read.
	largeBody     = initialRead + 16*bodyPart
	maxLarge      = 4
	maxLargeInAll = 16
	// bodyRate limits the reading of a principal's bodies past unpacedBytes, in bytes a
	// second, with a burst of maxBody.
	bodyRate = 16 << 20
)

var (
	errTooManyLarge = errors.New("too many large bodies")
	errTooDeep      = errors.New("nested too deep")
	bodyParts       = sync.Pool{New: func() any { return new([bodyPart]byte) }}
)

// readBody reads a body to its end, which is past until at the latest, or as far
// as it is of use. Its errors are errTooManyLarge, errTooDeep and those of body.
func (h *HTTP) readBody(body io.Reader, principal string, until time.Time) ([]byte, error) {
	var levels nesting
	start, err := io.ReadAll(io.LimitReader(body, initialRead))
	switch {
	case err != nil:
		return nil, err
	case levels.tooDeep(start):
		return nil, errTooDeep
	case len(start) < initialRead:
		return start, nil
	}
	var parts []*[bodyPart]byte
	defer func() {
		for _, p := range parts {
			bodyParts.Put(p)
		}
	}()
	size, large := len(start), false
	for n := 0; err == nil; size += n {
		if size >= largeBody && !large {
			if !h.acquireLargeBody(principal) {
				return nil, errTooManyLarge
			}
			defer h.releaseLargeBody(principal)
			if !h.await(h.large, until) {
				return nil, errTooManyLarge
			}
			defer func() { <-h.large }()
			large = true
		}
		if size >= unpacedBytes {
			h.pace(principal, n)
		}
		p := bodyParts.Get().(*[bodyPart]byte)
		parts = append(parts, p)
		if n, err = fill(p[:], body); levels.tooDeep(p[:n]) {
			return nil, errTooDeep
		}
	}
	if err != io.EOF {
		return nil, err
	}
	whole := append(make([]byte, 0, size), start...)
	for _, p := range parts {
		whole = append(whole, p[:min(bodyPart, size-len(whole))]...)
	}
	return whole, nil
}

// fill is io.ReadFull, except that it reports the end of the body as io.EOF. A
// body that was cut short says io.ErrUnexpectedEOF itself.
func fill(p []byte, body io.Reader) (n int, err error) {
	for n < len(p) && err == nil {
		var more int
		more, err = body.Read(p[n:])
		n += more
	}
	return n, err
}

// await takes a slot; false when none is free in time.
func (h *HTTP) await(places chan struct{}, until time.Time) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case places <- struct{}{}:
		return true
	case <-t.C:
	case <-h.stop.Done():
	}
	return false
}

// pace waits until the principal's rate allows n more bytes.
func (h *HTTP) pace(principal string, n int) {
	h.mu.Lock()
	now := h.signer.now()
	wait := h.quota(principal).bytes.ReserveN(now, n).DelayFrom(now)
	h.mu.Unlock()
	if wait > 0 {
		h.pause(wait, nil)
	}
}
