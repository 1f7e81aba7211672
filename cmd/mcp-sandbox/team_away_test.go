package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestTeamBucketAwayForAMinute: the store is away for three times the default lease,
// while clients go on calling, directly and through the other server. Calls wait and
// then say that nothing was done, or that what they did is not stored; nothing that was
// acknowledged is lost or done twice, and all go on by themselves afterwards.
func TestTeamBucketAwayForAMinute(t *testing.T) {
	if !long() {
		t.Skip("it takes two minutes: make test-long")
	}
	const away = time.Minute
	tm := newTeam(t)
	one, two := tm.server("--durable", "call"), tm.server("--durable", "call")
	clients := []struct {
		at    *network
		owner *remote
	}{{at: one}, {at: two}, {at: two}, {at: one}}
	clients[0].owner, clients[1].owner = one.session(annsToken), two.session(bobsToken)
	clients[2].owner, clients[3].owner = one.session(annsToken), two.session(bobsToken)
	began := time.Now()
	since := func() time.Duration { return time.Since(began).Round(100 * time.Millisecond) }
	var mu sync.Mutex
	said := map[string]int{}
	acked := make([][]string, len(clients))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, c := range clients {
		c.owner.sh(": > log") // held where it began
		r := c.owner.at(c.at)
		wg.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				case <-time.After(200 * time.Millisecond):
				}
				line := fmt.Sprintf("%d-%d", i, k)
				_, body, headers := r.message("exec_command", map[string]any{"cmd": "echo " + line + " >> log"})
				at := time.Now()
				status, text := r.try(http.MethodPost, body, headers...)
				what := fmt.Sprint(status)
				switch ok := strings.Contains(text, `"exit_code":0`) && !strings.Contains(text, `"isError":true`); {
				case status == http.StatusOK && ok:
					what = "acknowledged"
				case status == http.StatusOK:
					what = "200 with an error: " + firstText(text)
				case status != http.StatusServiceUnavailable:
					t.Errorf("client %d: %d %s", i, status, text)
				}
				mu.Lock()
				if said[what]++; what == "acknowledged" {
					acked[i] = append(acked[i], line)
				}
				mu.Unlock()
				if took := time.Since(at); took > time.Second || what != "acknowledged" {
					t.Logf("%6v client %d: %s after %v", since(), i, what, took.Round(100*time.Millisecond))
				}
			}
		})
	}
	count := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		return said["acknowledged"]
	}
	waitFor(t, "calls", func() bool { return count() >= 40 })
	tm.away.Store(true)
	gone := time.Now()
	t.Logf("%6v the store is away", since())
	fenced := map[*network]bool{}
	for time.Since(gone) < away {
		for name, n := range map[string]*network{"one": one, "two": two} {
			if !fenced[n] && !ready(n) {
				fenced[n] = true
				t.Logf("%6v server %s is not ready, %v after the store went", since(), name, time.Since(gone).Round(100*time.Millisecond))
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	if len(fenced) != 2 || ready(one) || ready(two) {
		t.Error("a server that can hold nothing says it is ready")
	}
	before := count()
	tm.away.Store(false)
	back := time.Now()
	waitFor(t, "the servers to be ready", func() bool { return ready(one) && ready(two) })
	t.Logf("%6v both are ready, %v after the store was back", since(), time.Since(back).Round(100*time.Millisecond))
	waitFor(t, "calls", func() bool { return count() >= before+40 })
	close(stop)
	wg.Wait()
	t.Logf("%v", said)
	for i, c := range clients {
		got := map[string]int{}
		for line := range strings.Lines(c.owner.sh("cat log")) {
			got[strings.TrimSpace(line)]++
		}
		for _, line := range acked[i] {
			if got[line] != 1 {
				t.Errorf("%q was acknowledged and is there %d times", line, got[line])
			}
		}
		for line, n := range got {
			if n != 1 {
				t.Errorf("%q is there %d times", line, n)
			}
		}
		t.Logf("client %d: %d acknowledged, %d done", i, len(acked[i]), len(got))
	}
}

// firstText is the text of an answer up to 120 bytes.
func firstText(answer string) string {
	_, text, _ := strings.Cut(answer, `"text":"`)
	return text[:min(len(text), 120)]
}
