package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The attacker has a token of its own, for what a stranger can do ends at the
// gate. It runs in this process on the same processors, so its own work slows
// the clients too; a pause between two attempts of an attack keeps that the
// smaller part.
const attackPause = 100 * time.Millisecond

func attacks(o options, t target) []segment {
	alone := []segment{
		{name: "slow requests", what: fmt.Sprintf("%d connections that send a byte a second, half of them of a header, half of a body behind a valid token", o.slow),
			attack: func(ctx context.Context, done *tally) { slow(ctx, t, o.slow, done) }},
		{name: "1 GB bodies", what: "4 connections that send bodies of 1 GB behind a valid token, with and without a declared length",
			attack: func(ctx context.Context, done *tally) { large(ctx, t, done) }},
		{name: "deep JSON", what: "4 connections that send 1 MB of JSON nested to its end",
			attack: func(ctx context.Context, done *tally) { deep(ctx, t, done) }},
		{name: "junk sessions", what: fmt.Sprintf("%d sessions opened and left, every 100th with a command, and as many calls with invented session ids", o.junk),
			attack: func(ctx context.Context, done *tally) { junk(ctx, t, o.junk, done) }},
	}
	return append(alone, segment{name: "all of these at once", what: "the four attacks above together", attack: func(ctx context.Context, done *tally) {
		var wg sync.WaitGroup
		for _, a := range alone {
			wg.Go(func() { a.attack(ctx, done) })
		}
		wg.Wait()
	}})
}

// tally counts what came of an attack's attempts.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (t *tally) add(outcome string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]int{}
	}
	t.counts[outcome]++
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var parts []string
	for _, outcome := range slices.Sorted(maps.Keys(t.counts)) {
		parts = append(parts, fmt.Sprintf("%s: %d", outcome, t.counts[outcome]))
	}
	if len(parts) == 0 {
		return "no attack"
	}
	return strings.Join(parts, ", ")
}

// slow holds n connections open with requests that never end, and comes back
// when one is cut.
func slow(ctx context.Context, t target, n int, done *tally) {
	header := "POST /mcp HTTP/1.1\r\nHost: " + t.address + "\r\n"
	body := header + "Authorization: Bearer " + t.token + "\r\nContent-Type: application/json\r\n" +
		"Accept: application/json, text/event-stream\r\nContent-Length: 1000000\r\n\r\n{"
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			kind, start := "slow header", header+"X-Slow: "
			if i%2 == 1 {
				kind, start = "slow body", body
			}
			for {
				pause(ctx, time.Duration(mathrand.Int64N(int64(time.Second))))
				if ctx.Err() != nil {
					return
				}
				done.add(kind + " " + trickle(ctx, t.address, start))
			}
		})
	}
	wg.Wait()
}

// trickle sends start and then a byte a second; it says how that ended.
func trickle(ctx context.Context, address, start string) string {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return "not connected"
	}
	defer conn.Close()
	// Also when ctx ends in the middle of a wait.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	next, answer := []byte(start), make([]byte, 512)
	for {
		if _, err := conn.Write(next); err != nil {
			break
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		n, err := conn.Read(answer)
		if status, ok := statusOf(answer[:n]); ok {
			return status
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		next = []byte("a")
	}
	if ctx.Err() != nil {
		return "held to the end"
	}
	return "cut"
}

// statusOf is the code of a status line, RFC 9112 section 4.
func statusOf(answer []byte) (string, bool) {
	fields := bytes.Fields(answer)
	if len(fields) < 2 || !bytes.HasPrefix(answer, []byte("HTTP/1.")) {
		return "", false
	}
	return string(fields[1]), true
}

const oneGB = 1 << 30

// endless is the rest of a string in JSON, so that no parser may stop early.
type endless struct{ sent *atomic.Int64 }

// filler is copied rather than made, for the attack to cost the server, not us.
var filler = sync.OnceValue(func() []byte { return bytes.Repeat([]byte("x"), 1<<16) })

func (e endless) Read(p []byte) (int, error) {
	n := copy(p, filler())
	e.sent.Add(int64(n))
	return n, nil
}

func large(ctx context.Context, t target, done *tally) {
	const start = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`
	attempts(ctx, 4, func(i int) {
		kind, length := "declared 1 GB", int64(oneGB)
		if i%2 == 1 {
			kind, length = "undeclared 1 GB", -1
		}
		var sent atomic.Int64
		body := io.LimitReader(io.MultiReader(strings.NewReader(start), endless{&sent}), oneGB)
		outcome := post(ctx, t, body, length)
		if sent.Load() >= oneGB-int64(len(start)) {
			outcome += " after all of it"
		}
		done.add(kind + " " + outcome)
	})
}

const deepBytes = 1 << 20

func deep(ctx context.Context, t target, done *tally) {
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"exec_command","arguments":`
	bodies := []string{
		strings.Repeat("[", deepBytes),
		call + strings.Repeat("[", deepBytes/2) + strings.Repeat("]", deepBytes/2) + "}}",
		call + strings.Repeat(`{"a":`, deepBytes/6) + "1" + strings.Repeat("}", deepBytes/6) + "}}",
	}
	attempts(ctx, 4, func(i int) {
		body := bodies[i%len(bodies)]
		done.add("deep JSON " + post(ctx, t, strings.NewReader(body), int64(len(body))))
	})
}

// attempts makes one attempt after the other on each of n lines until ctx ends.
func attempts(ctx context.Context, n int, one func(i int)) {
	var wg sync.WaitGroup
	for line := range n {
		wg.Go(func() {
			for i := line; ctx.Err() == nil; i++ {
				one(i)
				pause(ctx, attackPause)
			}
		})
	}
	wg.Wait()
}

// post sends a body on a connection of its own; what came of it is the status,
// or that the server cut it.
func post(ctx context.Context, t target, body io.Reader, length int64) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url(), body)
	if err != nil {
		return err.Error()
	}
	req.ContentLength = length
	req.Header.Set("Authorization", "Bearer "+t.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	resp, err := transport.RoundTrip(req)
	switch {
	case ctx.Err() != nil:
		return "held to the end"
	case err != nil:
		return "cut"
	}
	defer resp.Body.Close()
	return fmt.Sprint(resp.StatusCode)
}

// junk opens n sessions, spread over the time that ctx leaves, and comes back to
// none of them. Those with a sandbox are deleted when the attack is over, for
// the next segment to be quiet.
func junk(ctx context.Context, t target, n int, done *tally) {
	until, ok := ctx.Deadline()
	if !ok || n == 0 {
		return
	}
	begin := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			c := newClient(t, t.token)
			defer c.http.CloseIdleConnections()
			var inUse []string
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(n) {
					break
				}
				// Nine tenths, so that all are opened while the clients are timed.
				due := time.Duration(float64(until.Sub(begin)) * 0.9 * float64(i) / float64(n))
				pause(ctx, time.Until(begin.Add(due)))
				if id := junkOne(ctx, c, i%100 == 0, done); id != "" {
					inUse = append(inUse, id)
				}
			}
			for _, id := range inUse {
				c.session = id
				if err := deleteSoon(c); err != nil {
					done.add("junk session not deleted")
				}
			}
		})
	}
	wg.Wait()
}

// deleteSoon deletes a session, however much of the attack is still under way.
func deleteSoon(c *client) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		resp, _, err := c.send(ctx, http.MethodDelete, "")
		if err == nil && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNotFound) {
			return nil
		}
		if pause(ctx, attackPause); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// junkOne gives the id of a session that may have a sandbox.
func junkOne(ctx context.Context, c *client, command bool, done *tally) (id string) {
	c.session = ""
	resp, _, err := c.send(ctx, http.MethodPost, helloBody)
	if err != nil {
		done.add("junk session " + cutOrEnd(ctx))
		return ""
	}
	done.add(fmt.Sprintf("junk session %d", resp.StatusCode))
	if command {
		c.session = resp.Header.Get("Mcp-Session-Id")
		id = c.session
		if _, err := c.sh(ctx, "true"); err == nil {
			done.add("junk command ran")
		} else {
			done.add("junk command refused")
		}
	}
	c.session = rand.Text()
	if resp, _, err = c.send(ctx, http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"ping"}`); err == nil {
		done.add(fmt.Sprintf("invented id %d", resp.StatusCode))
	} else {
		done.add("invented id " + cutOrEnd(ctx))
	}
	return id
}

func cutOrEnd(ctx context.Context) string {
	if ctx.Err() != nil {
		return "held to the end"
	}
	return "cut"
}
