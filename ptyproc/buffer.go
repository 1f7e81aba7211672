package ptyproc

import "bytes"

// outputBuffer holds what a process wrote since the last reply in bounded
// memory: the first headCap bytes and the last tailCap bytes. What falls out of
// the middle is counted, never waited for: a reader that blocked would stop the
// process, and a model that never polls would stop it for good.
//
// It is not safe for concurrent use; the process's lock guards it.
type outputBuffer struct {
	headCap, tailCap int
	head             []byte
	// tail is a ring once it has grown to tailCap; start is its oldest byte.
	tail    []byte
	start   int
	dropped int64
	// lines is how many line feeds were among the dropped.
	lines int64
}

func countFeeds(p []byte) int64 { return int64(bytes.Count(p, []byte{'\n'})) }

// append adds p and never fails.
func (b *outputBuffer) append(p []byte) {
	// The head only grows while nothing lies behind it, else order would be lost.
	if len(b.tail) == 0 && b.dropped == 0 {
		n := min(len(p), b.headCap-len(b.head))
		b.head = append(b.head, p[:n]...)
		p = p[n:]
	}
	if over := len(p) - b.tailCap; over > 0 {
		b.dropped += int64(over) + int64(len(b.tail))
		b.lines += countFeeds(p[:over]) + countFeeds(b.tail)
		b.tail, b.start = b.tail[:0], 0
		p = p[over:]
	}
	if len(p) == 0 {
		return
	}
	if n := min(len(p), b.tailCap-len(b.tail)); n > 0 {
		// Not yet a ring: start is 0 until the tail is full.
		b.tail = append(b.tail, p[:n]...)
		p = p[n:]
	}
	for len(p) > 0 {
		gone := b.tail[b.start:]
		b.lines += countFeeds(gone[:min(len(gone), len(p))])
		n := copy(gone, p)
		b.dropped += int64(n)
		b.start = (b.start + n) % len(b.tail)
		p = p[n:]
	}
}

func (b *outputBuffer) len() int { return len(b.head) + len(b.tail) }

// take hands out the head, the tail and how many bytes are missing between
// them, and empties the buffer. The slices are the caller's.
func (b *outputBuffer) take() (head, tail []byte, dropped int64) {
	head, dropped = b.head, b.dropped
	switch {
	case b.start == 0:
		tail = b.tail
	default:
		tail = make([]byte, 0, len(b.tail))
		tail = append(tail, b.tail[b.start:]...)
		tail = append(tail, b.tail[:b.start]...)
	}
	b.head, b.tail, b.start, b.dropped, b.lines = nil, nil, 0, 0, 0
	return head, tail, dropped
}

// last copies up to n of the newest bytes without taking them.
func (b *outputBuffer) last(n int) []byte {
	out := make([]byte, 0, n)
	if short := n - len(b.tail); short > 0 && b.dropped == 0 {
		out = append(out, b.head[max(0, len(b.head)-short):]...)
	}
	want := min(n, len(b.tail))
	for i := len(b.tail) - want; i < len(b.tail); i++ {
		out = append(out, b.tail[(b.start+i)%len(b.tail)])
	}
	return out
}
