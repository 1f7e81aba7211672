package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mcp-sandbox/sandbox"
)

func readEvents(t *testing.T, r io.Reader) []Event {
	t.Helper()
	var out []Event
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		d := json.NewDecoder(bytes.NewReader(sc.Bytes()))
		d.DisallowUnknownFields()
		var e Event
		if err := d.Decode(&e); err != nil {
			t.Fatalf("line %q: %v", sc.Bytes(), err)
		}
		out = append(out, e)
	}
	return out
}

func TestAuditPairs(t *testing.T) {
	var buf bytes.Buffer
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a := New(Options{Sink: NewWriter(&buf), Now: func() time.Time { now = now.Add(time.Millisecond); return now }})
	sp, err := a.Begin(t.Context(), "", "stdio", "exec_command", map[string]any{"cmd": "true"})
	if err != nil {
		t.Fatal(err)
	}
	sp.End(t.Context(), "s1", "not_found", map[string]any{"result_bytes": 3})
	sp.End(t.Context(), "s1", "", nil)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	es := readEvents(t, &buf)
	if len(es) != 2 {
		t.Fatalf("%d records, want 2", len(es))
	}
	s, f := es[0], es[1]
	if s.Phase != "start" || f.Phase != "finish" || s.Span != f.Span || s.ID == f.ID || s.Seq != 1 || f.Seq != 2 || s.Server != f.Server {
		t.Errorf("not a pair: %+v, %+v", s, f)
	}
	if s.OK != nil || s.DurationMS != nil || s.Session != "" || f.Session != "s1" || f.OK == nil || *f.OK || f.ErrorCode != "not_found" || *f.DurationMS <= 0 {
		t.Errorf("fields: %+v, %+v", s, f)
	}
	var none *Auditor
	sp, err = none.Begin(t.Context(), "", "", "x", nil)
	sp.End(t.Context(), "", "", nil)
	if sp != nil || err != nil || none.Close() != nil || none.Lost() != 0 {
		t.Error("no auditor is not silent")
	}
}

type brokenSink struct{ broken atomic.Bool }

func (s *brokenSink) Write(context.Context, []byte) error {
	if s.broken.Load() {
		return errors.New("no space left on /srv/secret/audit")
	}
	return nil
}
func (s *brokenSink) Close() error { return nil }

// TestAuditFailure: a broken sink costs records, and calls only when strict.
func TestAuditFailure(t *testing.T) {
	for _, strict := range []bool{false, true} {
		var logged bytes.Buffer
		sink := &brokenSink{}
		a := New(Options{Sink: sink, Strict: strict, Log: slog.New(slog.NewTextHandler(&logged, nil))})
		sink.broken.Store(true)
		for range 3 {
			sp, err := a.Begin(t.Context(), "", "", "ls", nil)
			if (err != nil) != strict {
				t.Fatalf("strict %v: %v", strict, err)
			}
			if err != nil && (sandbox.CodeOf(err) != "internal" || strings.Contains(err.Error(), "/srv")) {
				t.Errorf("%s: %v", sandbox.CodeOf(err), err)
			}
			sp.End(t.Context(), "", "", nil)
		}
		sink.broken.Store(false)
		if sp, err := a.Begin(t.Context(), "", "", "ls", nil); err != nil || sp == nil {
			t.Errorf("a mended sink: %v", err)
		}
		want := map[bool]uint64{false: 6, true: 3}[strict]
		if a.Lost() != want {
			t.Errorf("lost %d, want %d", a.Lost(), want)
		}
		if n := strings.Count(logged.String(), "level=ERROR"); n != 1 {
			t.Errorf("%d errors logged, want one for the whole failure:\n%s", n, &logged)
		}
	}
}

// TestAuditFile: mode, rotation, and whole lines from several servers at once.
func TestAuditFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	const servers, each = 4, 100
	var wg sync.WaitGroup
	for range servers {
		sink, err := OpenFile(path, FileOptions{MaxBytes: 4000, Keep: 1000})
		if err != nil {
			t.Fatal(err)
		}
		a := New(Options{Sink: sink})
		wg.Go(func() {
			for range each {
				sp, _ := a.Begin(t.Context(), "s", "c", "op", map[string]any{"path": "some/file"})
				sp.End(t.Context(), "s", "", nil)
			}
			if a.Lost() != 0 || a.Close() != nil {
				t.Errorf("lost %d", a.Lost())
			}
		})
	}
	wg.Wait()
	files, _ := filepath.Glob(path + "*")
	if len(files) < 10 {
		t.Fatalf("only %d files: not rotated", len(files))
	}
	next := map[string]map[uint64]bool{}
	total := 0
	for _, name := range files {
		fi, err := os.Stat(name)
		if err != nil || fi.Mode().Perm() != 0o600 || fi.Size() > 4000 {
			t.Errorf("%s: %v %d bytes, %v", filepath.Base(name), fi.Mode(), fi.Size(), err)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range readEvents(t, bytes.NewReader(b)) {
			if next[e.Server] == nil {
				next[e.Server] = map[uint64]bool{}
			}
			next[e.Server][e.Seq] = true
			total++
		}
	}
	if total != servers*each*2 || len(next) != servers {
		t.Errorf("%d records of %d servers, want %d of %d", total, len(next), servers*each*2, servers)
	}
	for s, seen := range next {
		if len(seen) != each*2 {
			t.Errorf("server %s: %d different numbers", s, len(seen))
		}
	}
}

func TestAuditFileKeepsFew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	sink, err := OpenFile(path, FileOptions{MaxBytes: 10, Keep: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"one------\n", "two------\n", "three----\n", "four-----\n", strings.Repeat("x", 30) + "\n"} {
		if err := sink.Write(t.Context(), []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	// Taken away by another program: a new file under the same name.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := sink.Write(t.Context(), []byte("last\n")); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "last\n", "a.1": "four-----\n", "a.2": "three----\n"} {
		if b, err := os.ReadFile(filepath.Join(filepath.Dir(path), name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v, want %q", name, b, err, want)
		}
	}
	if files, _ := filepath.Glob(path + "*"); len(files) != 3 {
		t.Errorf("files: %v", files)
	}
}

// TestAC13AuditPath: nothing planted under the log's name is written through.
func TestAC13AuditPath(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	link, fifo := filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.Symlink(victim, link), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{link, fifo, dir, filepath.Join(dir, "no", "directory")} {
		if s, err := OpenFile(p, FileOptions{}); sandbox.CodeOf(err) != "permission_denied" {
			t.Errorf("%s: %v, %v", p, s, err)
		}
	}
	if b, _ := os.ReadFile(victim); string(b) != "mine" {
		t.Errorf("the victim holds %q", b)
	}
}

func TestAuditHTTP(t *testing.T) {
	defer goleak.VerifyNone(t)
	var mu sync.Mutex
	var got bytes.Buffer
	failures := 2
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if user, pass, _ := r.BasicAuth(); user != "u" || pass != "hunter22" || r.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("request: %v", r.Header)
		}
		if failures > 0 {
			failures--
			w.WriteHeader(503)
			return
		}
		_, _ = io.Copy(&got, r.Body)
	}))
	defer srv.Close()
	address := strings.Replace(srv.URL, "://", "://u:hunter22@", 1)
	sink, err := OpenSink(address, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := New(Options{Sink: sink})
	for range 50 {
		sp, _ := a.Begin(t.Context(), "s", "c", "op", nil)
		sp.End(t.Context(), "s", "", nil)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	es := readEvents(t, &got)
	if len(es) != 100 || a.Lost() != 0 {
		t.Fatalf("%d records came, %d lost", len(es), a.Lost())
	}
	for i, e := range es {
		if e.Seq != uint64(i+1) {
			t.Fatalf("record %d has number %d", i, e.Seq)
		}
	}
}

// TestAuditHTTPDown: a collector that hangs, moves or is gone never holds a call,
// and is told apart when strict.
func TestAuditHTTPDown(t *testing.T) {
	defer goleak.VerifyNone(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	moved := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer moved.Close()
	gate := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-gate:
		case <-r.Context().Done():
		}
	}))
	defer hangs.Close()
	defer close(gate)
	gone := httptest.NewServer(nil)
	gone.Close()

	for _, url := range []string{moved.URL, hangs.URL, gone.URL} {
		o := HTTPOptions{Sync: true, Timeout: 50 * time.Millisecond, Attempts: 2, Pause: time.Millisecond}
		sink, err := NewHTTP(url, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := sink.Write(t.Context(), []byte("{}\n")); err == nil || strings.Contains(err.Error(), url) {
			t.Errorf("%s: %v", url, err)
		}
		_ = sink.Close()
	}
	sink, err := NewHTTP(hangs.URL, HTTPOptions{Queue: 3, Timeout: 50 * time.Millisecond, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	full := false
	for range 100 {
		full = full || sink.Write(t.Context(), []byte("{}\n")) != nil
	}
	if !full {
		t.Error("the queue has no end")
	}
	_ = sink.Close()
	if _, err := NewHTTP("http://user:pw@", HTTPOptions{}); sandbox.CodeOf(err) != "invalid_argument" || strings.Contains(err.Error(), "pw") {
		t.Errorf("bad address: %v", err)
	}
}

func TestRedactor(t *testing.T) {
	r := NewRedactor([]string{"correct horse", "abc", "sentinel-value-1"})
	pem := "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----"
	for _, tc := range []struct{ in, gone, kept string }{
		{"echo correct horse battery", "correct horse", "battery"},
		{"x=sentinel-value-1", "sentinel-value-1", "x="},
		{"echo abc", "", "abc"}, // too short to be a secret
		{`curl -H "Authorization: Bearer eyabc.def" https://h/p`, "eyabc", "https://h/p"},
		{"curl -u joe:s3cr3t https://h", "s3cr3t", "joe:"},
		{"curl --user=joe:s3cr3t https://h", "s3cr3t", "https://h"},
		{"git clone https://joe:s3cr3t@host/r.git", "s3cr3t", "host/r.git"},
		{"git clone https://tokentokentoken@host/r.git", "tokentokentoken", "host/r.git"},
		{"export GITHUB_TOKEN=ghx123; ls", "ghx123", "; ls"},
		{`{"password": "p w", "user": "u"}`, "p w", `"user": "u"`},
		{"login --password hunter2 --user x", "hunter2", "--user x"},
		{"login --api-key=hunter2", "hunter2", "login"},
		{"echo ghp_0123456789abcdefghij0123", "ghp_01", "echo"},
		{"aws AKIAIOSFODNN7EXAMPLE", "AKIA", "aws"},
		{"key: " + pem + " end", "b3Blb", "end"},
		{"eyJhbGciOi.eyJzdWIiOi.SflKxw x", "SflKxw", "x"},
		{"the token count is 5", "", "the token count is 5"},
		{"go test ./tokens", "", "go test ./tokens"},
		{"cat > f <<'EOF'\nfile contents\nEOF\necho after", "file contents", "echo after"},
		{"cat <<-EOF | sh\n\tbody\n\tEOF\nls", "body", "ls"},
		{"cat <<A <<B\none\nA\ntwo\nB\nls", "two", "ls"},
		{"cat <<EOF\nnever ends", "never ends", "cat"},
		{"echo $((1<<2))", "", "echo $((1<<2))"},
	} {
		got := r.Command(tc.in)
		if tc.gone != "" && strings.Contains(got, tc.gone) || !strings.Contains(got, tc.kept) {
			t.Errorf("%q became %q", tc.in, got)
		}
	}
	if got := r.Value(strings.Repeat("é", 5000)); len(got) > textLimit+40 || !strings.Contains(got, "bytes more") {
		t.Errorf("not cut: %d bytes", len(got))
	}
	if got := (*Redactor)(nil).Value("a\xffb"); got != "a\uFFFDb" {
		t.Errorf("%q", got)
	}
}

func FuzzRedactor(f *testing.F) {
	f.Add("cat <<EOF\nx\nEOF", "secret")
	f.Add("a=b token=c <<", "")
	r := NewRedactor([]string{"sentinel-value-1"})
	f.Fuzz(func(t *testing.T, before, after string) {
		// A marker of our own may be pieced together with what surrounds it.
		if strings.Contains(before+after, "sentinel") {
			t.Skip()
		}
		if got := r.Command(before + " sentinel-value-1 " + after); strings.Contains(got, "sentinel-value-1") {
			t.Errorf("%q", got)
		}
	})
}
