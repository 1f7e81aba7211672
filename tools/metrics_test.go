package tools

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var seriesLine = regexp.MustCompile(`^([a-z_]+)(\{[a-z]+="[^"\\]*"(,[a-z]+="[^"\\]*")*\})? (\S+)$`)

// scrape reads the exposition strictly: every series has a type before it, no
// series comes twice, and the counts are numbers.
func scrape(t *testing.T, h http.Handler) map[string]float64 {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if ct := rec.Header().Get("Content-Type"); !strings.HasPrefix(ct, "text/plain; version=0.0.4") {
		t.Errorf("Content-Type %q", ct)
	}
	out, types := map[string]float64{}, map[string]bool{}
	for _, line := range strings.Split(strings.TrimSuffix(rec.Body.String(), "\n"), "\n") {
		if f := strings.Fields(line); f[0] == "#" {
			if f[1] == "TYPE" {
				types[f[2]] = true
			}
			continue
		}
		m := seriesLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("no series: %q", line)
		}
		base := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if b, ok := strings.CutSuffix(base, suffix); ok && types[b] {
				base = b
			}
		}
		v, err := strconv.ParseFloat(m[4], 64)
		if _, twice := out[m[1]+m[2]]; err != nil || twice || !types[base] {
			t.Fatalf("%q: %v, twice %v, typed %v", line, err, twice, types[base])
		}
		out[m[1]+m[2]] = v
	}
	return out
}

func TestMetrics(t *testing.T) {
	m := NewMetrics("1.2\n\"3")
	m.Gauge("mcp_sandbox_sessions", "Live sessions.", func() float64 { return 3 })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				m.Call("ls", "", 2*time.Millisecond)
				m.Call("ls", "not_found", time.Hour)
				m.TokensCut(5)
				m.Denied("auth")
			}
		})
	}
	wg.Wait()
	got := scrape(t, m)
	for series, want := range map[string]float64{
		`mcp_sandbox_calls_total{tool="ls",code="ok"}`:           800,
		`mcp_sandbox_calls_total{tool="ls",code="not_found"}`:    800,
		`mcp_sandbox_call_seconds_bucket{tool="ls",le="0.001"}`:  0,
		`mcp_sandbox_call_seconds_bucket{tool="ls",le="0.0025"}`: 800,
		`mcp_sandbox_call_seconds_bucket{tool="ls",le="60"}`:     800,
		`mcp_sandbox_call_seconds_bucket{tool="ls",le="+Inf"}`:   1600,
		`mcp_sandbox_call_seconds_count{tool="ls"}`:              1600,
		`mcp_sandbox_tokens_cut_total`:                           4000,
		`mcp_sandbox_denials_total{kind="auth"}`:                 800,
		`mcp_sandbox_sessions`:                                   3,
	} {
		if got[series] != want {
			t.Errorf("%s is %v, want %v", series, got[series], want)
		}
	}
	var none *Metrics
	none.Call("ls", "", 0)
	none.TokensCut(1)
	none.Denied("x")
	none.Gauge("x", "", nil)
}
