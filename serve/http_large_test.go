package serve

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// A body comes out as it went in, whatever its length and however it arrives.
func TestReadBody(t *testing.T) {
	h, _ := startHTTP(t, Options{})
	start := time.Now()
	// A second goes by at each look, so that nothing has to wait.
	h.signer.now = func() time.Time { start = start.Add(time.Second); return start }
	until := start.Add(time.Minute)
	for _, size := range []int{0, 1, initialRead - 1, initialRead, initialRead + 1, initialRead + bodyPart, unpacedBytes - 1, unpacedBytes, unpacedBytes + 1, unpacedBytes + bodyPart, largeBody - 1, largeBody, largeBody + bodyPart + 7, maxBody} {
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(i>>8) | 128
		}
		for how, body := range map[string]io.Reader{"whole": bytes.NewReader(want), "halves": iotest.HalfReader(bytes.NewReader(want)), "end with data": iotest.DataErrReader(bytes.NewReader(want))} {
			got, err := h.readBody(body, "ann", until)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %s: %d bytes, equal %v, %v", size, how, len(got), bytes.Equal(got, want), err)
			}
		}
		if size > 0 {
			// net/http says so when less came than was stated.
			cut := io.MultiReader(bytes.NewReader(want), iotest.ErrReader(io.ErrUnexpectedEOF))
			if got, err := h.readBody(cut, "ann", until); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d bytes and no end: %d bytes, %v", size, len(got), err)
			}
		}
	}
	if s := h.quotas["ann"]; s.large != 0 || len(h.large) != 0 {
		t.Errorf("%d large bodies of ann are left, %d places taken", s.large, len(h.large))
	}
}

// signal tells when it is read, and then holds the reader until it is closed.
type signal struct{ read, hold chan struct{} }

func (s signal) Read([]byte) (int, error) {
	close(s.read)
	<-s.hold
	return 0, io.EOF
}

// Large bodies have places, by principal and in all; small ones need none.
func TestPlacesOfLargeBodies(t *testing.T) {
	h, _ := startHTTP(t, Options{})
	hold := make(chan struct{})
	ended := make(chan error)
	large := func(principal string, then io.Reader) error {
		_, err := h.readBody(io.MultiReader(io.LimitReader(zeros{}, largeBody), then), principal, time.Now().Add(time.Minute))
		return err
	}
	names := []string{"a", "b", "c", "d"}
	for i := range maxLargeInAll {
		s := signal{make(chan struct{}), hold}
		go func() { ended <- large(names[i/maxLarge], s) }()
		<-s.read
	}
	if err := large("a", strings.NewReader("")); !errors.Is(err, errTooManyLarge) {
		t.Errorf("one more of a principal: %v", err)
	}
	if _, err := h.readBody(io.LimitReader(zeros{}, largeBody), "e", time.Now()); !errors.Is(err, errTooManyLarge) {
		t.Errorf("another principal's, with all places taken and no time left: %v", err)
	}
	for _, principal := range []string{"a", "e"} {
		if _, err := h.readBody(io.LimitReader(zeros{}, largeBody-1), principal, time.Now()); err != nil {
			t.Errorf("a small one of %s: %v", principal, err)
		}
	}
	// One that waits gets the place of one that ends.
	waits := make(chan error)
	go func() { waits <- large("e", strings.NewReader("")) }()
	close(hold)
	for range maxLargeInAll {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if err := <-waits; err != nil {
		t.Errorf("the one that waited: %v", err)
	}
}

// A principal past its share of bytes waits for as long as it is ahead; nobody
// else does, and nobody for the start of a body.
func TestPaceOfLargeBodies(t *testing.T) {
	h, _ := startHTTP(t, Options{})
	now := time.Now()
	h.signer.now = func() time.Time { return now }
	owe := func(principal string, n int) time.Duration {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.quota(principal).bytes.ReserveN(now, n).DelayFrom(now)
	}
	for _, c := range []struct {
		later     time.Duration
		principal string
		n         int
		want      time.Duration
	}{
		{0, "ann", maxBody, 0},
		{0, "ann", bodyRate / 2, time.Second / 2},
		{0, "ann", bodyRate / 2, time.Second},
		{0, "bob", bodyPart, 0},
		{2 * time.Second, "ann", bodyRate, 0},
		{time.Hour, "ann", maxBody, 0},
		{0, "ann", bodyRate, time.Second},
	} {
		now = now.Add(c.later)
		if got := owe(c.principal, c.n); got != c.want {
			t.Errorf("%s, %d bytes: waits %v, want %v", c.principal, c.n, got, c.want)
		}
	}
	// Ann's next part would have to wait for an hour; the start of her next body
	// and its small like do not.
	owe("ann", 3600*bodyRate)
	if got, err := h.readBody(io.LimitReader(zeros{}, unpacedBytes-1), "ann", now); err != nil || len(got) != unpacedBytes-1 {
		t.Errorf("a small body: %d bytes, %v", len(got), err)
	}
	read := make(chan error)
	go func() { _, err := h.readBody(io.LimitReader(zeros{}, maxBody), "ann", now); read <- err }()
	select {
	case err := <-read:
		t.Errorf("a large body was read at once: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	h.halt(nil) // at the server's end nothing waits
	if err := <-read; err != nil {
		t.Error(err)
	}
}

// A message that nests too deep is refused before more of it is read, wherever
// its parts begin; strings nest nothing.
func TestTooDeepEndsReading(t *testing.T) {
	h, _ := startHTTP(t, Options{})
	never := iotest.ErrReader(errors.New("read on"))
	read := func(parts ...string) error {
		var readers []io.Reader
		for _, p := range parts {
			readers = append(readers, strings.NewReader(p))
		}
		_, err := h.readBody(io.MultiReader(append(readers, never)...), "ann", time.Now().Add(time.Minute))
		return err
	}
	deep := strings.Repeat(`{"a":[`, maxNesting/2)
	for _, before := range []int{initialRead - len(deep) - 1, initialRead - 3, initialRead, initialRead + bodyPart - 3, largeBody} {
		space := strings.Repeat(" ", before)
		rest := strings.Repeat(" ", initialRead+bodyPart)
		if err := read(space, deep, "[", rest); !errors.Is(err, errTooDeep) {
			t.Errorf("after %d bytes: %v", before, err)
		}
		for what, text := range map[string]string{"the most": deep, "closed": deep + "]}[{", "a string": deep + `"[[[`, "an escape": deep + `"\"[[[\\\"[`, "behind a string": deep + `"\\","`} {
			if err := read(space, text, rest); err == nil || errors.Is(err, errTooDeep) {
				t.Errorf("%s after %d bytes: %v", what, before, err)
			}
		}
		if err := read(space, deep, `"\\\"[","\\"[`, rest); !errors.Is(err, errTooDeep) {
			t.Errorf("behind a string that ends, after %d bytes: %v", before, err)
		}
	}
}

// A body that is refused for its length leaves next to no garbage: others would
// wait while it is collected.
func TestRefusedBodyReusesMemory(t *testing.T) {
	h, _ := startHTTP(t, Options{})
	start := time.Now()
	h.signer.now = func() time.Time { start = start.Add(time.Second); return start }
	refused := func() {
		body := http.MaxBytesReader(nil, io.NopCloser(zeros{}), maxBody)
		var long *http.MaxBytesError
		if _, err := h.readBody(body, "ann", time.Now().Add(time.Minute)); !errors.As(err, &long) {
			t.Fatal(err)
		}
	}
	refused()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const n = 8
	for range n {
		refused()
	}
	runtime.ReadMemStats(&after)
	// Under the race detector the pool drops a quarter, on purpose.
	if each := (after.TotalAlloc - before.TotalAlloc) / n; each > maxBody {
		t.Errorf("%d bytes for one refusal, the body has %d", each, maxBody)
	}
}

// Honest clients may use all of what is allowed, with a stated length and
// without: such a message gets as far as that its session is not known.
func TestLargeMessages(t *testing.T) {
	_, url := startHTTP(t, Options{})
	text := `{"jsonrpc":"2.0","id":7,"method":"ping"}`
	text += strings.Repeat(" ", maxBody-len(text))
	for _, body := range []io.Reader{strings.NewReader(text), io.MultiReader(strings.NewReader(text))} {
		r, err := http.NewRequest(http.MethodPost, url+"/mcp", body)
		if err != nil {
			t.Fatal(err)
		}
		resp, answer := send(t, r, "Content-Type: application/json", "Authorization: Bearer "+annToken, "Mcp-Session-Id: unknown")
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("length %d: %s %.200s", r.ContentLength, resp.Status, answer)
		}
	}
}
