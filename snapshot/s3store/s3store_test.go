package s3store

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"go.uber.org/goleak"

	"mcp-sandbox/snapshot"
	"mcp-sandbox/snapshot/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is an S3 server on loopback. refuse, when above zero, counts uploads
// that it answers with 503 after having read half of them; lose counts those whose
// answer is replaced by 503.
type server struct {
	addr   string
	refuse atomic.Int32
	lose   atomic.Int32
	puts   atomic.Int32

	requests atomic.Int32
}

func start(t *testing.T) *server {
	t.Helper()
	s := &server{}
	inner := storetest.Engine()
	if inner == nil {
		backend := s3mem.New()
		if err := backend.CreateBucket(storetest.Bucket); err != nil {
			t.Fatal(err)
		}
		inner = gofakes3.New(backend).Server()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if r.Method == http.MethodPut {
			s.puts.Add(1)
			if s.refuse.Add(-1) >= 0 {
				buf := make([]byte, r.ContentLength/2)
				r.Body.Read(buf)
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			if s.lose.Add(-1) >= 0 {
				inner.ServeHTTP(httptest.NewRecorder(), r)
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
		}
		inner.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() { hs.Serve(l); close(done) }()
	t.Cleanup(func() { hs.Close(); <-done })
	return s
}

func open(t *testing.T, s *server, prefix string) *Store {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	st, err := New(context.Background(), Options{
		// An engine is the same for all tests, and the port another for each.
		Endpoint: s.addr, Bucket: storetest.Bucket, Prefix: path.Join(strings.ReplaceAll(s.addr, ":", "-"), prefix), Insecure: true, PathStyle: true,
		Region: "us-east-1", AccessKey: storetest.AccessKey, SecretKey: storetest.SecretKey, Transport: tr,
	})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) snapshot.Store { return open(t, start(t), "team/ws1") })
}

func TestUploadIsRetried(t *testing.T) {
	srv := start(t)
	st := open(t, srv, "")
	body := bytes.Repeat([]byte("retry "), 200_000)
	srv.refuse.Store(2)
	if err := st.Put(context.Background(), "packs/x", bytes.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
	if n := srv.puts.Load(); n != 3 {
		t.Errorf("%d uploads, want 3", n)
	}
	l, err := st.List(context.Background(), "packs/")
	if err != nil || len(l) != 1 || l[0].Size != int64(len(body)) {
		t.Errorf("%v %v", l, err)
	}
}

// A server that stops taking uploads in the middle leaves no snapshot to see.
func TestNoHalfVisibleSnapshot(t *testing.T) {
	srv := start(t)
	st := open(t, srv, "p")
	st2 := open(t, srv, "q")
	ws := t.TempDir()
	r, err := snapshot.New(st, snapshot.Options{Root: ws})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	srv.refuse.Store(1 << 20)
	go func() {
		for srv.puts.Load() < 1 {
		}
		cancel()
	}()
	if _, err := r.Create(ctx, snapshot.CreateRequest{}); err == nil {
		t.Fatal("the snapshot was made")
	}
	srv.refuse.Store(0)
	for _, s := range []*Store{st, st2} {
		if l, err := s.List(context.Background(), ""); err != nil || len(l) != 0 {
			t.Errorf("left: %v %v", l, err)
		}
	}
	if _, err := r.Create(context.Background(), snapshot.CreateRequest{}); err != nil {
		t.Error(err)
	}
}

func TestParseURL(t *testing.T) {
	o, err := ParseURL("s3://bucket/a/b/?endpoint=127.0.0.1:9000&insecure=1&path=1&region=eu")
	want := Options{Bucket: "bucket", Prefix: "a/b", Endpoint: "127.0.0.1:9000", Insecure: true, PathStyle: true, Region: "eu"}
	if err != nil || o != want {
		t.Errorf("%+v %v", o, err)
	}
	for _, bad := range []string{"", "http://x/y", "s3:///x", "s3://key:secret@bucket/x", "s3://b/x?unknown=1"} {
		if _, err := ParseURL(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestRequestsOfACreate: what a snapshot costs in round trips does not grow with the
// snapshots that there are, and retention holds all the same.
func TestRequestsOfACreate(t *testing.T) {
	srv := start(t)
	ws := t.TempDir()
	r, err := snapshot.New(open(t, srv, "p"), snapshot.Options{Root: ws, Retention: snapshot.Retention{Count: 20}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	requests := func(i int) int32 {
		if err := os.WriteFile(filepath.Join(ws, "f"), []byte(strings.Repeat("x", i+1)), 0o600); err != nil {
			t.Fatal(err)
		}
		before := srv.requests.Load()
		if _, err := r.Create(context.Background(), snapshot.CreateRequest{Auto: true}); err != nil {
			t.Fatal(err)
		}
		return srv.requests.Load() - before
	}
	requests(0)
	first := requests(1)
	for i := range 15 {
		requests(i + 2)
	}
	if last := requests(17); last > first {
		t.Errorf("%d requests with 2 snapshots, %d with 18", first, last)
	}
	t.Logf("%d requests", first)
	for i := range 15 {
		requests(i + 18)
	}
	list, err := r.List(context.Background())
	if err != nil || len(list) != 20 {
		t.Errorf("%d snapshots are kept, %v", len(list), err)
	}
}

// TestSilentStore: a store that takes requests and answers none is told as away.
func TestSilentStore(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := make(chan struct{})
	hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead && strings.Trim(r.URL.Path, "/") == storetest.Bucket {
			return // the bucket is there
		}
		<-silent
	})}
	done := make(chan struct{})
	go func() { _ = hs.Serve(l); close(done) }()
	t.Cleanup(func() { close(silent); _ = hs.Close(); <-done })
	was := answerWithin
	answerWithin = 100 * time.Millisecond
	defer func() { answerWithin = was }()
	st, err := New(t.Context(), Options{
		Endpoint: l.Addr().String(), Bucket: storetest.Bucket, Insecure: true, PathStyle: true,
		Region: "us-east-1", AccessKey: storetest.AccessKey, SecretKey: storetest.SecretKey, Retries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, ask := range map[string]func() error{
		"list": func() error { _, err := st.List(t.Context(), ""); return err },
		"has":  func() error { _, err := st.Has(t.Context(), "a"); return err },
		"get":  func() error { _, err := st.Get(t.Context(), "a", 0, -1); return err },
		"put":  func() error { return st.Put(t.Context(), "a", strings.NewReader("x"), 1) },
	} {
		began := time.Now()
		if err := ask(); err == nil || time.Since(began) > 5*time.Second {
			t.Errorf("%s: %v after %v", what, err, time.Since(began))
		}
	}
}
