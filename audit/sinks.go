package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// OpenSink opens the destination an operator named: an absolute or relative
// file, "stderr" or "-", or an http or https address that takes POSTs of JSON
// lines. sync makes the HTTP sink wait for each answer, so that a strict auditor
// can tell. Codes: invalid_argument, permission_denied.
func OpenSink(destination string, sync bool, log *slog.Logger) (Sink, error) {
	switch {
	case destination == "" || strings.ContainsRune(destination, 0):
		return nil, sandbox.Errorf("invalid_argument", nil, "the audit log has no name; give a file, stderr or an http address")
	case destination == "-" || destination == "stderr":
		return NewWriter(os.Stderr), nil
	case strings.HasPrefix(destination, "http://"), strings.HasPrefix(destination, "https://"):
		return NewHTTP(destination, HTTPOptions{Sync: sync, Log: log})
	}
	return OpenFile(destination, FileOptions{})
}

// Sinks writes each record to several sinks, all of them whatever fails.
type Sinks []Sink

func (ss Sinks) Write(ctx context.Context, line []byte) error {
	var errs []error
	for _, s := range ss {
		errs = append(errs, s.Write(ctx, line))
	}
	return errors.Join(errs...)
}

func (ss Sinks) Close() error {
	var errs []error
	for _, s := range ss {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// NewWriter writes records to a stream it does not close.
func NewWriter(w io.Writer) Sink { return &writerSink{w: w} }

type writerSink struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *writerSink) Write(_ context.Context, line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.w.Write(line)
	return err
}

func (s *writerSink) Close() error { return nil }

// FileOptions bound an audit file.
type FileOptions struct {
	// MaxBytes is the size at which a file is set aside, 64 MiB.
	MaxBytes int64
	// Keep is how many older ones are kept as NAME.1 (the newest) and up, 4.
	Keep int
}

// OpenFile appends records to a file of mode 0600, which several servers
// may share: each record is written whole under a lock, and whoever finds the
// file full sets it aside. A link or anything but a plain file under the name
// is refused. Codes: invalid_argument, permission_denied.
func OpenFile(path string, o FileOptions) (Sink, error) {
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 20
	}
	if o.Keep <= 0 {
		o.Keep = 4
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, sandbox.Errorf("invalid_argument", err, "the audit log %q cannot be made absolute; name it in full", path)
	}
	s := &fileSink{path: abs, options: o}
	if err := s.open(); err != nil {
		return nil, sandbox.Errorf("permission_denied", err, "the audit log %q cannot be opened; name a plain file in a directory this server may write", path)
	}
	return s, nil
}

type fileSink struct {
	path    string
	options FileOptions

	mu sync.Mutex
	f  *os.File
}

// open takes O_NONBLOCK so that a FIFO planted under the name cannot hang the
// server, and O_NOFOLLOW so that a link cannot send the log elsewhere (open(2)).
func (s *fileSink) open() error {
	fd, err := unix.Open(s.path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "open", Path: s.path, Err: err}
	}
	f := os.NewFile(uintptr(fd), s.path)
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a plain file", s.path)
	}
	if err == nil && fi.Mode().Perm()&0o077 != 0 {
		err = f.Chmod(0o600)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.f = f
	return nil
}

func (s *fileSink) Write(_ context.Context, line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Another server may set the file aside between our open and our lock, as may
	// an operator's logrotate: then the name leads to a new one.
	for range 1000 {
		if s.f == nil {
			if err := s.open(); err != nil {
				return err
			}
		}
		if err := unix.Flock(int(s.f.Fd()), unix.LOCK_EX); err != nil {
			return err
		}
		done, err := s.append(line)
		if s.f != nil {
			_ = unix.Flock(int(s.f.Fd()), unix.LOCK_UN)
		}
		if done || err != nil {
			return err
		}
		_ = s.f.Close()
		s.f = nil
	}
	return fmt.Errorf("the audit log is being replaced over and over")
}

// append writes under the lock, or reports that the file has to be opened again.
func (s *fileSink) append(line []byte) (done bool, err error) {
	fi, err := s.f.Stat()
	if err != nil {
		return false, err
	}
	if now, err := os.Lstat(s.path); err != nil || !os.SameFile(fi, now) {
		return false, nil
	}
	if fi.Size() > 0 && fi.Size()+int64(len(line)) > s.options.MaxBytes {
		return false, s.rotate()
	}
	n, err := s.f.Write(line)
	if err != nil && n > 0 {
		// Half a line would spoil the next record too.
		err = errors.Join(err, s.f.Truncate(fi.Size()))
	}
	return true, err
}

// rotate goes from the oldest to the newest, so that a crash in between loses at
// most the oldest and never the order.
func (s *fileSink) rotate() error {
	for i := s.options.Keep; i > 0; i-- {
		from := s.path
		if i > 1 {
			from += "." + strconv.Itoa(i-1)
		}
		if err := os.Rename(from, s.path+"."+strconv.Itoa(i)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

func (s *fileSink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	return err
}

// HTTPOptions bound an HTTP sink.
type HTTPOptions struct {
	// Sync posts each record before Write returns. Otherwise records wait in a
	// queue of Queue (4096), which refuses more when it is full.
	Sync  bool
	Queue int
	// Timeout bounds one POST, 5 s. Attempts is how often one is tried, 3.
	Timeout  time.Duration
	Attempts int
	// Pause lies before the second attempt and doubles, 200 ms.
	Pause time.Duration
	// Circuit is how long a Sync sink refuses at once after a failure, 5 s.
	Circuit time.Duration
	Client  *http.Client
	Log     *slog.Logger
}

// NewHTTP posts records as application/x-ndjson, several in one body when
// they come fast. A password in the address becomes basic authentication.
// Redirects are not followed: records go to the named host or nowhere.
// Code: invalid_argument.
func NewHTTP(address string, o HTTPOptions) (Sink, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		// Not quoted: it may hold a password.
		return nil, sandbox.Errorf("invalid_argument", nil, "the audit log's address is not a whole http or https address; write https://host/path")
	}
	if o.Queue <= 0 {
		o.Queue = 4096
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Attempts <= 0 {
		o.Attempts = 3
	}
	if o.Pause <= 0 {
		o.Pause = 200 * time.Millisecond
	}
	if o.Circuit <= 0 {
		o.Circuit = circuitPause
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	client := http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	if o.Client != nil {
		client = *o.Client
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s := &httpSink{url: u, options: o, client: &client, stop: make(chan struct{}), stopped: make(chan struct{})}
	if o.Sync {
		close(s.stopped)
		return s, nil
	}
	s.queue = make(chan []byte, o.Queue)
	go s.deliver()
	return s, nil
}

type httpSink struct {
	url     *url.URL
	options HTTPOptions
	client  *http.Client
	queue   chan []byte

	closing sync.Once
	stop    chan struct{}
	stopped chan struct{}
	failed  bool // the deliverer's alone

	// After a failure a synchronous sink refuses at once until tryAt, and asks the
	// collector once then: a strict auditor would else hold every call up for as
	// long as a dead collector takes to fail three times.
	circuit sync.Mutex
	open    bool
	tryAt   time.Time
}

// circuitPause is how long a collector that failed is not asked again.
const circuitPause = 5 * time.Second

// httpBatch bounds one POST, in bytes.
const httpBatch = 1 << 20

func (s *httpSink) Write(ctx context.Context, line []byte) error {
	select {
	case <-s.stop:
		return os.ErrClosed
	default:
	}
	if s.options.Sync {
		return s.guarded(ctx, line)
	}
	select {
	case s.queue <- bytes.Clone(line):
		return nil
	default:
		return fmt.Errorf("%d audit records wait for the collector, no more are taken", cap(s.queue))
	}
}

// guarded posts one record unless the collector has just failed.
func (s *httpSink) guarded(ctx context.Context, line []byte) error {
	s.circuit.Lock()
	defer s.circuit.Unlock() // records go in order, one at a time
	attempts := s.options.Attempts
	if s.open {
		if wait := time.Until(s.tryAt); wait > 0 {
			return fmt.Errorf("the collector failed and is asked again in %s", wait.Round(time.Second))
		}
		attempts = 1
	}
	err := s.postTimes(ctx, line, attempts)
	if s.open = err != nil && ctx.Err() == nil; s.open {
		s.tryAt = time.Now().Add(s.options.Circuit)
	}
	return err
}

func (s *httpSink) deliver() {
	defer close(s.stopped)
	for {
		select {
		case line := <-s.queue:
			s.flush(line)
		case <-s.stop:
			for {
				select {
				case line := <-s.queue:
					s.flush(line)
				default:
					return
				}
			}
		}
	}
}

// flush takes what else waits into the same body.
func (s *httpSink) flush(body []byte) {
	n := 1
	for more := true; more && len(body) < httpBatch; {
		select {
		case line := <-s.queue:
			body = append(body, line...)
			n++
		default:
			more = false
		}
	}
	if err := s.post(context.Background(), body); err != nil {
		if !s.failed {
			s.options.Log.Error("audit records could not be sent", "error", err, "records", n)
		}
		s.failed = true
		return
	}
	s.failed = false
}

func (s *httpSink) post(ctx context.Context, body []byte) error {
	return s.postTimes(ctx, body, s.options.Attempts)
}

func (s *httpSink) postTimes(ctx context.Context, body []byte, attempts int) (err error) {
	pause := s.options.Pause
	for i := range attempts {
		if i > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return err
			case <-s.stop:
				// The server ends: one quick last try instead of the long wait.
			}
			pause *= 2
		}
		var again bool
		if again, err = s.postOnce(ctx, body); err == nil || !again {
			return err
		}
	}
	return err
}

func (s *httpSink) postOnce(ctx context.Context, body []byte) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url.String(), bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("User-Agent", "mcp-sandbox")
	resp, err := s.client.Do(req)
	if err != nil {
		// Without its wrapper, which holds the address and with it perhaps a key.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return true, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		return false, nil
	}
	again = resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests
	return again, fmt.Errorf("the collector answered %s", resp.Status)
}

// Close waits for the queue, at most two time limits long.
func (s *httpSink) Close() error {
	s.closing.Do(func() { close(s.stop) })
	t := time.NewTimer(2 * s.options.Timeout)
	defer t.Stop()
	select {
	case <-s.stopped:
	case <-t.C:
		return fmt.Errorf("%d audit records were not sent before the end", len(s.queue))
	}
	s.client.CloseIdleConnections()
	return nil
}
