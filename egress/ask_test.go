package egress

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// asker answers as told and keeps what it was asked.
type asker struct {
	answer Answer
	hold   chan struct{} // where set, it answers only when this is closed

	mu    sync.Mutex
	asked []string
}

func (a *asker) ask(ctx context.Context, host string, port int) Answer {
	a.mu.Lock()
	a.asked = append(a.asked, fmt.Sprint(host, ":", port))
	a.mu.Unlock()
	if a.hold != nil {
		select {
		case <-a.hold:
		case <-ctx.Done():
			return Refused
		}
	}
	return a.answer
}

func (a *asker) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.asked...)
}

// A granted host is reached by every road, on its port alone, and asked for once.
func TestAskGranted(t *testing.T) {
	w := newWorld()
	w.name("a.example", public.String())
	w.listen(t, public.String()+":7", echo)
	w.serve(t, public.String()+":80", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "here") }))
	a := &asker{answer: Granted}
	p, addr := start(t, w, Options{Policy: policy(t), Ask: a.ask})
	for range 3 {
		if got := raw(t, addr, get("http://A.example./", "a.example")); status(got) != 200 {
			t.Fatalf("%q", got)
		}
		if got := raw(t, addr, connectLine("a.example:80")+get("/", "a.example")); !strings.HasSuffix(got, "here") {
			t.Fatalf("%q", got)
		}
	}
	if got := raw(t, addr, connectLine("a.example:7")); status(got) != 403 || !strings.Contains(got, "asked once") {
		t.Errorf("another port: %q", got)
	}
	if got := raw(t, addr, get("http://"+public.String()+"/", public.String())); status(got) != 200 {
		t.Errorf("a public address: %q", got)
	}
	if got := a.all(); len(got) != 2 || got[0] != "a.example:80" || got[1] != public.String()+":80" {
		t.Errorf("asked %q", got)
	}
	// A grant is a gap filled, no more: a denial that comes later holds, and so does
	// a closed network.
	deny, err := NewPolicy(nil, []string{"a.example"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, policy := range map[string]*Policy{"denied": deny, "closed": nil} {
		p.SetPolicy(policy)
		if got := raw(t, addr, get("http://a.example/", "a.example")); status(got) != 403 {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// What the user did not allow stays denied without another question; what nobody
// could be asked for may be asked for later.
func TestAskRefused(t *testing.T) {
	w := newWorld()
	w.name("a.example", public.String())
	for answer, times := range map[Answer]int{Refused: 1, Unasked: 3} {
		a := &asker{answer: answer}
		p, addr := start(t, w, Options{Policy: policy(t, "b.example"), Ask: a.ask})
		for range 3 {
			if got := raw(t, addr, get("http://a.example/", "a.example")); status(got) != 403 {
				t.Errorf("%q", got)
			}
		}
		if n := len(a.all()); n != times {
			t.Errorf("answer %d: asked %d times, want %d", answer, n, times)
		}
		if d := p.denials(); len(d) != 3 {
			t.Errorf("%+v", d)
		}
	}
	if w.lookedUp() != 0 {
		t.Error("a name was looked up that nobody allowed")
	}
}

// AC-39, AC-43: no question is asked for what a rule denies or what lies in a private network,
// whatever the form it is written in.
func TestAskNever(t *testing.T) {
	w := newWorld()
	w.name("rebind.example", "10.0.0.9")
	a := &asker{answer: Granted}
	deny, err := NewPolicy([]string{"*.ok.example"}, []string{"bad.example", "198.41.0.0/24"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, addr := start(t, w, Options{Policy: deny, Ask: a.ask})
	for _, host := range []string{
		"bad.example", "198.41.0.4", "127.0.0.1", "[::1]", "localhost", "x.localhost", "10.1.2.3", "192.168.0.1", "100.64.0.1", "169.254.169.254",
		"[fd00:ec2::254]", "[::ffff:10.0.0.1]", "[64:ff9b::a00:1]", "[2002:a00:1::]", "0.0.0.0", "[fe80::1]", "metadata.google.internal", "printer.local", "intranet", "router.home.arpa", "100.100.100.200", "0x7f.1", "2130706433",
	} {
		if got := raw(t, addr, connectLine(host+":443")); status(got) != 403 && status(got) != 400 {
			t.Errorf("%s: %q", host, got)
		}
	}
	if got := a.all(); len(got) != 0 {
		t.Errorf("asked for %q", got)
	}
}

// AC-39: a granted name that resolves into a private network stays out of reach.
func TestAskGrantsNoAddress(t *testing.T) {
	w := newWorld()
	w.name("rebind.example", "10.0.0.9")
	w.name("meta.example", "169.254.169.254")
	a := &asker{answer: Granted}
	_, addr := start(t, w, Options{Policy: policy(t), Ask: a.ask})
	for _, host := range []string{"rebind.example", "meta.example"} {
		if got := raw(t, addr, connectLine(host+":443")); status(got) != 403 {
			t.Errorf("%s: %q", host, got)
		}
	}
	if d := w.dials(); len(d) != 0 {
		t.Errorf("dialled %v", d)
	}
}

// Connections to a host that is being asked for share the answer; other hosts are
// asked for within bounds, and Close ends every wait.
func TestAskBounds(t *testing.T) {
	w := newWorld()
	w.name("a.example", public.String())
	w.listen(t, public.String()+":7", echo)
	a := &asker{answer: Granted, hold: make(chan struct{})}
	p, addr := start(t, w, Options{Policy: policy(t), Ask: a.ask})
	var wg sync.WaitGroup
	for range 5 {
		c := connectTo(t, addr)
		_, _ = io.WriteString(c, connectLine("a.example:7")+"x")
		_ = c.CloseWrite()
		wg.Go(func() {
			if b, _ := io.ReadAll(c); status(string(b)) != 200 {
				t.Errorf("%q", b)
			}
		})
	}
	until(t, "the question is put", func() bool { return len(a.all()) == 1 && p.openClients() == 5 })
	var waiting []net.Conn
	for i := range maxAsking - 1 {
		c := connectTo(t, addr)
		_, _ = io.WriteString(c, connectLine(fmt.Sprintf("h%d.example:7", i)))
		waiting = append(waiting, c)
	}
	until(t, "the others are put", func() bool { return len(a.all()) == maxAsking })
	if got := raw(t, addr, connectLine("more.example:7")); status(got) != 403 {
		t.Errorf("one too many: %q", got)
	}
	close(a.hold)
	wg.Wait()
	for _, c := range waiting {
		c.Close()
	}
	until(t, "all are answered", func() bool { return p.openClients() == 0 })
	for i := range 2 * maxAsked {
		_ = raw(t, addr, connectLine(fmt.Sprintf("n%d.example:7", i)))
	}
	if n := len(a.all()); n != maxAsked {
		t.Errorf("asked %d times", n)
	}

	a = &asker{hold: make(chan struct{})}
	p, addr = start(t, w, Options{Policy: policy(t), Ask: a.ask})
	c := connectTo(t, addr)
	_, _ = io.WriteString(c, connectLine("a.example:7"))
	until(t, "the question is put", func() bool { return len(a.all()) == 1 })
	began := time.Now()
	p.Close()
	if time.Since(began) > askWithin/2 {
		t.Error("Close waited for the user")
	}
}
