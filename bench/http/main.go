// Command http measures this repository's server with many clients at once
// over --transport http, next to quiet and hostile traffic, and writes
// docs/benchmarks-http.md:
//
//	go run -C bench ./http
//
// It builds the server, opens a session for each client, lets each run a
// command about once a second and checks every answer: a command prints a file
// of its own session and a number never used before, so a reply or a workspace
// that belongs to another client is seen at once. Quiet and hostile segments
// take turns in one run, so that the machine's noise hits both alike. At the
// end every session is deleted, the server is stopped, and what is left of it
// is looked for. A wrong or failed answer and anything left make the exit
// status 1; a slow answer never does.
//
// load.go holds the clients, hostile.go the attacks, server.go the server and
// what it leaves, report.go the page. It needs Linux. It does not compare with
// other servers; go run -C bench . does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mcp-sandbox/bench/internal/proctree"
	"mcp-sandbox/bench/internal/stats"
)

type options struct {
	clients  int
	duration time.Duration
	pause    time.Duration
	hostile  bool
	slow     int
	junk     int
	attacks  string
	out      string
}

func main() {
	var o options
	flag.IntVar(&o.clients, "clients", 200, "clients at once, each with a session of its own")
	flag.DurationVar(&o.duration, "duration", 5*time.Minute, "how long they work, quiet and hostile segments together")
	flag.DurationVar(&o.pause, "pause", time.Second, "mean pause of a client between two commands")
	flag.BoolVar(&o.hostile, "hostile", true, "put hostile traffic next to the clients in every second segment")
	flag.IntVar(&o.slow, "slow", 1000, "connections that the slow attack holds")
	flag.IntVar(&o.junk, "junk", 10_000, "sessions that the junk attack opens in its segment")
	flag.StringVar(&o.attacks, "attacks", "", "run only the attacks with this in their name")
	flag.StringVar(&o.out, "out", filepath.Join("..", "docs", "benchmarks-http.md"), "report to write, - for standard output")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := bench(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/http:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, o options) (err error) {
	if o.clients < 1 || o.duration <= 0 || o.pause < 0 || o.slow < 0 || o.junk < 0 {
		return errors.New("clients and duration must be positive, and nothing negative")
	}
	dir, err := os.MkdirTemp("", "mcp-sandbox-bench-http-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	srv, err := startServer(ctx, dir, o.clients)
	if err != nil {
		return err
	}
	defer srv.kill()
	res := &result{date: time.Now().UTC(), machine: machine(), options: o, version: srv.version}
	if err := res.measure(ctx, srv); err != nil {
		return fmt.Errorf("%w%s", err, srv.said())
	}
	if err := save(res, o.out); err != nil {
		return err
	}
	return res.verdict()
}

// measure takes the server through the whole run.
func (r *result) measure(ctx context.Context, srv *server) error {
	r.before = srv.settled(ctx)
	crowd := newCrowd(srv, r.options)
	say("%d clients open their sessions", r.options.clients)
	begin := time.Now()
	if err := crowd.open(ctx); err != nil {
		return err
	}
	r.opened, r.first = time.Since(begin), crowd.first()
	r.idle = srv.usage()

	plan := segments(r.options, srv)
	crowd.work(ctx)
	for i := range plan {
		seg := &plan[i]
		seg.run(ctx, crowd, srv, r.options.duration/time.Duration(len(plan)))
		if ctx.Err() != nil {
			break
		}
		say("%s: %d commands, p99 %.1f ms, %s", seg.name, len(seg.times), stats.Quantile(seg.times, 0.99), seg.done)
	}
	crowd.stop()
	for i := range plan {
		plan[i].times = crowd.times(plan[i].number) // with the last to be answered
	}
	r.segments = plan
	r.answers, r.crossed, r.failed, r.examples = crowd.outcome()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case <-srv.ended:
		return errors.New("the server ended by itself")
	default:
	}
	if err := crowd.close(ctx); err != nil {
		return err
	}
	r.after = srv.usageOnce(func(u usage) bool {
		return u.processes <= r.before.processes+forker && u.files <= r.before.files+forker
	})
	r.stopTook, r.left = srv.stop()
	return nil
}

// A segment is a part of the run with the same traffic next to the clients.
type segment struct {
	name, what string
	attack     func(context.Context, *tally) // nil when quiet
	done       *tally
	number     int64     // the clock's
	times      []float64 // of the clients' commands, in milliseconds
	peak       usage
	server     float64 // processors that the server's process took, on average
	ours       float64 // processors that this process took: clients and attack
}

// segments alternates quiet and hostile ones; every attack is once alone and
// once with all others.
func segments(o options, srv *server) []segment {
	quiet := segment{name: "quiet", done: &tally{}}
	if !o.hostile {
		return []segment{quiet}
	}
	var plan []segment
	for _, a := range attacks(o, srv.target()) {
		if !strings.Contains(a.name, o.attacks) {
			continue
		}
		quiet.done, a.done = &tally{}, &tally{}
		plan = append(plan, quiet, a)
	}
	return plan
}

// run lets the clients work for the length of the segment. What begins in its
// first part, while the other traffic changes, is checked but not timed.
func (s *segment) run(ctx context.Context, crowd *crowd, srv *server, length time.Duration) {
	settle := min(length/5, 3*time.Second)
	whole, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if s.attack != nil {
			s.attack(whole, s.done)
		}
	}()
	pause(whole, settle)
	s.number = crowd.clock()
	begin, server, ours := time.Now(), proctree.CPUTime(srv.pid()), proctree.CPUTime(os.Getpid())
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for whole.Err() == nil {
		s.peak = s.peak.most(srv.usage())
		select {
		case <-tick.C:
		case <-whole.Done():
		}
	}
	crowd.clock()
	took := time.Since(begin).Seconds()
	s.server = (proctree.CPUTime(srv.pid()) - server).Seconds() / took
	s.ours = (proctree.CPUTime(os.Getpid()) - ours).Seconds() / took
	s.times = crowd.times(s.number)
	<-ended
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
