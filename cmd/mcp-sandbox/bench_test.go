package main

import (
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkCommand is one "true" from a client's request to its answer over
// stdio, 1, 8 and 64 at a time, next to the same shell started with os/exec in
// this process. It reports medians and the 95th percentile in microseconds.
func BenchmarkCommand(b *testing.B) {
	for _, at := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("os-exec/%d", at), func(b *testing.B) {
			spread(b, at, func() error { return exec.Command("bash", "-c", "true").Run() })
		})
		b.Run(fmt.Sprintf("tool/%d", at), func(b *testing.B) {
			c := startServer(b)
			c.initialize("2025-11-25")
			c.ok("exec_command", map[string]any{"cmd": "true"})
			b.ResetTimer()
			spread(b, at, func() error {
				_, ch := c.sendCall("exec_command", map[string]any{"cmd": "true"})
				if m := <-ch; m.Error != nil {
					return fmt.Errorf("%s", m.Error.Message)
				}
				return nil
			})
		})
	}
}

// BenchmarkStart is from starting the server to its answer to initialize.
func BenchmarkStart(b *testing.B) {
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		c := startServer(b)
		c.initialize("2025-11-25")
		took = append(took, time.Since(start))
		b.StopTimer()
		c.stop()
		b.StartTimer()
	}
	report(b, took)
}

func spread(b *testing.B, at int, do func() error) {
	var mu sync.Mutex
	var took []time.Duration
	jobs := make(chan struct{})
	var wg sync.WaitGroup
	for range at {
		wg.Go(func() {
			for range jobs {
				start := time.Now()
				err := do()
				d := time.Since(start)
				mu.Lock()
				if err != nil {
					b.Error(err)
				}
				took = append(took, d)
				mu.Unlock()
			}
		})
	}
	for range b.N {
		jobs <- struct{}{}
	}
	close(jobs)
	wg.Wait()
	report(b, took)
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-us")
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds()), "p95-us")
}
