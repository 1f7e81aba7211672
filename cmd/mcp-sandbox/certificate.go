package main

import (
	"crypto/tls"
	"log/slog"
	"sync/atomic"
)

// certificate is the server's own, from two files that are read again on SIGHUP.
type certificate struct {
	cert, key string
	log       *slog.Logger
	now       atomic.Pointer[tls.Certificate]
}

// loadCertificate gives nil where no files are named. Code: invalid_argument.
func loadCertificate(cert, key string, log *slog.Logger) (*certificate, error) {
	if cert == "" && key == "" {
		return nil, nil
	}
	if cert == "" || key == "" {
		return nil, badSetting("tls-cert and tls-key go together; name both files, PEM encoded")
	}
	c := &certificate{cert: cert, key: key, log: log}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, badSetting("tls-cert and tls-key cannot be used (%v); name a certificate, with its chain, and its key, PEM encoded", err)
	}
	c.now.Store(&pair)
	return c, nil
}

// reload keeps the certificate that is in use where the new one is wrong: clients
// that know it lose nothing.
func (c *certificate) reload() {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		c.log.Error("the certificate was not reloaded, the one in use stays", "error", err)
		return
	}
	c.now.Store(&pair)
	c.log.Info("certificate reloaded")
}

// config is nil for a nil certificate.
func (c *certificate) config() *tls.Config {
	if c == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.now.Load(), nil },
	}
}
