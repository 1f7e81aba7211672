package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mcp-sandbox/bench/internal/stats"
)

// fake answers as the server does, but for what answer does to the output of a
// command.
type fake struct {
	answer func(session, output string) string

	mu    sync.Mutex
	who   map[string]string
	count int
	gone  map[string]bool
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	session := r.Header.Get("Mcp-Session-Id")
	if r.Header.Get("Authorization") == "" {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	switch r.Method {
	case http.MethodGet:
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	case http.MethodDelete:
		f.mu.Lock()
		defer f.mu.Unlock()
		f.gone[session] = true
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 2*deepBytes))
	if err != nil {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct{ Arguments struct{ Cmd string } }
	}
	if json.Unmarshal(body, &m) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch m.Method {
	case "initialize":
		f.count++
		w.Header().Set("Mcp-Session-Id", fmt.Sprint("s", f.count))
	case "notifications/initialized":
		w.WriteHeader(http.StatusAccepted)
	case "tools/call":
		output := ""
		if secret, ok := strings.CutSuffix(strings.TrimPrefix(m.Params.Arguments.Cmd, "echo "), " > who"); ok {
			f.who[session] = secret
		} else if _, nonce, ok := strings.Cut(m.Params.Arguments.Cmd, "; echo "); ok {
			output = f.answer(session, f.who[session]+"\n"+nonce+"\n")
		}
		out, _ := json.Marshal(output)
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"content":[],"structuredContent":{"output":%s,"exit_code":0}}}`, m.ID, out)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func newFake(t *testing.T, answer func(session, output string) string) (*fake, target) {
	t.Helper()
	f := &fake{answer: answer, who: map[string]string{}, gone: map[string]bool{}}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	return f, target{address: strings.TrimPrefix(srv.URL, "http://"), token: "t"}
}

func crowdOf(t *testing.T, n int, to target) *crowd {
	t.Helper()
	c := newCrowd(&server{address: to.address, tokens: []string{"t"}}, options{clients: n, pause: time.Millisecond})
	if err := c.open(context.Background()); err != nil {
		t.Fatal(err)
	}
	return c
}

// A crowd sees a reply that belongs to another client, and one that failed, and
// counts neither as right.
func TestCrowdChecksEveryAnswer(t *testing.T) {
	right := func(_, output string) string { return output }
	var last atomic.Value
	last.Store("")
	for _, tc := range []struct {
		name    string
		answer  func(session, output string) string
		crossed bool
	}{
		{"right", right, false},
		{"the answer before", func(_, output string) string { return last.Swap(output).(string) }, true},
		{"none", func(string, string) string { return "" }, true},
		{"another's workspace", func(_, output string) string { _, nonce, _ := strings.Cut(output, "\n"); return "OTHER\n" + nonce }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, to := newFake(t, tc.answer)
			c := crowdOf(t, 4, to)
			number := c.clock()
			for range 3 {
				for _, w := range c.clients {
					w.one(&c.timing)
				}
			}
			c.clock()
			c.clients[0].one(&c.timing) // outside of the segment
			answers, crossed, failed, examples := c.outcome()
			if tc.crossed {
				if answers != 0 || crossed != 13 || failed != 0 || len(examples) != 5 {
					t.Errorf("%d right, %d crossed, %d failed: %q", answers, crossed, failed, examples)
				}
			} else if answers != 13 || crossed+failed != 0 || len(c.times(number)) != 12 || len(c.times(number+1)) != 0 {
				t.Errorf("%d right, %d crossed, %d failed, %d timed: %q", answers, crossed, failed, len(c.times(number)), examples)
			}
			if err := c.close(context.Background()); err != nil || len(f.gone) != 4 {
				t.Errorf("%d of 4 sessions deleted: %v", len(f.gone), err)
			}
		})
	}
}

func TestCrowdCountsAFailure(t *testing.T) {
	_, to := newFake(t, func(_, output string) string { return output })
	c := crowdOf(t, 1, to)
	c.clients[0].token = ""
	c.clients[0].url += "/nowhere\x7f"
	c.clients[0].one(&c.timing)
	if _, crossed, failed, _ := c.outcome(); crossed != 0 || failed != 1 {
		t.Errorf("%d crossed, %d failed", crossed, failed)
	}
	c.clients[0].endListen()
	c.clients[0].http.CloseIdleConnections()
}

// The attacks name what came of them, and end with their context.
func TestAttacksTellWhatCameOfThem(t *testing.T) {
	_, to := newFake(t, func(_, output string) string { return output })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var done tally
	plan := attacks(options{slow: 4, junk: 2000}, to)
	if len(plan) != 5 {
		t.Fatalf("%d attacks", len(plan))
	}
	ended := make(chan struct{})
	go func() { defer close(ended); plan[4].attack(ctx, &done) }()
	wanted := []string{"deep JSON 400: ", "undeclared 1 GB 413: ", "junk session 200: ", "junk command ran: ", "invented id 404: "}
	missing := func() string {
		for _, want := range wanted {
			if !strings.Contains(done.String(), want) {
				return want
			}
		}
		return ""
	}
	for missing() != "" && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	<-ended
	if want := missing(); want != "" {
		t.Errorf("no %q in %q", want, done.String())
	}
	if strings.Contains(done.String(), "after all of it") {
		t.Errorf("a gigabyte was taken: %s", done.String())
	}
}

// The attacks can be chosen by name, and a quiet segment goes before each.
func TestSegments(t *testing.T) {
	for _, tc := range []struct {
		o    options
		want string
	}{
		{options{}, "quiet"},
		{options{hostile: true, attacks: "JSON"}, "quiet, deep JSON"},
		{options{hostile: true, attacks: "s"}, "quiet, slow requests, quiet, 1 GB bodies, quiet, junk sessions, quiet, all of these at once"},
	} {
		var names []string
		for _, s := range segments(tc.o, &server{}) {
			names = append(names, s.name)
		}
		if got := strings.Join(names, ", "); got != tc.want {
			t.Errorf("%+v: got %s, want %s", tc.o, got, tc.want)
		}
	}
}

// A slow connection counts as held while the server lets it, and as cut or by
// the status of its answer when it does not.
func TestSlowConnections(t *testing.T) {
	for _, tc := range []struct {
		name, answer string
		hold         bool
		want         []string
	}{
		{"held", "", true, []string{"slow body held to the end: 2", "slow header held to the end: 2"}},
		{"cut", "", false, []string{"slow body cut: ", "slow header cut: "}},
		{"answered", "HTTP/1.1 408 Request Timeout\r\n\r\n", false, []string{"slow body 408: ", "slow header 408: "}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var begun atomic.Int64
			var serving sync.WaitGroup
			serving.Go(func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					serving.Go(func() {
						defer conn.Close()
						first := make([]byte, 4096)
						if n, _ := conn.Read(first); n == 0 {
							return
						}
						begun.Add(1)
						if tc.hold {
							_, _ = io.Copy(io.Discard, conn)
						}
						_, _ = io.WriteString(conn, tc.answer)
					})
				}
			})
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			var done tally
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				slow(ctx, target{address: l.Addr().String(), token: "t"}, 4, &done)
			}()
			all := func() bool {
				for _, want := range tc.want {
					if !strings.Contains(done.String(), want) {
						return false
					}
				}
				return true
			}
			for begun.Load() < 4 || !tc.hold && !all() {
				if ctx.Err() != nil {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			cancel()
			<-ended
			if !all() {
				t.Errorf("no %q in %q", tc.want, done.String())
			}
			l.Close()
			serving.Wait()
		})
	}
}

func TestStatusLine(t *testing.T) {
	for line, want := range map[string]string{"HTTP/1.1 408 Request Timeout\r\n": "408", "": "", "HTTP/1.1": "", "data: 200 x": ""} {
		if got, ok := statusOf([]byte(line)); got != want || ok != (want != "") {
			t.Errorf("%q: got %q", line, got)
		}
	}
}

func sampleResult() *result {
	attack := func(context.Context, *tally) {}
	done := &tally{}
	done.add("deep JSON 400")
	return &result{
		date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), machine: "linux/amd64, 2 cores", version: "commit abc",
		options: options{clients: 20, duration: time.Minute, pause: time.Second, hostile: true},
		first:   []float64{10, 20}, answers: 3,
		segments: []segment{
			{name: "quiet", times: []float64{1, 2}, server: 0.25},
			{name: "deep JSON", what: "nested", attack: attack, done: done, times: []float64{6}},
			{name: "quiet", times: []float64{4}, server: 0.75},
		},
		before: usage{processes: 1, files: 10}, after: usage{processes: 1, files: 10},
	}
}

func TestReport(t *testing.T) {
	var b strings.Builder
	if err := sampleResult().write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2026-01-02. linux/amd64, 2 cores. mcp-sandbox commit abc. 20 clients for 1m0s",
		"| nothing (all quiet segments) | 3 | 2.0 | 4.0 | 4.0 | 1.00x | 0.50 | 0.00 |",
		"| deep JSON | 1 | 6.0 | 6.0 | 6.0 | 1.50x |",
		"between 2.0 and 4.0 ms",
		"| deep JSON: nested | deep JSON 400: 1 |",
		"left nothing",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, b.String())
		}
	}
}

// What is wrong makes the exit status, however fast it was.
func TestVerdict(t *testing.T) {
	if err := sampleResult().verdict(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*result){
		"crossed":     func(r *result) { r.crossed = 1 },
		"failed":      func(r *result) { r.failed = 1; r.examples = []string{"why"} },
		"no answer":   func(r *result) { r.answers = 0 },
		"left":        func(r *result) { r.left = []string{"a file"} },
		"processes":   func(r *result) { r.after.processes += forker + 1 },
		"descriptors": func(r *result) { r.after.files += forker + 1 },
	} {
		r := sampleResult()
		spoil(r)
		if r.verdict() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestQuantile(t *testing.T) {
	values := []float64{3, 1, 2, 4}
	for q, want := range map[float64]float64{0: 1, 0.5: 2, 0.75: 3, 0.99: 4, 1: 4} {
		if got := stats.Quantile(values, q); got != want {
			t.Errorf("%v: got %v, want %v", q, got, want)
		}
	}
	if values[0] != 3 || !math.IsNaN(stats.Quantile(nil, 0.5)) {
		t.Error("the samples were sorted in place, or none gave a figure")
	}
}
