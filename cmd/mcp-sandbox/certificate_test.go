package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// makeCertificate writes a certificate for loopback that signs itself.
func makeCertificate(t *testing.T, name, cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTLS: calls over TLS and HTTP/2, plain HTTP refused, and a certificate that is
// replaced while the server runs.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	makeCertificate(t, "one", cert, key)
	n := startNetwork(t, nil, "--tls-cert", cert, "--tls-key", key, "--log-level", "info")
	addr := strings.TrimPrefix(n.url, "http://")
	client := func() *http.Client {
		pool := x509.NewCertPool()
		text, _ := os.ReadFile(cert)
		pool.AppendCertsFromPEM(text)
		return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	}
	call := func(c *http.Client) {
		t.Helper()
		r := n.client(annsToken)
		_, body, headers := r.message("session_open", nil)
		req := r.request(context.Background(), http.MethodPost, body, headers...)
		req.URL.Scheme = "https"
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		if resp.ProtoMajor != 2 || resp.StatusCode != 200 || !bytes.Contains(text, []byte("sandbox_id")) {
			t.Errorf("%s %s: %s", resp.Proto, resp.Status, text)
		}
	}
	c := client()
	call(c)
	c.CloseIdleConnections()
	if resp, err := http.Get("http://" + addr + "/healthz"); err == nil {
		resp.Body.Close()
		if resp.StatusCode == 200 {
			t.Error("plain HTTP is answered")
		}
	}
	if _, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is taken")
	}
	// A certificate that is wrong leaves the one in use.
	if err := os.WriteFile(cert, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.cmd.Process.Signal(syscall.SIGHUP)
	waitFor(t, "the refusal", func() bool { return strings.Contains(n.stderr.String(), "the certificate was not reloaded") })
	makeCertificate(t, "two", cert, key)
	n.cmd.Process.Signal(syscall.SIGHUP)
	waitFor(t, "the new certificate", func() bool { return strings.Contains(n.stderr.String(), "certificate reloaded") })
	c = client()
	call(c)
	c.CloseIdleConnections()

	for _, args := range [][]string{{"--tls-cert", cert}, {"--tls-key", key}, {"--tls-cert", key, "--tls-key", cert}} {
		out, err := exec.Command(binary, append([]string{"serve", "--transport", "http", "--listen", "127.0.0.1:0", "--state-dir", t.TempDir()}, args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "invalid_argument: tls-cert and tls-key") {
			t.Errorf("%v: %v %s", args, err, out)
		}
	}
}
