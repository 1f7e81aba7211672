package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// ingress is any proxy in front of servers: it knows of no session, takes one server
// after the other, and sends a request again when it could not be handed over or was
// answered with 503, and in no other case.
type ingress struct {
	mu      sync.Mutex
	servers []string
	next    int
	resent  atomic.Int64
}

func (i *ingress) set(at int, url string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.servers[at] = url
}

func (i *ingress) pick() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.next++
	return i.servers[i.next%len(i.servers)]
}

func (i *ingress) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	for began := time.Now(); time.Since(began) < patience; time.Sleep(20 * time.Millisecond) {
		out, err := http.NewRequestWithContext(r.Context(), r.Method, i.pick()+r.URL.RequestURI(), bytes.NewReader(body))
		if err != nil {
			break
		}
		out.Header = r.Header.Clone()
		// A connection of its own: on a reused one nobody can tell what has arrived.
		out.Close = true
		resp, err := http.DefaultTransport.RoundTrip(out)
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" || err == nil && resp.StatusCode == http.StatusServiceUnavailable {
			if err == nil {
				resp.Body.Close()
			}
			i.resent.Add(1)
			continue
		}
		if err != nil {
			break
		}
		defer resp.Body.Close()
		for name, v := range resp.Header {
			w.Header()[name] = v
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
		return
	}
	w.WriteHeader(http.StatusBadGateway)
}

// restartCalls are how many calls there are before, between and after restarts.
func restartCalls() int64 {
	if long() {
		return 100
	}
	return 6
}

// TestTeamRollingRestart: three servers are restarted one after the other while
// clients call five times a second: no call fails, and each is done once.
func TestTeamRollingRestart(t *testing.T) {
	tm := newTeam(t)
	const servers, clients = 3, 3
	in := &ingress{servers: make([]string, servers)}
	all := make([]*network, servers)
	for i := range all {
		all[i] = tm.server()
		in.servers[i] = all[i].url
	}
	front := httptest.NewServer(in)
	defer front.Close()
	n := &network{t: t, url: front.URL, stderr: &lockedBuffer{}}
	var calls, failed atomic.Int64
	var longest [clients]time.Duration
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var seen [clients]*remote
	for i := range clients {
		r := n.session([]string{annsToken, bobsToken}[i%2])
		seen[i] = r
		wg.Go(func() {
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				began := time.Now()
				_, body, headers := r.message("exec_command", map[string]any{"cmd": fmt.Sprintf("echo %d >> log", k)})
				resp, text := r.send(http.MethodPost, body, headers...)
				longest[i] = max(longest[i], time.Since(began))
				calls.Add(1)
				if resp.StatusCode != http.StatusOK || !strings.Contains(text, `"exit_code":0`) {
					failed.Add(1)
					t.Errorf("call %d of client %d: %s %s", k, i, resp.Status, text)
				}
			}
		})
	}
	for i, s := range all {
		before := calls.Load()
		waitFor(t, "calls", func() bool { return calls.Load() >= before+restartCalls() })
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		<-s.ended
		all[i] = tm.start(s)
		in.set(i, all[i].url)
		waitFor(t, "the server", func() bool { return ready(all[i]) })
	}
	before := calls.Load()
	waitFor(t, "calls", func() bool { return calls.Load() >= before+restartCalls() })
	close(stop)
	wg.Wait()
	t.Logf("%d calls, %d failed, %d sent again by the proxy, the longest took %v", calls.Load(), failed.Load(), in.resent.Load(), longest)
	lines := int64(0)
	for i, r := range seen {
		want := ""
		got := r.sh("cat log")
		for k := range strings.Count(got, "\n") {
			want += fmt.Sprintf("%d\n", k)
		}
		if got != want {
			t.Errorf("client %d: %q", i, got)
		}
		lines += int64(strings.Count(got, "\n"))
	}
	if lines != calls.Load() {
		t.Errorf("%d lines of %d calls", lines, calls.Load())
	}
}

// TestKilledDurable kills servers at random moments, with their machines, while a
// client writes through whichever server there is: with --durable call nothing
// acknowledged is lost, and nothing is there twice.
func TestKilledDurable(t *testing.T) {
	rounds := max(2, *killPoints/6)
	if *killPoints > 12 {
		rounds = *killPoints
	}
	tm := newTeam(t)
	tm.ttl = shortLease
	rng := killRand(t)
	start := func() *network { return tm.server("--durable", "call") }
	alive := []*network{start(), start()}
	r := alive[0].session(annsToken)
	var acked []string
	maybe := map[string]bool{}
	write := func(line string) {
		at := r.at(alive[rng.IntN(2)])
		_, body, headers := at.message("exec_command", map[string]any{"cmd": "echo " + line + " >> log"})
		resp, text := at.try(http.MethodPost, body, headers...)
		switch {
		case resp == http.StatusOK && strings.Contains(text, `"exit_code":0`) && !strings.Contains(text, `"isError":true`):
			acked = append(acked, line)
		default:
			maybe[line] = true
		}
	}
	worst := time.Duration(0)
	for round := range rounds {
		victim := rng.IntN(2)
		killed := make(chan struct{})
		time.AfterFunc(time.Duration(rng.Int64N(int64(600*time.Millisecond))), func() {
			_ = alive[victim].cmd.Process.Kill()
			close(killed)
		})
		over := false
		for i := 0; !over; i++ {
			select {
			case <-killed:
				over = true
			default:
			}
			write(fmt.Sprintf("%d-%d", round, i))
		}
		<-alive[victim].ended
		if err := os.RemoveAll(alive[victim].temp); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		got := map[string]int{}
		for line := range strings.Lines(r.at(alive[1-victim]).sh("touch log; cat log")) {
			got[strings.TrimSpace(line)]++
		}
		worst = max(worst, time.Since(began))
		for _, line := range acked {
			if got[line] != 1 {
				t.Fatalf("round %d: %q was acknowledged and is there %d times", round, line, got[line])
			}
			delete(got, line)
		}
		for line, n := range got {
			if n != 1 || !maybe[line] {
				t.Fatalf("round %d: %q is there %d times", round, line, n)
			}
		}
		alive[victim] = start()
	}
	t.Logf("%d kills, %d calls acknowledged, %d not, the longest wait for the other server %v", rounds, len(acked), len(maybe), worst.Round(time.Millisecond))
}

// try is send for a server that may be gone: status 0 then.
func (r *remote) try(method, body string, headers ...string) (status int, text string) {
	req := r.request(r.n.t.Context(), method, body, headers...)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// TestTeamPassesWhatItHas: a request is sent on whatever the names that clients use for
// the two servers, also one for a file; and one that was overheard does nothing again.
func TestTeamPassesWhatItHas(t *testing.T) {
	tm := newTeam(t)
	var target atomic.Pointer[url.URL]
	var heard atomic.Pointer[http.Request]
	var heardBody atomic.Value
	way := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(b))
		if bytes.Contains(b, []byte("overheard")) {
			heardBody.Store(string(b))
			heard.Store(r.Clone(context.Background()))
		}
		(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target.Load())
			p.Out.Host = p.In.Host
		}}).ServeHTTP(w, r)
	}))
	defer way.Close()
	args := []string{"--peer-url", way.URL, "--http-host", "one.example"}
	one, two := tm.server(args...), tm.server("--http-host", "two.example")
	at, err := url.Parse(one.url)
	if err != nil {
		t.Fatal(err)
	}
	target.Store(at)
	r := one.session(annsToken)
	r.sh("echo here > f")
	far := r.at(two)
	_, body, headers := far.message("exec_command", map[string]any{"cmd": "cat f; echo overheard >> g"})
	req := far.request(context.Background(), http.MethodPost, body, headers...)
	req.Host = "two.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(text), "here") {
		t.Errorf("%s %s", resp.Status, text)
	}
	if resp, text := far.send(http.MethodPost, `{"jsonrpc":"2.0","id":5,"method":"resources/read","params":{"uri":"file:///f"}}`); resp.StatusCode != http.StatusOK || !strings.Contains(text, "here") {
		t.Errorf("a file at another server: %s %s", resp.Status, text)
	}
	again := heard.Load()
	if again == nil {
		t.Fatal("nothing was sent on")
	}
	replay := func() int {
		t.Helper()
		replay, err := http.NewRequest(again.Method, one.url+again.RequestURI, strings.NewReader(heardBody.Load().(string)))
		if err != nil {
			t.Fatal(err)
		}
		replay.Header, replay.Host = again.Header.Clone(), again.Host
		replay.Header.Del("Expect")
		resp, err := http.DefaultClient.Do(replay)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := replay(); got != http.StatusForbidden {
		t.Errorf("a replay: %d", got)
	}
	// The server in the place of a killed one knows nothing of what that one has taken.
	one.kill()
	tm.start(one, args...)
	if got := replay(); got != http.StatusMisdirectedRequest {
		t.Errorf("a replay after a restart: %d", got)
	}
	if got := r.at(two).sh("cat g"); got != "overheard\n" {
		t.Errorf("%q", got)
	}
	if got := replay(); got != http.StatusMisdirectedRequest {
		t.Errorf("a replay after a call: %d", got)
	}
	if got := r.sh("cat g"); got != "overheard\n" {
		t.Errorf("%q", got)
	}
}
