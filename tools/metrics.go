package tools

import (
	"bufio"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Metrics counts what the server does, for Prometheus (text exposition format
// 0.0.4). Its few series are written by hand: a client library would add nine
// modules for them. Labels come from fixed sets (tools, error codes, kinds of
// denial), never from a client, so a client cannot make series.
//
// A nil *Metrics counts nothing. Its methods are safe for concurrent use.
type Metrics struct {
	version string

	mu      sync.Mutex
	calls   map[[2]string]int64 // tool, code
	seconds map[string]*histogram
	denials map[string]int64
	cut     int64
	spans   int64 // dropped
	gauges  map[string]gauge
	resumed map[string]int64 // by what from
}

type gauge struct {
	help string
	read func() float64
	kind string // of the series
}

// histogram counts by the smallest bound that a value does not exceed.
type histogram struct {
	counts [len(callBounds) + 1]int64
	sum    float64
}

// callBounds are in seconds: a command takes a millisecond, a call waits for at
// most a minute.
var callBounds = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

const successLabel = "ok"

// NewMetrics makes an empty set.
func NewMetrics(version string) *Metrics {
	return &Metrics{version: version, calls: map[[2]string]int64{}, seconds: map[string]*histogram{}, denials: map[string]int64{}, gauges: map[string]gauge{}}
}

// Call counts a finished tool call; code is "" for a success.
func (m *Metrics) Call(tool, code string, took time.Duration) {
	if m == nil {
		return
	}
	if code == "" {
		code = successLabel
	}
	s := took.Seconds()
	i, _ := slices.BinarySearch(callBounds[:], s)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[[2]string{tool, code}]++
	h := m.seconds[tool]
	if h == nil {
		h = &histogram{}
		m.seconds[tool] = h
	}
	h.counts[i]++
	h.sum += s
}

// TokensCut counts tokens that were left out of replies.
func (m *Metrics) TokensCut(n int) {
	if m == nil || n <= 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut += int64(n)
}

// SpansDropped counts spans that no collector took.
func (m *Metrics) SpansDropped(n int) {
	if m == nil || n <= 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spans += int64(n)
}

// Denied counts a refusal; kind is auth, host, origin, quota, network, file or
// limit.
func (m *Metrics) Denied(kind string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.denials[kind]++
}

// Resumed counts a session that came back; from is workspace or snapshot.
func (m *Metrics) Resumed(from string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.resumed == nil {
		m.resumed = map[string]int64{}
	}
	m.resumed[from]++
}

// Counter registers a value that only grows and is read when it is asked for.
func (m *Metrics) Counter(name, help string, read func() float64) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gauges[name] = gauge{help, read, "counter"}
}

// Gauge registers a value that is read when it is asked for.
func (m *Metrics) Gauge(name, help string, read func() float64) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gauges[name] = gauge{help, read, "gauge"}
}

// ServeHTTP writes all series.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	out := bufio.NewWriter(w)
	defer out.Flush()
	m.write(out)
}

func (m *Metrics) write(out *bufio.Writer) {
	m.mu.Lock()
	gauges := maps.Clone(m.gauges)
	m.mu.Unlock()
	// Outside the lock: what a gauge reads may take locks of its own.
	values := map[string]float64{}
	for name, g := range gauges {
		values[name] = g.read()
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	head := func(name, kind, help string) {
		fmt.Fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	head("mcp_sandbox_build_info", "gauge", "The running build.")
	fmt.Fprintf(out, "mcp_sandbox_build_info{version=%q,go=%q} 1\n", label(m.version), runtime.Version())

	head("mcp_sandbox_calls_total", "counter", "Finished tool calls by tool and error code.")
	for _, k := range slices.SortedFunc(maps.Keys(m.calls), func(a, b [2]string) int {
		return strings.Compare(a[0]+"\x00"+a[1], b[0]+"\x00"+b[1])
	}) {
		fmt.Fprintf(out, "mcp_sandbox_calls_total{tool=%q,code=%q} %d\n", k[0], k[1], m.calls[k])
	}
	head("mcp_sandbox_call_seconds", "histogram", "How long tool calls took.")
	for _, tool := range slices.Sorted(maps.Keys(m.seconds)) {
		h, n := m.seconds[tool], int64(0)
		for i, c := range h.counts {
			n += c
			bound := "+Inf"
			if i < len(callBounds) {
				bound = number(callBounds[i])
			}
			fmt.Fprintf(out, "mcp_sandbox_call_seconds_bucket{tool=%q,le=%q} %d\n", tool, bound, n)
		}
		fmt.Fprintf(out, "mcp_sandbox_call_seconds_sum{tool=%q} %s\nmcp_sandbox_call_seconds_count{tool=%q} %d\n", tool, number(h.sum), tool, n)
	}
	head("mcp_sandbox_tokens_cut_total", "counter", "Tokens left out of replies.")
	fmt.Fprintf(out, "mcp_sandbox_tokens_cut_total %d\n", m.cut)
	head("mcp_sandbox_spans_dropped_total", "counter", "Spans that no OpenTelemetry collector took.")
	fmt.Fprintf(out, "mcp_sandbox_spans_dropped_total %d\n", m.spans)
	head("mcp_sandbox_denials_total", "counter", "What was refused, by kind.")
	for _, kind := range slices.Sorted(maps.Keys(m.denials)) {
		fmt.Fprintf(out, "mcp_sandbox_denials_total{kind=%q} %d\n", kind, m.denials[kind])
	}
	head("mcp_sandbox_sessions_resumed_total", "counter", "Sessions that came back, by what from.")
	for _, from := range []string{"nothing", "snapshot", "workspace"} {
		fmt.Fprintf(out, "mcp_sandbox_sessions_resumed_total{from=%q} %d\n", from, m.resumed[from])
	}
	for _, name := range slices.Sorted(maps.Keys(gauges)) {
		head(name, gauges[name].kind, gauges[name].help)
		fmt.Fprintf(out, "%s %s\n", name, number(values[name]))
	}
}

// label keeps a value to what %q writes as the format wants it.
func label(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, s)
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
