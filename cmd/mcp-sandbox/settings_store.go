package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"mcp-sandbox/directory"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

// storeSettings are the flags of servers that share nothing but object storage.
type storeSettings struct {
	address, keyFile, peerURL, durable string
}

func registerStore(f *pflag.FlagSet, s *settings) {
	f.StringVar(&s.store.address, "store", "", "on a network: keep sessions and their snapshots in s3://BUCKET/PREFIX?endpoint=HOST&region=NAME, so that servers that share nothing else take over from each other; wants --key-file")
	f.StringVar(&s.store.keyFile, "key-file", "", "file of at least 32 random characters that signs sessions and their ids, the same at all servers of a store (default: one made in --state-dir)")
	f.StringVar(&s.store.peerURL, "peer-url", "", "with --store: where the other servers reach this one, http(s)://HOST:PORT (default: the address of --listen)")
	f.DurationVar(&s.session.LeaseTTL, "lease-ttl", 20*time.Second, "with --store: how long a server may be silent before others take over its sessions")
	f.StringVar(&s.store.durable, "durable", "park", "when the files of a kept session are stored: park (suspended, ended, or quiet for 15 s), interval=5s (that often), or call (before a call that may have changed some is answered)")
}

// shortestLease leaves time for a few requests to the store.
const shortestLease = time.Second

// loadStore checks what can be checked without reaching the store.
func (s *settings) loadStore() (err error) {
	o := &s.store
	if s.session.Durable, err = parseDurable(o.durable); err != nil {
		return err
	}
	if o.keyFile != "" {
		if s.session.Key, err = readKey(o.keyFile); err != nil {
			return err
		}
		s.session.Private = append(s.session.Private, o.keyFile)
	}
	if o.address == "" {
		return nil
	}
	if scheme, _, _ := strings.Cut(o.address, "://"); scheme != "s3" {
		return badSetting("store is %q; write s3://BUCKET/PREFIX", o.address)
	}
	if err := checkS3("store", o.address); err != nil {
		return err
	}
	switch {
	case s.session.SnapshotStore != "":
		return badSetting("store holds the snapshots too; leave snapshot-store out")
	case s.session.Root != "" || s.session.Manifest != nil && s.session.Manifest.Root != "":
		return badSetting("store is for workspaces that the server makes, and root is a directory of this machine; leave one out")
	case s.session.LeaseTTL < shortestLease:
		return badSetting("lease-ttl is %s; use at least %s", s.session.LeaseTTL, shortestLease)
	}
	return nil
}

// openStore reaches the store. What uses it is the servers of it, and the commands
// about sessions.
func (s *settings) openStore() (err error) {
	if s.store.address == "" {
		return nil
	}
	if s.session.Key == nil {
		return badSetting("store needs a key-file, the same at every server; make one with openssl rand -hex 32")
	}
	s.session.Directory, s.session.OpenStore, err = openSharedS3(s.store.address)
	return err
}

// checkStore keeps a server from a store that takes conditions and ignores them: two
// servers would run one session.
func (s *settings) checkStore(ctx context.Context) error {
	if s.session.Directory == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	switch err := directory.Check(ctx, s.session.Directory); {
	case errors.Is(err, directory.ErrUnfit):
		return badSetting("store cannot be shared by servers: %v; try it with: mcp-sandbox doctor --store", err)
	case err != nil:
		return sandbox.Errorf("internal", err, "the store cannot be reached; check --store, its credentials and the network to it")
	}
	return nil
}

// findPeerURL is where other servers reach this one.
func (s *settings) findPeerURL() error {
	if s.store.address == "" {
		return nil
	}
	scheme := "http"
	if s.http.tlsCert != "" {
		scheme = "https"
	}
	if given := s.store.peerURL; given != "" {
		u, err := url.Parse(given)
		if err != nil || u.Scheme != scheme || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
			return badSetting("peer-url is %q; write %s://HOST:PORT", given, scheme)
		}
		s.session.PeerURL = scheme + "://" + u.Host
		return nil
	}
	host, port, err := net.SplitHostPort(s.http.listen)
	if a, e := netip.ParseAddr(host); err != nil || host == "" || port == "0" || e == nil && a.IsUnspecified() {
		return badSetting("peer-url is missing: the other servers of the store cannot be told the address of %s; name it, such as %s://10.0.0.7:8765", s.http.listen, scheme)
	}
	s.session.PeerURL = scheme + "://" + net.JoinHostPort(host, port)
	return nil
}

func parseDurable(text string) (session.Durable, error) {
	every, isInterval := strings.CutPrefix(text, "interval=")
	switch {
	case text == "park":
		return session.Durable{}, nil
	case text == "call":
		return session.Durable{Call: true}, nil
	case isInterval:
		if d, err := time.ParseDuration(every); err == nil && d >= time.Second {
			return session.Durable{Interval: d}, nil
		}
	}
	return session.Durable{}, badSetting("durable is %q; use park, call, or interval=5s with 1s or more", text)
}

const (
	shortestKey = 32
	longestKey  = 4096
)

// readKey takes a file that nobody else can have written or read. A Kubernetes secret
// is a link to a file that its group may read.
func readKey(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, badSetting("key-file cannot be read (%v); check the path and its rights", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return nil, badSetting("key-file is not a regular file; name one")
	}
	if fi.Mode().Perm()&0o027 != 0 {
		return nil, badSetting("key-file is open to others (mode %04o); close it with: chmod 600", fi.Mode().Perm())
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return nil, badSetting("key-file belongs to another user; make it yours")
	}
	b, err := io.ReadAll(io.LimitReader(f, longestKey))
	if err != nil {
		return nil, badSetting("key-file cannot be read (%v); check the path and its rights", err)
	}
	if b = bytes.TrimSpace(b); len(b) < shortestKey {
		return nil, badSetting("key-file has %d characters; use at least %d random ones, such as from: openssl rand -hex 32", len(b), shortestKey)
	}
	return b, nil
}
