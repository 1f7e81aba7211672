package tools

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
)

// Spans tells an OpenTelemetry collector of every tool call: one span each,
// with tool, code and whose session it was, and nothing of what was asked or
// answered. They are sent as OTLP/HTTP in JSON (opentelemetry-proto 1.x), by
// hand: the SDK would add 22 modules for this one message.
//
// A nil *Spans does nothing. Its methods are safe for concurrent use and never
// wait for the collector: what it does not take in time is dropped and counted.
type Spans struct {
	o        SpanOptions
	url      string
	instance string
	client   *http.Client
	queue    chan span

	start, end    sync.Once
	stop, stopped chan struct{}
	failing       bool // the sender's alone
}

// SpanOptions say where spans go; zero values are the defaults named.
type SpanOptions struct {
	// Endpoint is the collector's base address; /v1/traces is added, as to
	// OTEL_EXPORTER_OTLP_ENDPOINT.
	Endpoint string
	Version  string
	// Queue (2048) is how many spans may wait, Batch (512) how many go in one
	// request.
	Queue, Batch int
	// Every (5 s) is the longest that a span waits for others. Timeout (5 s) is
	// for one request, Pause (1 s) lies before the second of three tries and
	// doubles.
	Every, Timeout, Pause time.Duration
	Metrics               *Metrics
	Log                   *slog.Logger
}

type span struct {
	trace, parent, tool, code, client string
	began                             time.Time
	took                              time.Duration
}

// NewSpans checks the address; nothing runs before the first call. Code:
// invalid_argument.
func NewSpans(o SpanOptions) (*Spans, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		// Not quoted: it may hold a password.
		return nil, refuse("invalid_argument", "the address of the OpenTelemetry collector is not a plain http or https address; write one such as http://127.0.0.1:4318")
	}
	orDefault := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	orDefault(&o.Every, 5*time.Second)
	orDefault(&o.Timeout, 5*time.Second)
	orDefault(&o.Pause, time.Second)
	if o.Queue <= 0 {
		o.Queue = 2048
	}
	if o.Batch <= 0 {
		o.Batch = 512
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Spans{
		o: o, url: u.JoinPath("v1", "traces").String(), instance: randomHex(16),
		client: &http.Client{
			Transport: http.DefaultTransport.(*http.Transport).Clone(),
			// Spans go to the named host or nowhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		queue: make(chan span, o.Queue), stop: make(chan struct{}), stopped: make(chan struct{}),
	}, nil
}

// call records a finished call.
func (s *Spans) call(req mcp.CallToolRequest, tool, code, client string, began time.Time, took time.Duration) {
	if s == nil {
		return
	}
	trace, parent, sampled := traceOf(req)
	if !sampled {
		return
	}
	s.start.Do(func() { go s.send() })
	select {
	case s.queue <- span{trace, parent, tool, code, client, began, took}:
	default:
		s.o.Metrics.SpansDropped(1)
	}
}

// traceOf continues the caller's trace, which MCP carries in _meta (SEP-414)
// and HTTP in a header, both in the form of W3C Trace Context level 1. Without a
// valid one the span begins a trace of its own; a caller that does not sample
// wants none.
func traceOf(req mcp.CallToolRequest) (trace, parent string, sampled bool) {
	given := req.Header.Get("Traceparent")
	if req.Params.Meta != nil {
		if v, ok := req.Params.Meta.AdditionalFields["traceparent"].(string); ok {
			given = v
		}
	}
	f := strings.Split(given, "-")
	// Later versions may have more fields, version 00 has these four and ff is none.
	if len(f) < 4 || f[0] == "00" && len(f) != 4 || f[0] == "ff" || !lowerHex(f[0], 2) || !lowerHex(f[3], 2) ||
		!lowerHex(f[1], 32) || strings.Trim(f[1], "0") == "" || !lowerHex(f[2], 16) || strings.Trim(f[2], "0") == "" {
		return randomHex(16), "", true
	}
	flags, _ := strconv.ParseUint(f[3], 16, 8)
	return f[1], f[2], flags&1 == 1
}

func lowerHex(s string, n int) bool { return len(s) == n && strings.Trim(s, "0123456789abcdef") == "" }

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// Close sends what waits and ends, in about a second at most: a server has
// little time to stop.
func (s *Spans) Close() error {
	if s == nil {
		return nil
	}
	s.start.Do(func() { close(s.stopped) }) // nothing was ever sent
	s.end.Do(func() { close(s.stop) })
	<-s.stopped
	s.client.CloseIdleConnections()
	return nil
}

func (s *Spans) send() {
	defer close(s.stopped)
	tick := time.NewTicker(s.o.Every)
	defer tick.Stop()
	// Ends what is still on its way then.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.stop:
			time.AfterFunc(min(s.o.Timeout, time.Second), cancel)
		case <-ctx.Done():
		}
	}()
	var batch []span
	flush := func() {
		if len(batch) > 0 {
			s.post(ctx, batch)
		}
		batch = nil
	}
	for {
		select {
		case one := <-s.queue:
			if batch = append(batch, one); len(batch) >= s.o.Batch {
				flush()
			}
		case <-tick.C:
			flush()
		case <-s.stop:
			for {
				select {
				case one := <-s.queue:
					if batch = append(batch, one); len(batch) >= s.o.Batch {
						flush()
					}
				default:
					flush()
					return
				}
			}
		}
	}
}

// post tries three times. What is refused for good or too often is dropped: the
// newest spans are worth more than these.
func (s *Spans) post(ctx context.Context, batch []span) {
	body, err := json.Marshal(s.message(batch))
	pause, again := s.o.Pause, err == nil
	for i := 0; i < 3 && again; i++ {
		if i > 0 {
			select {
			case <-time.After(pause):
			case <-s.stop: // no more waiting, one last try
				i = 2
			}
			pause *= 2
		}
		var rejected int
		if rejected, again, err = s.postOnce(ctx, body); err == nil {
			s.o.Metrics.SpansDropped(rejected)
			s.failing = false
			return
		}
	}
	s.o.Metrics.SpansDropped(len(batch))
	if !s.failing {
		s.o.Log.Error("spans could not be sent", "error", err, "spans", len(batch))
	}
	s.failing = true
}

func (s *Spans) postOnce(ctx context.Context, body []byte) (rejected int, again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return 0, false, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "mcp-sandbox/"+label(s.o.Version))
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, true, errors.Unwrap(err) // the wrapper only repeats the address
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return 0, true, fmt.Errorf("the collector answered %s", resp.Status)
	default: // the specification lets nothing else be tried again
		return 0, false, fmt.Errorf("the collector answered %s", resp.Status)
	}
	var partial struct {
		PartialSuccess struct{ RejectedSpans json.Number }
	}
	if json.Unmarshal(answer, &partial) == nil {
		n, _ := partial.PartialSuccess.RejectedSpans.Int64()
		rejected = int(n)
	}
	return rejected, false, nil
}

// message is an ExportTraceServiceRequest in the JSON of OTLP: ids in hex, 64-bit
// numbers as text, enumerations as numbers. Names of attributes are those of
// OpenTelemetry's conventions for MCP, where there is one.
func (s *Spans) message(batch []span) map[string]any {
	type object = map[string]any
	text := func(key, value string) object { return object{"key": key, "value": object{"stringValue": value}} }
	spans := make([]object, len(batch))
	for i, one := range batch {
		attributes := []object{text("mcp.method.name", "tools/call"), text("gen_ai.tool.name", one.tool), text("gen_ai.operation.name", "execute_tool"), text("mcp_sandbox.client", one.client)}
		status := object{}
		if one.code != "" {
			attributes = append(attributes, text("error.type", one.code))
			status["code"] = 2 // STATUS_CODE_ERROR
		}
		spans[i] = object{
			"traceId": one.trace, "spanId": randomHex(8), "name": "tools/call " + one.tool, "kind": 2, // SPAN_KIND_SERVER
			"startTimeUnixNano": strconv.FormatInt(one.began.UnixNano(), 10),
			"endTimeUnixNano":   strconv.FormatInt(one.began.Add(one.took).UnixNano(), 10),
			"attributes":        attributes, "status": status,
		}
		if one.parent != "" {
			spans[i]["parentSpanId"] = one.parent
		}
	}
	return object{"resourceSpans": []object{{
		"resource":   object{"attributes": []object{text("service.name", "mcp-sandbox"), text("service.version", s.o.Version), text("service.instance.id", s.instance)}},
		"scopeSpans": []object{{"scope": object{"name": "mcp-sandbox", "version": s.o.Version}, "spans": spans}},
	}}}
}
