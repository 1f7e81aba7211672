// Command bench compares this repository's server with the programs of its
// kind that run without a network, and writes docs/benchmarks.md:
//
//	go run -C bench . -install
//
// It builds the server, installs the peers into a cache directory outside the
// repository (-install; without it, only what is there already takes part),
// runs the same work on each in turn, and leaves nothing running. A peer that
// cannot be installed or started is a line of the report, never an end of the
// run. It needs Linux.
//
// rows.go says what is measured, jobs.go measures it, and each peer is an
// adapter in a file of its own behind the interfaces of peer.go. It does not
// judge how well a peer confines: docs/confinement.md says what ours does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"mcp-sandbox/bench/internal/page"
	"mcp-sandbox/bench/internal/proctree"
)

func main() {
	install := flag.Bool("install", false, "install what is missing: npm and Go packages into the cache, Debian packages as root")
	rounds := flag.Int("rounds", 5, "rounds; every peer has its turn at every row in each")
	budget := flag.Duration("budget", 13*time.Minute, "no round starts that would likely end after this")
	only := flag.String("only", "", "peers whose names have this text, and ours (for trying one)")
	dir := flag.String("cache", "", "cache directory (default: mcp-sandbox-bench in the user's)")
	out := flag.String("out", filepath.Join("..", "docs", "benchmarks.md"), "report to write, - for standard output")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := bench(ctx, options{*install, *rounds, *budget, *only, *dir, *out})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	install bool
	rounds  int
	budget  time.Duration
	only    string
	cache   string
	out     string
}

func peers() []peer {
	return []peer{&ours{}, &oursExec{}, &desktopCommander{}, &filesystem{}, &bubblewrap{}, &landrun{}, &srt{}, &codex{}}
}

// A runner is an installed peer with its room and, in a round, its session.
type runner struct {
	peer    peer
	room    room
	session session
	result  *peerResult
}

func bench(ctx context.Context, o options) (err error) {
	if err := proctree.AdoptOrphans(); err != nil {
		return err
	}
	if o.cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("%w; name a directory with -cache", err)
		}
		o.cache = filepath.Join(user, "mcp-sandbox-bench")
	}
	if err := os.MkdirAll(o.cache, 0o755); err != nil {
		return err
	}
	// Not under /tmp: wrappers put a private one over it.
	work, err := os.MkdirTemp(o.cache, "run-")
	if err != nil {
		return err
	}
	defer func() {
		if n := proctree.EndOrphans(); n > 0 {
			say("ended %d processes that peers had left", n)
		}
		err = errors.Join(err, os.RemoveAll(work))
	}()
	home, _ := os.UserHomeDir()
	hidden = []hiding{{work, "RUN"}, {o.cache, "CACHE"}, {home, "~"}}

	workspace := filepath.Join(work, "workspace")
	goroot, err := output(ctx, exec.CommandContext(ctx, "go", "env", "GOROOT"))
	if err != nil {
		return err
	}
	st, err := newStage(workspace, filepath.Join(goroot, "src"))
	if err != nil {
		return err
	}
	res := &result{date: time.Now().UTC(), machine: page.Machine()}
	runners, err := installAll(ctx, o, &cache{o.cache, o.install}, work, workspace, res)
	if err != nil {
		return err
	}
	begin := time.Now()
	for res.rounds < o.rounds && ctx.Err() == nil {
		if n := time.Duration(res.rounds); n > 0 && time.Since(begin)*(n+1)/n > o.budget {
			say("no time for another round")
			break
		}
		round(ctx, runners, st, res.rounds)
		res.rounds++
		say("round %d of %d done after %s", res.rounds, o.rounds, time.Since(begin).Round(time.Second))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	res.took = time.Since(begin)
	return page.Save(o.out, func(w io.Writer) error { return res.write(w, rows()) })
}

func installAll(ctx context.Context, o options, c *cache, work, workspace string, res *result) ([]*runner, error) {
	list := slices.DeleteFunc(peers(), func(p peer) bool {
		return p.Name() != oursName && !strings.Contains(strings.ToLower(p.Name()), strings.ToLower(o.only))
	})
	res.peers = make([]peerResult, len(list))
	var runners []*runner
	for i, p := range list {
		r := &res.peers[i]
		*r = peerResult{name: p.Name(), values: samples{}, missing: map[string]error{}}
		limited, cancel := context.WithTimeout(ctx, 8*time.Minute)
		r.version, r.failed = p.Install(limited, c)
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if r.failed == nil {
			one := &runner{peer: p, room: room{workspace, filepath.Join(work, fmt.Sprintf("home-%d", i))}, result: r}
			if err := os.Mkdir(one.room.home, 0o700); err != nil {
				return nil, err
			}
			// One start and one command before anything counts: a peer that
			// cannot do these here did not run.
			r.failed = one.try(ctx)
			if r.failed == nil {
				runners = append(runners, one)
			}
		}
		if r.failed != nil {
			say("%s did not run: %v", r.name, r.failed)
			if i == 0 {
				return nil, r.failed
			}
		} else {
			say("%s %s is ready", r.name, r.version)
		}
	}
	return runners, nil
}

func (r *runner) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	s, err := r.peer.Start(ctx, r.room)
	if err != nil {
		return err
	}
	defer s.Close()
	err = s.Run(ctx, "true")
	var na notApplicable
	if errors.As(err, &na) {
		return nil
	}
	return err
}

// round starts all peers, gives each its turn at each job, and stops them. The
// order turns by one with every job, so that none always follows the same.
func round(ctx context.Context, runners []*runner, st *stage, n int) {
	for i := range runners {
		runners[(i+n)%len(runners)].start(ctx)
	}
	for j, work := range jobs() {
		if work.once && n > 0 {
			continue
		}
		for i := range runners {
			runners[(i+j+n)%len(runners)].do(ctx, work, st)
		}
	}
	for _, r := range runners {
		if r.session != nil {
			r.session.Close()
			r.session = nil
		}
	}
	proctree.EndOrphans()
}

// startsARound is how often a server is started in a round; the last start
// serves the round.
const startsARound = 3

func (r *runner) start(ctx context.Context) {
	for range startsARound {
		if r.session != nil {
			r.session.Close()
			r.session = nil
		}
		limited, cancel := context.WithTimeout(ctx, 30*time.Second)
		s, err := r.peer.Start(limited, r.room)
		cancel()
		if err != nil {
			r.result.add([]string{"start"}, nil, err)
			return
		}
		r.session = s
		ready, ok := s.(interface{ Ready() time.Duration })
		if !ok {
			r.result.add([]string{"start"}, nil, notApplicable("a wrapper starts with its command"))
			return
		}
		if r.result.missing["start"] == nil {
			r.result.add([]string{"start"}, samples{"start": {ms(ready.Ready())}}, nil)
		}
	}
}

func (r *runner) do(ctx context.Context, work job, st *stage) {
	if r.result.missing[work.rows[0]] != nil {
		return
	}
	if err := r.result.missing[work.needs]; err != nil {
		r.result.add(work.rows, nil, err)
		return
	}
	if r.session == nil {
		r.result.add(work.rows, nil, errors.New("it did not start again"))
		return
	}
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	got, err := work.run(limited, st, r.session)
	if ctx.Err() != nil {
		return
	}
	r.result.add(work.rows, got, err)
	var na notApplicable
	if err != nil && !errors.As(err, &na) {
		say("%s, %s: %v", r.peer.Name(), work.rows[0], err)
		// A peer that failed may be in any state.
		r.session.Close()
		r.session = nil
		again, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if s, err := r.peer.Start(again, r.room); err == nil {
			r.session = s
		}
	}
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
