package audit

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestCircuit: a dead collector is asked three times, then not at all, then once;
// the first record it takes closes the circuit.
func TestCircuit(t *testing.T) {
	var asked atomic.Int64
	var dead atomic.Bool
	dead.Store(true)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if dead.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	sink, err := NewHTTP(srv.URL, HTTPOptions{Sync: true, Pause: time.Millisecond, Circuit: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	write := func() error { return sink.Write(t.Context(), []byte("{}\n")) }
	if err := write(); err == nil || asked.Load() != 3 {
		t.Errorf("%d asked: %v", asked.Load(), err)
	}
	for range 10 {
		if err := write(); err == nil || !strings.Contains(err.Error(), "is asked again in") {
			t.Errorf("%v", err)
		}
	}
	if asked.Load() != 3 {
		t.Errorf("asked %d times while the circuit is open", asked.Load())
	}
	s := sink.(*httpSink)
	s.tryAt = time.Now()
	if err := write(); err == nil || asked.Load() != 4 {
		t.Errorf("%d asked after the pause: %v", asked.Load(), err)
	}
	dead.Store(false)
	s.tryAt = time.Now()
	for range 2 {
		if err := write(); err != nil {
			t.Error(err)
		}
	}
	if asked.Load() != 6 {
		t.Errorf("asked %d times", asked.Load())
	}
}
