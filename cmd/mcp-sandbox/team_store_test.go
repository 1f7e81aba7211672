package main

import (
	"cmp"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"mcp-sandbox/snapshot/storetest"
)

// TestTeamDoctor: the doctor says whether a store can be shared.
func TestTeamDoctor(t *testing.T) {
	tm := newTeam(t)
	h := newHost(t)
	h.binary = tm.program
	h.env = []string{"AWS_ACCESS_KEY_ID=the-key-id", "AWS_SECRET_ACCESS_KEY=the-secret-key"}
	if out, err := h.try("doctor", "--store", tm.store); err != nil || !strings.Contains(out, "conditional writes, reads after writes and listings hold") {
		t.Errorf("%v %s", err, out)
	}
	// So that a start which should fail, and does not, ends.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	start := []string{"serve", "--transport", "http", "--listen", taken.Addr().String(), "--token-file", tm.tokens, "--key-file", tm.key, "--store"}
	for _, ignored := range []string{"If-Match", "If-None-Match"} {
		if storetest.Engine() != nil {
			break // it signs the headers
		}
		careless := bucketBehind(t, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Del(ignored)
				next.ServeHTTP(w, r)
			})
		})
		if out, err := h.try("doctor", "--store", careless); err == nil || !strings.Contains(out, ignored) {
			t.Errorf("%v %s", err, out)
		}
		startsNot(t, h.command(append(slices.Clone(start), careless)...), exitUsage, ignored)
	}
	// One that takes no writes says nothing of their conditions.
	closed := bucketBehind(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	if out, err := h.try("doctor", "--store", closed); err == nil || !strings.Contains(out, "the store cannot be reached") || strings.Contains(out, "unfit") {
		t.Errorf("%v %s", err, out)
	}
	startsNot(t, h.command(append(slices.Clone(start), closed)...), exitFailure, "the store cannot be reached; check")
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	answers := func(status int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	}
	at := func(h http.Handler, secure bool) string {
		srv := httptest.NewUnstartedServer(h)
		srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes
		if secure {
			srv.StartTLS()
		} else {
			srv.Start()
		}
		t.Cleanup(srv.Close)
		return srv.Listener.Addr().String()
	}
	for _, tc := range []struct {
		store string
		code  int
		want  string
	}{
		{"bucket/x?insecure=1&endpoint=" + gone.Addr().String(), exitFailure, "the store cannot be reached; check the endpoint"},
		{"bucket/x?insecure=1&endpoint=" + at(answers(http.StatusForbidden), false), exitFailure, "denies access to the bucket; check the credentials"},
		{"bucket/x?insecure=1&endpoint=" + at(answers(http.StatusNotFound), false), exitFailure, "the bucket does not exist; make it"},
		{"bucket/x?insecure=1&endpoint=" + at(answers(http.StatusBadRequest), false), exitFailure, "does not serve the bucket under this address; check region="},
		{"bucket/x?insecure=1&endpoint=" + at(answers(http.StatusTeapot), false), exitFailure, "did not answer as an object store; check endpoint="},
		{"bucket/x?endpoint=" + at(answers(http.StatusOK), false), exitFailure, "speaks plain HTTP; add insecure=1"},
		{"bucket/x?endpoint=" + at(answers(http.StatusOK), true), exitFailure, "certificate is not trusted here; name"},
		{"B_/x?endpoint=" + gone.Addr().String(), exitUsage, "no bucket can have that name"},
	} {
		startsNot(t, h.command(append(slices.Clone(start), "s3://"+tc.store+"&path=1&region=us-east-1")...), tc.code, tc.want)
	}
	for _, args := range [][]string{
		{"--key-file", ""}, {"--root", t.TempDir()}, {"--snapshot-store", t.TempDir()}, {"--durable", "sometimes"}, {"--lease-ttl", "1ms"}, {"--listen", "0.0.0.0:0"}, {"--store", "/tmp"},
	} {
		all := append([]string{"serve", "--transport", "http", "--token-file", tm.tokens, "--store", tm.store, "--key-file", tm.key}, args...)
		if out, err := h.try(all...); err == nil || !strings.Contains(out, strings.TrimPrefix(cmp.Or(map[string]string{"--listen": "peer-url"}[args[0]], args[0]), "--")) {
			t.Errorf("%v: %v %s", args, err, out)
		}
	}
}
