package confine

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
)

// BenchmarkNeighbour is one "true" in a session while another session does its
// worst (AC-47): the ratio of the medians and of the 99th percentiles says how
// much of it is felt. The row "quiet" is the measure.
func BenchmarkNeighbour(b *testing.B) {
	loads := []struct{ name, line string }{
		{"quiet", "sleep 1000"},
		{"fork bomb", "f() { f | f & }; f; sleep 1000"},
		{"yes", "yes > /dev/null & yes > /dev/null & yes > /dev/null & yes > /dev/null & sleep 1000"},
		{"full tmp", "while :; do dd if=/dev/zero of=/tmp/f bs=1M 2>/dev/null; done"},
		{"10,000 opens", "while :; do i=0; while [ $i -lt 10000 ]; do : > /tmp/o; i=$((i+1)); done; done"},
	}
	for _, l := range loads {
		b.Run(l.name, func(b *testing.B) {
			// Started first: a bomb leaves no room to start anything in its own session.
			calm := testPolicy(b)
			s := start(b, calm)
			bad := testPolicy(b)
			other := start(b, bad)
			p, err := other.Spawn(context.Background(), sandbox.Command{Argv: []string{"/bin/sh", "-c", l.line}, Env: other.Environ(), Dir: bad.Workspace})
			if err != nil {
				b.Fatal(err)
			}
			go func() { _, _ = io.Copy(io.Discard, p.Stdout()); p.Stdout().Close() }()
			time.Sleep(500 * time.Millisecond) // the load builds up; nothing waits on this
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				c, err := s.Spawn(context.Background(), sandbox.Command{Argv: []string{"/bin/true"}, Env: s.Environ(), Dir: calm.Workspace})
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, c.Stdout())
				c.Wait()
				c.Stdout().Close()
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-us")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
			b.StopTimer()
			if err := other.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}
