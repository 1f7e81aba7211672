// Command tokens (bench/tokens) measures package tokens side by side with
// tiktoken-go and tiktoken-go/tokenizer, in one process, on one core:
//
//	go run ./bench/tokens
//
// It checks that all three count the same before it times them, and exits
// with 1 if they do not.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
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
	start := time.Now()
	e, err := tokens.Get("o200k_base")
	if err != nil {
		return err
	}
	e.Count("hello")
	ours := time.Since(start)
	start = time.Now()
	tiktoken.SetBpeLoader(loader.NewOfflineLoader())
	o, err := tiktoken.GetEncoding("o200k_base")
	if err != nil {
		return err
	}
	o.EncodeOrdinary("hello")
	theirs := time.Since(start)
	start = time.Now()
	second, err := tokenizer.Get(tokenizer.O200kBase)
	if err != nil {
		return err
	}
	if _, err := second.Count("hello"); err != nil {
		return err
	}
	others := time.Since(start)
	fmt.Printf("%s %s/%s, one core\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\ttokens\ttiktoken-go\ttokenizer\ttokens/tiktoken-go\t")
	fmt.Fprintf(w, "load and first count (o200k_base)\t%s\t%s\t%s\t\t\n", ms(ours), ms(theirs), ms(others))
	for _, name := range []string{"o200k_base", "cl100k_base"} {
		if err := encoding(w, name, rounds); err != nil {
			return err
		}
	}
	return w.Flush()
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

func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func rate(size int, times []time.Duration) float64 {
	return float64(size) / 1e6 / slices.Min(times).Seconds()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }
