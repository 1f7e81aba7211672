package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mcp-sandbox/bench/internal/proctree"
	"mcp-sandbox/tokens"
)

// A row is one figure of the report; less is better in all of them.
type row struct {
	key, title, unit string
	what             string  // what is measured, a sentence
	behind           string  // the reason, shown where ours is not first
	limit            float64 // where the measurement gave up; 0 for none
}

// A job gives samples of one or more rows. It runs once a round for each peer.
type job struct {
	rows []string
	once bool // the figure is the same in every round
	// needs is a row whose failure is this job's too: who cannot run 8 at once
	// need not be waited for with 64.
	needs string
	run   func(context.Context, *stage, session) (samples, error)
}

type samples map[string][]float64

// stage is what the jobs work on, the same for all peers.
type stage struct {
	small, middle, big file
	dir                string // a source tree in the workspace
	needle             string // stands in needleLines lines of dir
	needleLines        int
	suffix             string // ends nameCount names in dir
	nameCount          int
}

const (
	outputBytes = 40_000_000
	goneLimit   = 3 * time.Second
	slice       = 1500 * time.Millisecond // of one job, one peer and one round
)

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// repeat takes samples until there are most of them or the slice is over.
func repeat(ctx context.Context, most int, do func(context.Context) error) ([]float64, error) {
	var out []float64
	for begin := time.Now(); len(out) < most && (len(out) == 0 || time.Since(begin) < slice); {
		start := time.Now()
		if err := do(ctx); err != nil {
			return nil, err
		}
		out = append(out, ms(time.Since(start)))
	}
	return out, nil
}

// atOnce runs n commands at the same time and is done with the last one.
func atOnce(n int, s session) func(context.Context) error {
	return func(ctx context.Context) error {
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { errs[i] = s.Run(ctx, "true") })
		}
		wg.Wait()
		errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
		if len(errs) == 0 {
			return nil
		}
		// What is not offered fails alike in all, and stays what it is.
		return fmt.Errorf("%d of %d failed: %w", len(errs), n, errs[0])
	}
}

func jobs() []job {
	return []job{
		{rows: []string{"tools_bytes", "tools_tokens"}, once: true, run: func(ctx context.Context, _ *stage, s session) (samples, error) {
			list, err := s.Tools(ctx)
			if err != nil {
				return nil, err
			}
			encoding, err := tokens.Get("o200k_base")
			if err != nil {
				return nil, err
			}
			return samples{"tools_bytes": {float64(len(list))}, "tools_tokens": {float64(encoding.Count(string(list)))}}, nil
		}},
		{rows: []string{"idle_start"}, run: idle("idle_start", "")},
		{rows: []string{"idle_command"}, run: idle("idle_command", "true")},
		timed("one", 100, func(_ *stage, s session) func(context.Context) error {
			return func(ctx context.Context) error { return s.Run(ctx, "true") }
		}),
		timed("eight", 5, func(_ *stage, s session) func(context.Context) error { return atOnce(8, s) }),
		{rows: []string{"sixtyfour"}, needs: "eight", run: func(ctx context.Context, _ *stage, s session) (samples, error) {
			times, err := repeat(ctx, 3, atOnce(64, s))
			return samples{"sixtyfour": times}, err
		}},
		{rows: []string{"terminal"}, run: func(ctx context.Context, _ *stage, s session) (samples, error) {
			enter, stop, err := s.Terminal(ctx)
			if err != nil {
				return nil, err
			}
			defer stop()
			n := 0
			times, err := repeat(ctx, 10, func(ctx context.Context) error {
				n++
				return enter(ctx, fmt.Sprintf("line-%d", n))
			})
			return samples{"terminal": times}, err
		}},
		timed("read_small", 40, func(st *stage, s session) func(context.Context) error {
			return func(ctx context.Context) error { return s.Read(ctx, st.small) }
		}),
		timed("read_middle", 20, func(st *stage, s session) func(context.Context) error {
			return func(ctx context.Context) error { return s.Read(ctx, st.middle) }
		}),
		timed("read_big", 2, func(st *stage, s session) func(context.Context) error {
			return func(ctx context.Context) error { return s.Read(ctx, st.big) }
		}),
		timed("search_text", 4, func(st *stage, s session) func(context.Context) error {
			return func(ctx context.Context) error { return s.SearchText(ctx, st.dir, st.needle, st.needleLines) }
		}),
		timed("find_names", 4, func(st *stage, s session) func(context.Context) error {
			return func(ctx context.Context) error { return s.FindNames(ctx, st.dir, st.suffix, st.nameCount) }
		}),
		{rows: []string{"flood", "flood_memory", "flood_bytes"}, run: func(ctx context.Context, _ *stage, s session) (samples, error) {
			before, stop := s.Received(), watchPeak(s.PIDs)
			start := time.Now()
			err := s.Run(ctx, fmt.Sprintf("yes 0123456789abcdef | head -c %d", outputBytes))
			took, peak := time.Since(start), stop()
			return samples{"flood": {ms(took)}, "flood_memory": {mib(peak)}, "flood_bytes": {float64(s.Received()-before) / 1000}}, err
		}},
		{rows: []string{"end", "end_left"}, run: ending("end", func(ctx context.Context, _ session, end func(context.Context) error) error { return end(ctx) })},
		// Last, for it kills the peer itself.
		{rows: []string{"killed", "killed_left"}, run: ending("killed", func(_ context.Context, s session, _ func(context.Context) error) error {
			return syscall.Kill(s.PIDs()[0], syscall.SIGKILL)
		})},
	}
}

func timed(key string, most int, do func(*stage, session) func(context.Context) error) job {
	return job{rows: []string{key}, run: func(ctx context.Context, st *stage, s session) (samples, error) {
		times, err := repeat(ctx, most, do(st, s))
		return samples{key: times}, err
	}}
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// idle is the memory of a peer that has nothing to do, after a command or none.
func idle(key, command string) func(context.Context, *stage, session) (samples, error) {
	return func(ctx context.Context, _ *stage, s session) (samples, error) {
		if _, err := s.Tools(ctx); err != nil {
			return nil, notApplicable("nothing of it runs between commands")
		}
		if command != "" {
			if err := s.Run(ctx, command); err != nil {
				return nil, err
			}
		}
		// What a start or a command set going has a moment to end.
		time.Sleep(300 * time.Millisecond)
		return samples{key: {mib(proctree.PSS(proctree.Tree(s.PIDs()...)))}}, nil
	}
}

// ending measures a stop of a tree that resists: children in sessions of their
// own, all deaf to SIGTERM. They are found by a number in their arguments that
// no other process has, wherever they were moved.
func ending(key string, stop func(context.Context, session, func(context.Context) error) error) func(context.Context, *stage, session) (samples, error) {
	return func(ctx context.Context, _ *stage, s session) (samples, error) {
		mark := fmt.Sprintf("300.%09d", 1+rand.IntN(999_999_998))
		end, err := s.Launch(ctx, strings.ReplaceAll(
			`trap "" TERM; for i in 1 2 3; do setsid sleep MARK & done; sleep MARK; true`, "MARK", mark))
		if err != nil {
			return nil, err
		}
		defer func() {
			for _, pid := range proctree.Named(mark) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}()
		for begin := time.Now(); sleeping(mark) < 4; time.Sleep(5 * time.Millisecond) {
			if time.Since(begin) > 10*time.Second {
				return nil, errors.New("the tree did not start")
			}
		}
		start := time.Now()
		if err := stop(ctx, s, end); err != nil {
			return nil, err
		}
		left := len(proctree.Named(mark))
		for left > 0 && time.Since(start) < goneLimit {
			time.Sleep(time.Millisecond)
			left = len(proctree.Named(mark))
		}
		return samples{key: {min(ms(time.Since(start)), ms(goneLimit))}, key + "_left": {float64(left)}}, nil
	}
}

// sleeping counts the sleeps themselves, not the shells and wrappers that have
// the whole command in their arguments, where a blank stands for the zero byte.
func sleeping(mark string) int { return len(proctree.Named("sleep\x00" + mark)) }

// newStage makes the files and the tree in the workspace.
func newStage(workspace, source string) (*stage, error) {
	st := &stage{dir: filepath.Join(workspace, "tree"), needle: "ErrShortWrite", suffix: "_linux_test.go"}
	var text []byte
	err := filepath.WalkDir(source, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "testdata" || d.Name() == "vendor" {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(st.dir, rel), 0o755)
		}
		if !d.Type().IsRegular() || !strings.HasSuffix(rel, ".go") {
			return nil
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(rel, st.suffix) {
			st.nameCount++
		}
		for line := range strings.Lines(string(body)) {
			if strings.Contains(line, st.needle) {
				st.needleLines++
			}
		}
		if len(text) < 10_000_000 {
			text = append(text, body...)
		}
		return os.WriteFile(filepath.Join(st.dir, rel), body, 0o644)
	})
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		file *file
		size int
	}{{&st.small, 14_000}, {&st.middle, 130_000}, {&st.big, 10_000_000}} {
		if len(text) < f.size {
			return nil, fmt.Errorf("%s has less than %d bytes of Go source", source, f.size)
		}
		// Whole lines, so that the size is the same by any way of reading.
		part := text[:f.size]
		part = part[:strings.LastIndexByte(string(part), '\n')+1]
		*f.file = file{filepath.Join(workspace, fmt.Sprintf("file-%d.txt", f.size)), len(part), strings.Count(string(part), "\n")}
		if err := os.WriteFile(f.file.path, part, 0o644); err != nil {
			return nil, err
		}
	}
	return st, nil
}
