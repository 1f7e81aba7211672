package tokens

import (
	"runtime"
	"slices"
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
	// partStep is about what a counted part is long: so much may have to be
	// split again to find a token near its end.
	partStep = 8 << 10
)

// part is a stretch of a text between two places where pieces end.
type part struct {
	from, to int
	n        int // tokens
}

// parts counts text, which is valid UTF-8.
func (e *Encoding) parts(text string) []part { return e.countParts(text, divide(text)) }

func (e *Encoding) countParts(text string, ps []part) []part {
	counted := make([][]part, len(ps))
	var next atomic.Int64
	var misaligned atomic.Bool
	count := func() {
		for i := int(next.Add(1)) - 1; i < len(ps) && !misaligned.Load(); i = int(next.Add(1)) - 1 {
			counted[i] = e.countRange(text, ps[i].from, ps[i].to)
			if last := counted[i][len(counted[i])-1]; last.to != ps[i].to {
				misaligned.Store(true)
			}
		}
	}
	var wg sync.WaitGroup
	for range min(len(ps), runtime.GOMAXPROCS(0)) - 1 {
		wg.Go(count)
	}
	count()
	wg.Wait()
	if misaligned.Load() {
		return e.countRange(text, 0, len(text))
	}
	return slices.Concat(counted...)
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

// countRange counts the pieces from one place in text until one ends at or
// beyond another.
func (e *Encoding) countRange(text string, from, to int) (ps []part) {
	m := e.getMerger()
	defer putMerger(m)
	p := part{from: from, to: from}
	for p.to < to {
		if p.to-p.from >= partStep {
			ps = append(ps, p)
			p = part{from: p.to, to: p.to}
		}
		end := e.grammar.split(text, p.to)
		p.n += e.vocab.count(text[p.to:end], m)
		p.to = end
	}
	return append(ps, p)
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
