package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/pflag"

	"mcp-sandbox/serve"
	"mcp-sandbox/session"
	"mcp-sandbox/tools"
)

// observeSettings are the flags about what an operator sees of a server.
type observeSettings struct {
	logLevel, logFormat, metricsListen, otlpEndpoint string

	spans *tools.Spans
}

func registerObserve(f *pflag.FlagSet, o *observeSettings) {
	f.StringVar(&o.logLevel, "log-level", "warn", "debug, info, warn or error; the log goes to stderr")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	f.StringVar(&o.metricsListen, "metrics-listen", "", "serve Prometheus metrics at HOST:PORT, path /metrics; they name no client and need no token, so loopback unless asked")
	f.StringVar(&o.otlpEndpoint, "otlp-endpoint", "", "send a span of every tool call to the OpenTelemetry collector at this address, such as http://127.0.0.1:4318 (OTLP/HTTP, /v1/traces is added)")
}

// logger is the server's log.
func (o *observeSettings) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return nil, badSetting("log-level is %q; use debug, info, warn or error", o.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch o.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(operator(os.Stderr), options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(operator(os.Stderr), options)), nil
	}
	return nil, badSetting("log-format is %q; use text or json", o.logFormat)
}

// metrics makes the counters when somebody can read them.
func (o *observeSettings) metrics() *tools.Metrics {
	if o.metricsListen == "" {
		return nil
	}
	return tools.NewMetrics(version())
}

// tracing gives spans a place to go when there is one; nothing is sent before
// the first call.
func (o *observeSettings) tracing(m *tools.Metrics, log *slog.Logger) (*tools.Spans, error) {
	if o.otlpEndpoint == "" {
		return nil, nil
	}
	var err error
	o.spans, err = tools.NewSpans(tools.SpanOptions{Endpoint: o.otlpEndpoint, Version: version(), Metrics: m, Log: log})
	return o.spans, err
}

// series is one number of the metrics.
type series struct {
	name, help string
	read       func() float64
	counts     bool // a counter, else a gauge
}

// serveMetrics answers on a listener of its own, so that what may be scraped
// from elsewhere is never the endpoint that runs commands. Its stop sends the
// spans that are left, too.
func (o *observeSettings) serveMetrics(m *tools.Metrics, manager *session.Manager, log *slog.Logger, more ...series) (stop func() error, err error) {
	if m == nil {
		return o.spans.Close, nil
	}
	m.Gauge("mcp_sandbox_sessions", "Live sessions.", func() float64 { n, _ := manager.Live(); return float64(n) })
	m.Gauge("mcp_sandbox_processes", "Running commands of all sessions.", func() float64 { _, n := manager.Live(); return float64(n) })
	counts := manager.Counts()
	for _, c := range []series{
		{"mcp_sandbox_audit_lost_total", "Audit records that no sink took.", func() float64 { return float64(manager.Auditor().Lost()) }, true},
		{"mcp_sandbox_checkpoints_failed_total", "Snapshots of sessions that the server could not take by itself.", func() float64 { return float64(counts.CheckpointsFailed.Load()) }, true},
		{"mcp_sandbox_sessions_suspended_total", "Sessions suspended for being idle.", func() float64 { return float64(counts.Suspended.Load()) }, true},
		{"mcp_sandbox_sessions_lost_total", "Sessions whose sandbox ended by itself.", func() float64 { return float64(counts.Lost.Load()) }, true},
		{"mcp_sandbox_sessions_fenced_total", "Sessions ended here because another server has them, or may.", func() float64 { return float64(counts.Fenced.Load()) }, true},
		{"process_cpu_seconds_total", "CPU time of the server, user and system.", cpuSeconds, true},
	} {
		m.Counter(c.name, c.help, c.read)
	}
	for _, c := range more {
		if c.counts {
			m.Counter(c.name, c.help, c.read)
		} else {
			m.Gauge(c.name, c.help, c.read)
		}
	}
	started := float64(time.Now().UnixMilli()) / 1000
	m.Gauge("process_start_time_seconds", "When the server started, in seconds of Unix time.", func() float64 { return started })
	m.Gauge("process_max_fds", "Most file descriptors the server may have open.", maxFDs)
	if _, err := os.Stat("/proc/self/fd"); err == nil {
		m.Gauge("process_open_fds", "Open file descriptors of the server.", openFDs)
		m.Gauge("process_resident_memory_bytes", "Resident memory of the server.", residentBytes)
		m.Gauge("process_virtual_memory_bytes", "Virtual memory of the server.", virtualBytes)
	}
	if _, _, err := net.SplitHostPort(o.metricsListen); err != nil {
		return nil, badSetting("metrics-listen is %q; write HOST:PORT such as 127.0.0.1:9464", o.metricsListen)
	}
	l, err := openListener(o.metricsListen)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", metricsGate(o.metricsListen, m))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	log.Info("metrics", "address", l.Addr().String())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := srv.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = srv.Close()
		}
		<-served
		return errors.Join(err, o.spans.Close())
	}, nil
}

// metricsGate keeps web pages from reading a loopback listener through a name of
// their own.
func metricsGate(addr string, next http.Handler) http.Handler {
	loopback := serve.LoopbackHost(addr)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" || loopback && !serve.LoopbackHost(r.Host) {
			http.Error(w, "not for web pages", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
