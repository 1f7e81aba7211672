package tokens

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// A long text is counted in parts, by as many goroutines as there are
// processors. Parts begin at a letter after a line feed, which no piece of any
// grammar spans. That is not taken on trust: each part is split with the whole
// text in view, and must end exactly where the next begins. If one does not,
// the text is one part.

const (
	// partSize is what a part is long at least; less is not worth a goroutine.
	partSize = 32 << 10
	// partSearch is how far beyond it a place to begin the next is looked for.
	partSearch = 16 << 10
)

type part struct {
	from, to int
	n        int // tokens
}

// parts counts text, which is valid UTF-8.
func (e *Encoding) parts(text string) []part { return e.countParts(text, divide(text)) }

func (e *Encoding) countParts(text string, ps []part) []part {
	if len(ps) == 1 {
		ps[0].n, _ = e.countRange(text, 0, len(text))
		return ps
	}
	var next atomic.Int64
	var astray atomic.Bool
	var wg sync.WaitGroup
	for range min(len(ps), runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(ps) && !astray.Load(); i = int(next.Add(1)) - 1 {
				end := 0
				if ps[i].n, end = e.countRange(text, ps[i].from, ps[i].to); end != ps[i].to {
					astray.Store(true)
				}
			}
		})
	}
	wg.Wait()
	if astray.Load() {
		n, _ := e.countRange(text, 0, len(text))
		return []part{{0, len(text), n}}
	}
	return ps
}

func total(ps []part) (n int) {
	for _, p := range ps {
		n += p.n
	}
	return n
}

// divide says where the parts are.
func divide(text string) []part {
	var ps []part
	from := 0
	for len(text)-from >= 2*partSize {
		cut := lineStart(text, from+partSize, min(from+partSize+partSearch, len(text)))
		if cut < 0 {
			break
		}
		ps = append(ps, part{from: from, to: cut})
		from = cut
	}
	return append(ps, part{from: from, to: len(text)})
}

// lineStart finds a letter after a line feed in text[from:to].
func lineStart(text string, from, to int) int {
	for from < to {
		i := strings.IndexByte(text[from:to], '\n')
		if i < 0 || from+i+1 >= to {
			return -1
		}
		from += i + 1
		if c := text[from] | 0x20; 'a' <= c && c <= 'z' {
			return from
		}
	}
	return -1
}

// countRange counts the pieces from one to another place in text, and says
// where the last of them ends.
func (e *Encoding) countRange(text string, from, to int) (n, end int) {
	m := e.getMerger()
	defer putMerger(m)
	for p := from; ; {
		if p >= to {
			return n, p
		}
		end := e.grammar.split(text, p)
		n += e.vocab.count(text[p:end], m)
		p = end
	}
}

// walk calls token for every token from one to another place in text, until it
// returns false.
func (e *Encoding) walk(text string, from, to int, token func(start, end int) bool) {
	m := e.getMerger()
	defer putMerger(m)
	for p := from; p < to; {
		end := e.grammar.split(text, p)
		if piece := text[p:end]; e.vocab.isToken(piece) {
			if !token(p, end) {
				return
			}
		} else {
			start := p
			for _, t := range e.vocab.merge(piece, m) {
				if !token(start, p+t.end) {
					return
				}
				start = p + t.end
			}
		}
		p = end
	}
}
