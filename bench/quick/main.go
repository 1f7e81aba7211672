// Command quick compares two builds of the server, turn by turn in the same
// minutes, so that a slower commit is seen at once:
//
//	go run -C bench ./quick                 the work tree against the last commit (when clean: HEAD against HEAD~1)
//	go run -C bench ./quick -base v1.2      the work tree against a tag, branch or commit
//	go run -C bench ./quick -old FILE       against a binary that was kept
//
// In each round both builds do the same work in a random order. What is printed
// is the median of the ratios of the rounds, new over old, and their quartiles:
// noise that lasts longer than a round hits both alike. A row is called slower or
// faster when both quartiles say so by more than 5 %. It needs Linux and git,
// takes less than three minutes and always exits with 0 unless a build cannot do
// the work.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"mcp-sandbox/bench/internal/build"
	"mcp-sandbox/bench/internal/stats"
)

func main() {
	base := flag.String("base", "", "commit to compare with (default: HEAD, or HEAD~1 when nothing has changed since)")
	old := flag.String("old", "", "a binary to compare with, instead of -base")
	budget := flag.Duration("budget", 150*time.Second, "no round starts after this")
	rounds := flag.Int("rounds", 15, "rounds")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := quick(ctx, os.Stdout, options{base: *base, old: *old, budget: *budget, rounds: *rounds, jobs: jobs()})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "quick:", err)
		os.Exit(1)
	}
}

type options struct {
	base, old string
	new       string // a binary; built from the work tree when ""
	budget    time.Duration
	rounds    int
	jobs      []job
}

func quick(ctx context.Context, out io.Writer, o options) error {
	dir, err := os.MkdirTemp("", "mcp-sandbox-quick-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// An ordinary user's session starts the binary again by its descriptor.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	name := o.old
	if o.old == "" {
		if o.base == "" {
			if o.base, err = defaultBase(ctx); err != nil {
				return err
			}
		}
		name = o.base
		if o.old, err = buildCommit(ctx, o.base, dir); err != nil {
			return err
		}
	}
	if o.new == "" {
		o.new = filepath.Join(dir, "new")
		if err := build.Server(ctx, "..", o.new); err != nil {
			return err
		}
	}
	builds := []*subject{{binary: o.old}, {binary: o.new}}
	for i, s := range builds {
		if s.dir = filepath.Join(dir, fmt.Sprint("room", i)); os.Mkdir(s.dir, 0o700) != nil {
			return errors.New("no room for the builds' files")
		}
		if err := s.prepare(); err != nil {
			return err
		}
		defer s.close()
	}
	took := make([][2][]float64, len(o.jobs))
	begin := time.Now()
	done := 0
	for ; done < o.rounds && (done == 0 || time.Since(begin) < o.budget); done++ {
		for i, j := range o.jobs {
			for _, which := range rand.Perm(2) {
				ms, err := j.run(ctx, builds[which])
				if err != nil {
					return fmt.Errorf("%s, %s build: %w", j.name, []string{"old", "new"}[which], err)
				}
				took[i][which] = append(took[i][which], ms)
			}
		}
	}
	return report(out, name, done, o.jobs, took)
}

// report writes the table.
func report(out io.Writer, base string, rounds int, jobs []job, took [][2][]float64) error {
	fmt.Fprintf(out, "new over old (%s), %d rounds; medians in ms, then the median of the rounds' ratios and its quartiles\n\n", base, rounds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "work\told\tnew\tnew/old\tquartiles\t")
	for i, j := range jobs {
		var ratios []float64
		for k := range took[i][0] {
			ratios = append(ratios, took[i][1][k]/took[i][0][k])
		}
		low, mid, high := stats.Quantile(ratios, .25), stats.Quantile(ratios, .5), stats.Quantile(ratios, .75)
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.2fx\t%.2f-%.2f\t%s\n", j.name, stats.Quantile(took[i][0], .5), stats.Quantile(took[i][1], .5), mid, low, high, verdict(low, high))
	}
	return w.Flush()
}

// verdict is a word where both quartiles of the ratios lie on one side of one.
func verdict(low, high float64) string {
	const margin = 1.05
	switch {
	case low > margin:
		return "slower"
	case high < 1/margin:
		return "faster"
	}
	return ""
}

func defaultBase(ctx context.Context) (string, error) {
	changed, err := output(ctx, "git", "status", "--porcelain")
	if err != nil {
		return "", fmt.Errorf("%w; name a binary with -old", err)
	}
	if changed == "" {
		return "HEAD~1", nil
	}
	return "HEAD", nil
}

// buildCommit builds a commit from its tree alone, so the work tree stays as it
// is.
func buildCommit(ctx context.Context, commit, dir string) (string, error) {
	source := filepath.Join(dir, "base")
	if err := os.Mkdir(source, 0o755); err != nil {
		return "", err
	}
	if _, err := output(ctx, "sh", "-c", `git -C .. archive "$1" | tar -xf - -C "$2"`, "sh", commit, source); err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "old")
	return binary, build.Server(ctx, source, binary)
}

func output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var said strings.Builder
	cmd.Stderr = &said
	b, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w %s", program, err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(string(b)), nil
}
