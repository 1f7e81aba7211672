package tools

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"go.uber.org/goleak"
)

// The fields of an ExportTraceServiceRequest that we send, by the JSON names of
// opentelemetry-proto (trace.proto, common.proto, resource.proto).
type (
	otlpRequest struct {
		ResourceSpans []struct {
			Resource   struct{ Attributes []otlpAttribute }
			ScopeSpans []struct {
				Scope struct{ Name, Version string }
				Spans []otlpSpan
			}
		}
	}
	otlpSpan struct {
		TraceID           string `json:"traceId"`
		SpanID            string `json:"spanId"`
		ParentSpanID      string `json:"parentSpanId"`
		Name              string
		Kind              int
		StartTimeUnixNano string
		EndTimeUnixNano   string
		Attributes        []otlpAttribute
		Status            struct{ Code int }
	}
	otlpAttribute struct {
		Key   string
		Value struct{ StringValue string }
	}
)

// collector is a stand-in for one: it takes what the protocol allows, strictly.
type collector struct {
	*httptest.Server
	t      *testing.T
	answer func(n int, w http.ResponseWriter) bool // false: not taken

	mu    sync.Mutex
	asked int
	spans []otlpSpan
	sizes []int
}

func startCollector(t *testing.T, answer func(n int, w http.ResponseWriter) bool) *collector {
	c := &collector{t: t, answer: answer}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the server gave up
	}
	c.mu.Lock()
	c.asked++
	n := c.asked
	c.mu.Unlock()
	if r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" {
		c.t.Errorf("%s %s %s", r.Method, r.URL, r.Header.Get("Content-Type"))
	}
	if c.answer != nil && !c.answer(n, w) {
		return
	}
	var m otlpRequest
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil || len(m.ResourceSpans) != 1 || len(m.ResourceSpans[0].ScopeSpans) != 1 {
		c.t.Errorf("%v in %s", err, body)
		return
	}
	spans := m.ResourceSpans[0].ScopeSpans[0].Spans
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spans, c.sizes = append(c.spans, spans...), append(c.sizes, len(spans))
}

func (c *collector) got() (spans []otlpSpan, sizes []int, asked int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spans, c.sizes, c.asked
}

func (s otlpSpan) attribute(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.StringValue
		}
	}
	return ""
}

func newSpans(t *testing.T, o SpanOptions) (*Spans, *Metrics) {
	t.Helper()
	o.Version, o.Metrics = "1.2.3", NewMetrics("1.2.3")
	s, err := NewSpans(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, o.Metrics
}

func dropped(t *testing.T, m *Metrics) int {
	t.Helper()
	return int(scrape(t, m)["mcp_sandbox_spans_dropped_total"])
}

func TestSpans(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c := startCollector(t, nil)
	s, m := newSpans(t, SpanOptions{Endpoint: c.URL + "/", Every: time.Hour})
	began := time.Unix(1800000000, 123456789)
	s.call(mcp.CallToolRequest{}, "ls", "", "ann/0123", began, 1500*time.Millisecond)
	s.call(mcp.CallToolRequest{}, "read_file", "not_found", "bob", began, 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	spans, _, _ := c.got()
	if len(spans) != 2 {
		t.Fatalf("%d spans", len(spans))
	}
	ok, bad := spans[0], spans[1]
	if ok.Name != "tools/call ls" || ok.Kind != 2 || ok.StartTimeUnixNano != "1800000000123456789" || ok.EndTimeUnixNano != "1800000001623456789" ||
		ok.Status.Code != 0 || ok.ParentSpanID != "" || ok.attribute("gen_ai.tool.name") != "ls" || ok.attribute("mcp.method.name") != "tools/call" ||
		ok.attribute("mcp_sandbox.client") != "ann/0123" || ok.attribute("error.type") != "" {
		t.Errorf("%+v", ok)
	}
	if bad.Status.Code != 2 || bad.attribute("error.type") != "not_found" || bad.attribute("mcp_sandbox.client") != "bob" {
		t.Errorf("%+v", bad)
	}
	id := regexp.MustCompile(`^[0-9a-f]+$`)
	for _, one := range spans {
		if len(one.TraceID) != 32 || len(one.SpanID) != 16 || !id.MatchString(one.TraceID+one.SpanID) {
			t.Errorf("ids %q %q", one.TraceID, one.SpanID)
		}
	}
	if ok.TraceID == bad.TraceID || ok.SpanID == bad.SpanID {
		t.Error("two calls share an id")
	}
	if n := dropped(t, m); n != 0 {
		t.Errorf("%d dropped", n)
	}
	c.Close()
}

func TestSpanTrace(t *testing.T) {
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for what, tc := range map[string]struct {
		given  any
		joins  bool
		silent bool
	}{
		"none":                {given: nil},
		"sampled":             {given: "00-" + trace + "-" + parent + "-01", joins: true},
		"sampled, more flags": {given: "00-" + trace + "-" + parent + "-ff", joins: true},
		"not sampled":         {given: "00-" + trace + "-" + parent + "-00", silent: true},
		"a later version":     {given: "cc-" + trace + "-" + parent + "-01-more", joins: true},
		"version ff":          {given: "ff-" + trace + "-" + parent + "-01"},
		"five fields":         {given: "00-" + trace + "-" + parent + "-01-more"},
		"upper case":          {given: "00-" + strings.ToUpper(trace) + "-" + parent + "-01"},
		"zero trace":          {given: "00-" + strings.Repeat("0", 32) + "-" + parent + "-01"},
		"zero parent":         {given: "00-" + trace + "-" + strings.Repeat("0", 16) + "-01"},
		"short":               {given: "00-" + trace[1:] + "-" + parent + "-01"},
		"not text":            {given: 7.0},
		"junk":                {given: "---\"\x00"},
	} {
		for _, header := range []bool{false, true} {
			req := mcp.CallToolRequest{}
			if text, isText := tc.given.(string); header && isText {
				req.Header = http.Header{"Traceparent": {text}}
			} else {
				req.Params.Meta = &mcp.Meta{AdditionalFields: map[string]any{"traceparent": tc.given}}
			}
			gotTrace, gotParent, sampled := traceOf(req)
			if sampled == tc.silent || (gotParent == parent && gotTrace == trace) != (tc.joins || tc.silent) || len(gotTrace) != 32 {
				t.Errorf("%s (header %v): %q %q %v", what, header, gotTrace, gotParent, sampled)
			}
		}
	}
	// Of the two, the message's own counts: a proxy may have written the header.
	req := mcp.CallToolRequest{Header: http.Header{"Traceparent": {"00-" + trace + "-" + parent + "-01"}}}
	req.Params.Meta = &mcp.Meta{AdditionalFields: map[string]any{"traceparent": "00-" + trace + "-" + parent + "-00"}}
	if _, _, sampled := traceOf(req); sampled {
		t.Error("the header won")
	}
}

func TestSpansBatch(t *testing.T) {
	c := startCollector(t, nil)
	s, m := newSpans(t, SpanOptions{Endpoint: c.URL, Every: time.Hour, Batch: 10})
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			for range 5 {
				s.call(mcp.CallToolRequest{}, "ls", "", "x", time.Now(), 0)
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	spans, sizes, _ := c.got()
	if len(spans) != 25 || len(sizes) != 3 || sizes[0] != 10 || sizes[2] != 5 || dropped(t, m) != 0 {
		t.Errorf("%d spans in %v, %d dropped", len(spans), sizes, dropped(t, m))
	}
	s.call(mcp.CallToolRequest{}, "ls", "", "x", time.Now(), 0) // too late, and harmless
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestSpansRefused: what a collector does not take is tried again when the
// protocol says so, and what is lost is counted.
func TestSpansRefused(t *testing.T) {
	status := func(code, until int) func(int, http.ResponseWriter) bool {
		return func(n int, w http.ResponseWriter) bool {
			if n > until {
				return true
			}
			w.WriteHeader(code)
			return false
		}
	}
	for what, tc := range map[string]struct {
		answer       func(int, http.ResponseWriter) bool
		asked, taken int
		dropped      int
	}{
		"busy once":         {status(503, 1), 2, 3, 0},
		"busy twice":        {status(429, 2), 3, 3, 0},
		"busy":              {status(503, 99), 3, 0, 3},
		"a bad request":     {status(400, 99), 1, 0, 3},
		"an internal error": {status(500, 99), 1, 0, 3},
		"sent elsewhere": {func(_ int, w http.ResponseWriter) bool {
			w.Header().Set("Location", "/v2")
			w.WriteHeader(307)
			return false
		}, 1, 0, 3},
		"two of three taken": {func(_ int, w http.ResponseWriter) bool {
			_, _ = io.WriteString(w, `{"partialSuccess":{"rejectedSpans":"1"}}`)
			return true
		}, 1, 3, 1},
		"the connection cut": {func(n int, _ http.ResponseWriter) bool {
			if n == 1 {
				panic(http.ErrAbortHandler)
			}
			return true
		}, 2, 3, 0},
	} {
		t.Run(what, func(t *testing.T) {
			c := startCollector(t, tc.answer)
			s, m := newSpans(t, SpanOptions{Endpoint: c.URL, Every: time.Hour, Batch: 3, Pause: time.Millisecond})
			for range 3 {
				s.call(mcp.CallToolRequest{}, "ls", "", "x", time.Now(), 0)
			}
			// Not Close first: it would cut the tries short.
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
				spans, _, asked := c.got()
				if len(spans) == tc.taken && asked == tc.asked && dropped(t, m) == tc.dropped {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("asked %d, taken %d, dropped %d", asked, len(spans), dropped(t, m))
				}
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if _, _, asked := c.got(); asked != tc.asked {
				t.Errorf("asked %d times in the end", asked)
			}
		})
	}
}

// TestSpansFull: a collector that hangs costs spans, never a call or the end.
func TestSpansFull(t *testing.T) {
	hang := make(chan struct{})
	c := startCollector(t, func(int, http.ResponseWriter) bool { <-hang; return false })
	defer close(hang)
	s, m := newSpans(t, SpanOptions{Endpoint: c.URL, Every: time.Hour, Batch: 1, Queue: 4, Timeout: 50 * time.Millisecond})
	for range 100 {
		s.call(mcp.CallToolRequest{}, "ls", "", "x", time.Now(), 0)
	}
	if n := dropped(t, m); n < 90 {
		t.Errorf("%d dropped of 100 with a queue of 4", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := dropped(t, m); n != 100 {
		t.Errorf("%d dropped in the end", n)
	}
}

func TestSpansAddress(t *testing.T) {
	for address, want := range map[string]string{
		"http://127.0.0.1:4318":           "http://127.0.0.1:4318/v1/traces",
		"https://host/otlp/":              "https://host/otlp/v1/traces",
		"":                                "",
		"127.0.0.1:4318":                  "",
		"grpc://host:4317":                "",
		"http://":                         "",
		"http://host/?key=secret":         "",
		"http://user:secret@host":         "",
		"http://host/#secret":             "",
		"http://host:port" + string('\n'): "",
	} {
		s, err := NewSpans(SpanOptions{Endpoint: address})
		switch {
		case want == "" && (err == nil || codeOf(err) != "invalid_argument" || strings.Contains(err.Error(), "secret")):
			t.Errorf("%s: %v", strconv.Quote(address), err)
		case want != "" && (err != nil || s.url != want):
			t.Errorf("%s: %v", address, err)
		}
	}
	var none *Spans
	none.call(mcp.CallToolRequest{}, "ls", "", "x", time.Now(), 0)
	if err := none.Close(); err != nil {
		t.Error(err)
	}
}
