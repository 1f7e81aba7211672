package ptyproc

import (
	"bytes"
	"testing"
)

// modelBuffer says what outputBuffer must do, in unbounded memory.
type modelBuffer struct {
	headCap, tailCap int
	all              []byte
}

func (m *modelBuffer) take() (head, tail []byte, dropped int64) {
	n := min(len(m.all), m.headCap)
	head, rest := m.all[:n], m.all[n:]
	if over := len(rest) - m.tailCap; over > 0 {
		dropped, rest = int64(over), rest[over:]
	}
	m.all = nil
	return head, rest, dropped
}

func (m *modelBuffer) last(n int) []byte {
	head, tail, dropped := (&modelBuffer{m.headCap, m.tailCap, m.all}).take()
	kept := tail
	if dropped == 0 {
		kept = append(append([]byte{}, head...), tail...)
	}
	return kept[max(0, len(kept)-n):]
}

func FuzzBuffer(f *testing.F) {
	f.Add([]byte{3, 200, 1, 0, 9, 255}, uint8(4), uint8(4))
	f.Add([]byte{1, 1, 1, 1, 1, 1, 0, 7, 7, 7}, uint8(0), uint8(3))
	f.Add([]byte{50, 60, 70}, uint8(100), uint8(0))
	f.Fuzz(func(t *testing.T, sizes []byte, headCap, tailCap uint8) {
		b := outputBuffer{headCap: int(headCap), tailCap: int(tailCap)}
		m := modelBuffer{headCap: int(headCap), tailCap: int(tailCap)}
		next := byte(0)
		for _, size := range sizes {
			if size == 0 {
				lines := int64(bytes.Count(m.all, []byte{'\n'}))
				got := b.lines
				h, tl, d := b.take()
				if kept := append(append([]byte{}, h...), tl...); got+int64(bytes.Count(kept, []byte{'\n'})) != lines {
					t.Fatalf("%d line feeds dropped and some kept, want %d in all", got, lines)
				}
				mh, mt, md := m.take()
				if !bytes.Equal(h, mh) || !bytes.Equal(tl, mt) || d != md {
					t.Fatalf("took %v %v %d, want %v %v %d", h, tl, d, mh, mt, md)
				}
				continue
			}
			p := make([]byte, size)
			for i := range p {
				p[i] = next
				next++
			}
			b.append(p)
			m.all = append(m.all, p...)
			if b.len() > int(headCap)+int(tailCap) || cap(b.tail) > 2*int(tailCap)+64 {
				t.Fatalf("%d bytes kept, room for %d", b.len(), cap(b.tail))
			}
			for _, n := range []int{0, 1, 5, 1000} {
				if got, want := b.last(n), m.last(n); !bytes.Equal(got, want) {
					t.Fatalf("last %d: %v, want %v", n, got, want)
				}
			}
		}
	})
}

func BenchmarkBuffer(b *testing.B) {
	chunk := bytes.Repeat([]byte("y\n"), 32<<10)
	buf := outputBuffer{headCap: defaultHead, tailCap: defaultTail}
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		buf.append(chunk)
	}
}
