// Command tokens (bench/tokens) measures package tokens side by side with
// tiktoken-go and tiktoken-go/tokenizer, in one process, on one core:
//
//	go run -C bench ./tokens
//
// Times are processor time, the best of several rounds in which all take turns.
// It checks that all three count the same before it times them, and exits
// with 1 if they do not.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/pkoukk/tiktoken-go"
	loader "github.com/pkoukk/tiktoken-go-loader"
	"github.com/tiktoken-go/tokenizer"

	"mcp-sandbox/tokens"
)

func main() {
	rounds := flag.Int("rounds", 5, "times each measurement is taken; the best one counts")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	if err := run(*rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench/tokens:", err)
		os.Exit(1)
	}
}

func run(rounds int) error {
	// The first use of an encoding, measured before anything else warms it.
	start := processor()
	e, err := tokens.Get("o200k_base")
	if err != nil {
		return err
	}
	e.Count("hello")
	ours := processor() - start
	start = processor()
	tiktoken.SetBpeLoader(loader.NewOfflineLoader())
	o, err := tiktoken.GetEncoding("o200k_base")
	if err != nil {
		return err
	}
	o.EncodeOrdinary("hello")
	theirs := processor() - start
	start = processor()
	second, err := tokenizer.Get(tokenizer.O200kBase)
	if err != nil {
		return err
	}
	if _, err := second.Count("hello"); err != nil {
		return err
	}
	others := processor() - start
	fmt.Printf("%s %s/%s, processor time on one core\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\ttokens\ttiktoken-go\ttokenizer\ttokens/tiktoken-go\t")
	fmt.Fprintf(w, "load and first count (o200k_base)\t%s\t%s\t%s\t\t\n", ms(ours), ms(theirs), ms(others))
	for _, name := range []string{"o200k_base", "cl100k_base"} {
		if err := encoding(w, name, rounds); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return growth()
}

// growth prints how much larger package tokens makes a program.
func growth() error {
	dir, err := os.MkdirTemp("", "bench-tokens-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var sizes []int64
	for _, name := range []string{"with", "without"} {
		out := filepath.Join(dir, name)
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "mcp-sandbox/bench/tokens/"+name)
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("building %s: %w; run this inside the module, with go in PATH", name, err)
		}
		info, err := os.Stat(out)
		if err != nil {
			return err
		}
		sizes = append(sizes, info.Size())
	}
	fmt.Printf("\na program grows by %.2f MB (from %.2f to %.2f MB, stripped), for all %d encodings\n",
		float64(sizes[0]-sizes[1])/1e6, float64(sizes[1])/1e6, float64(sizes[0])/1e6, len(tokens.Names()))
	return nil
}

func encoding(w *tabwriter.Writer, name string, rounds int) error {
	e, err := tokens.Get(name)
	if err != nil {
		return err
	}
	o, err := tiktoken.GetEncoding(name)
	if err != nil {
		return err
	}
	second, err := tokenizer.Get(tokenizer.Encoding(name))
	if err != nil {
		return err
	}
	texts, err := corpora(1 << 20)
	if err != nil {
		return err
	}
	for _, c := range texts {
		// The slow ones get a quarter of the text; speed is per byte.
		part := strings.ToValidUTF8(c.text[:len(c.text)/4], "")
		want := len(o.EncodeOrdinary(part))
		got, err := second.Count(part)
		if err != nil {
			return err
		}
		if n := e.Count(part); n != want || got != want {
			return fmt.Errorf("%s, %s: %d tokens, tiktoken-go says %d, tokenizer %d", name, c.name, n, want, got)
		}
		// All three in turn in every round, so that a disturbance of the
		// machine does not meet only one.
		var a, b, d []time.Duration
		for range rounds {
			a = append(a, took(func() { e.Count(c.text) }))
			b = append(b, took(func() { o.EncodeOrdinary(part) }))
			d = append(d, took(func() { _, _ = second.Count(part) }))
		}
		x, y, z := rate(len(c.text), a), rate(len(part), b), rate(len(part), d)
		fmt.Fprintf(w, "%s, %s\t%.1f MB/s\t%.2f MB/s\t%.2f MB/s\t%.1fx\t\n", name, c.name, x, y, z, x/y)
	}

	for _, c := range texts {
		var a []time.Duration
		var cut tokens.Truncation
		for range rounds {
			a = append(a, took(func() { cut = e.Truncate(c.text, 10000, nil) }))
		}
		if want, got := e.Count(c.text), e.Count(cut.Text); cut.OriginalTokens != want || got > 10000 || got < 9000 {
			return fmt.Errorf("%s, %s: cut to %d tokens of %d, counted %d", name, c.name, got, cut.OriginalTokens, want)
		}
		fmt.Fprintf(w, "%s, 1 MiB of %s cut to 10,000 tokens\t%s\t\t\t\t\n", name, c.name, ms(slices.Min(a)))
	}
	letters := strings.Repeat("a", 1<<20)
	spaces := strings.Repeat(" ", 1<<20)
	for _, c := range []corpus{{"1 MiB of one letter", letters}, {"1 MiB of spaces", spaces}} {
		var a, d []time.Duration
		for range rounds {
			a = append(a, took(func() { e.Count(c.text) }))
			d = append(d, took(func() { _, _ = second.Count(c.text) }))
		}
		fmt.Fprintf(w, "%s, %s\t%s\t(minutes)\t%s\t\t\n", name, c.name, ms(slices.Min(a)), ms(slices.Min(d)))
	}
	few := letters[:20000]
	fmt.Fprintf(w, "%s, 20,000 of one letter\t%s\t%s\t\t\t\n", name,
		ms(took(func() { e.Count(few) })), ms(took(func() { o.EncodeOrdinary(few) })))
	return nil
}

// took is the processor time f takes. The clock on the wall would measure what
// else the machine is doing. Garbage collection is in it, as it should be.
func took(f func()) time.Duration {
	start := processor()
	f()
	return processor() - start
}

func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // it takes no argument that could be wrong
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func rate(size int, times []time.Duration) float64 {
	return float64(size) / 1e6 / slices.Min(times).Seconds()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }
