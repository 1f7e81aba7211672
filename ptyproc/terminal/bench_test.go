package terminal

import (
	"strings"
	"testing"
)

func BenchmarkWrite(b *testing.B) {
	for _, in := range []struct{ name, text string }{
		{"yes", strings.Repeat("y\r\n", 20_000)},
		{"coloured", strings.Repeat("the quick brown \x1b[31mfox\x1b[0m jumps over the lazy dog\r\n", 1000)},
		{"wide", strings.Repeat("你好, e\u0301\r\n", 5000)},
	} {
		b.Run(in.name, func(b *testing.B) {
			e, data := New(120, 30), []byte(in.text)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				_, _ = e.Write(data)
			}
		})
	}
}

func BenchmarkPNG(b *testing.B) {
	e := New(120, 30)
	_, _ = e.Write([]byte(strings.Repeat("the quick brown \x1b[31mfox\x1b[0m jumps over the lazy dog ", 60)))
	s := e.Snapshot()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.PNG(); err != nil {
			b.Fatal(err)
		}
	}
}
