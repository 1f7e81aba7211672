package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"mcp-sandbox/confine"
	"mcp-sandbox/library"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/serve"
	"mcp-sandbox/session"
)

// httpSettings are the flags of a network server.
type httpSettings struct {
	listen         string
	tokenFile      string
	noAuth         bool
	allowedHosts   []string
	allowedOrigins []string
	maxConns       int
	defaultSandbox string
	shareSignals   bool
	tlsCert        string
	tlsKey         string
	oauth          serve.OAuthOptions
}

func registerHTTP(f *pflag.FlagSet, s *settings) {
	h := &s.http
	f.StringVar(&s.transport, "transport", "stdio", "stdio, http (streamable HTTP) or sse (protocol 2024-11-05)")
	f.StringVar(&h.listen, "listen", "127.0.0.1:8765", "with a network transport: HOST:PORT, unix:/PATH, or systemd: for an inherited socket")
	f.StringVar(&h.tokenFile, "token-file", "", "bearer tokens, a NAME:TOKEN a line, mode 0600 (default: one made in --state-dir, for loopback)")
	f.StringVar(&h.oauth.Issuer, "oauth-issuer", "", "admit access tokens (JWT) of the OAuth 2.1 authorization server with this issuer URL, in addition to --token-file")
	f.StringVar(&h.oauth.Audience, "oauth-audience", "", "what the aud claim of an access token must hold")
	f.StringVar(&h.oauth.Resource, "oauth-resource", "", "URL that clients know the endpoint by (default: --oauth-audience)")
	f.StringVar(&h.oauth.Claim, "oauth-claim", "sub", "claim that names the principal; users must not be able to choose it")
	f.StringArrayVar(&h.oauth.Scopes, "oauth-scope", nil, "SCOPE=WHAT: what a scope allows: all, read-only, or names of toolsets, joined by commas (default: every token allows all)")
	f.StringVar(&h.tlsCert, "tls-cert", "", "speak TLS, with HTTP/2: PEM file of the certificate and its chain, reloaded on SIGHUP")
	f.StringVar(&h.tlsKey, "tls-key", "", "PEM file of the certificate's key")
	f.BoolVar(&h.noAuth, "no-auth", false, "serve loopback without a token: every program of this machine can then run commands here")
	f.StringSliceVar(&h.allowedHosts, "http-host", nil, "additional Host header to accept, without port")
	f.StringSliceVar(&h.allowedOrigins, "http-origin", nil, "web page (scheme://host:port) that may speak to the server")
	f.IntVar(&h.maxConns, "max-connections", 1024, "open connections at once")
	f.StringVar(&h.defaultSandbox, "default-sandbox", "on", "on a network: on gives a principal one sandbox for all calls that name none; off gives each MCP session its own, and refuses calls that have neither")
	f.BoolVar(&h.shareSignals, "share-signals", false, "on a network: serve several principals also where their commands can signal each other and the server (level landlock before Linux 6.12)")
	f.IntVar(&s.session.MaxSessions, "max-sessions", 64, "sessions at once, in all")
	f.IntVar(&s.session.MaxPerPrincipal, "max-sessions-per-principal", 16, "sessions at once of one principal, on a network")
	f.IntVar(&s.session.MaxKept, "max-kept-per-principal", 100, "sandboxes kept for one principal, idle ones included, on a network")
	f.DurationVar(&s.session.Idle, "session-idle", 30*time.Minute, "network transports: suspend a session idle for this long; its files stay and its next call resumes it (0: never)")
	f.DurationVar(&s.session.MaxAge, "session-max-age", 7*24*time.Hour, "on a network: delete a session that old, with its files (0: never)")
	f.Var((*size)(&s.session.WorkspaceLimit), "limit-workspace", "size limit of a temporary workspace, or of what --staged holds; exceeding it kills the session's processes")
}

func (s *settings) remote() bool { return s.transport != "stdio" }

// loadHTTP checks what concerns the network alone.
func (s *settings) loadHTTP() error {
	switch s.transport {
	case "stdio":
		// One client, whose session ends with it.
		s.session.Idle, s.session.MaxAge, s.session.MaxPerPrincipal, s.session.MaxKept = 0, 0, 0, 0
		return nil
	case "http", "sse":
	default:
		return badSetting("transport is %q; use stdio, http or sse", s.transport)
	}
	h := &s.http
	for name, v := range map[string]int64{"max-sessions": int64(s.session.MaxSessions), "max-sessions-per-principal": int64(s.session.MaxPerPrincipal), "max-kept-per-principal": int64(s.session.MaxKept), "max-connections": int64(h.maxConns), "session-idle": int64(s.session.Idle) + 1, "session-max-age": int64(s.session.MaxAge) + 1} {
		if v < 1 {
			return badSetting("%s is too small; use a positive number", name)
		}
	}
	if h.defaultSandbox != "on" && h.defaultSandbox != "off" {
		return badSetting("default-sandbox is %q; use on or off", h.defaultSandbox)
	}
	s.tools.DefaultSandbox = h.defaultSandbox == "on"
	if s.session.Name != "" {
		return badSetting("session is for a stdio server; leave it out, as a network server has one session for each client")
	}
	s.tools.Remote = true
	// A stream's own session ends with it, so it is not kept; nor is the one of exec, which
	// may read a server's file of settings.
	if s.serving && (s.transport == "http" || s.tools.DefaultSandbox) {
		s.session.NameOf = keptName
	}
	s.session.CloseWithin = 5 * time.Second
	local, err := h.local()
	if err != nil {
		return err
	}
	if err := h.checkOAuth(); err != nil {
		return err
	}
	switch {
	case h.noAuth && h.tokenFile != "":
		return badSetting("no-auth and token-file say different things; keep one")
	case h.noAuth && (!local || s.transport == "sse"):
		return badSetting("no-auth is for --transport http on loopback alone; make a token file and name it with --token-file")
	case h.tokenFile == "" && h.oauth.Issuer == "" && !local:
		return badSetting("listen is %s, which other machines may reach, and there is no token; name a file with --token-file, or listen on 127.0.0.1", h.listen)
	}
	if h.tlsKey != "" {
		s.session.Private = append(s.session.Private, h.tlsKey)
	}
	if h.tokenFile != "" {
		s.session.Private = append(s.session.Private, h.tokenFile)
	}
	return nil
}

// local says whether only this machine can connect. A name is not trusted to
// stay on loopback.
func (h *httpSettings) local() (bool, error) {
	if strings.HasPrefix(h.listen, "unix:") {
		return true, nil
	}
	if h.listen == "systemd:" {
		return false, nil // whatever the unit says
	}
	host, port, err := net.SplitHostPort(h.listen)
	if err != nil || port == "" {
		return false, badSetting("listen is %q; write HOST:PORT such as 127.0.0.1:8765, or unix:/PATH", h.listen)
	}
	if host == "localhost" {
		return true, nil
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback(), nil
}

// serveHTTP serves many clients until ctx is done.
func serveHTTP(ctx context.Context, s *settings) (err error) {
	// From the first moment on: what came before there was something to reload is
	// dropped.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	if err := s.checkLimits(); err != nil {
		return err
	}
	if err := s.findPeerURL(); err != nil {
		return err
	}
	if err := s.openStore(); err != nil {
		return err
	}
	if err := s.checkStore(ctx); err != nil {
		return err
	}
	limits := principalLimits{general: s}
	s.session.LimitsOf = limits.of
	box, err := library.New(ctx, library.Options{Session: s.session, Tools: s.tools, Gateway: s.gateway})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.Close()) }()
	m, srv := box.Manager(), box.Tools()
	principals, err := s.principals(m.Config().StateDir)
	if err != nil {
		return err
	}
	oauth, err := s.oauth(ctx)
	if err != nil {
		return err
	}
	cert, err := loadCertificate(s.http.tlsCert, s.http.tlsKey, s.session.Log)
	if err != nil {
		return err
	}
	ready := &readiness{}
	h, err := serve.NewHTTP(srv, serve.Options{
		Transport: s.transport, Principals: principals, OAuth: oauth, AllowedHosts: s.http.hosts(), AnyHost: strings.HasPrefix(s.http.listen, "unix:"),
		AllowedOrigins: s.http.allowedOrigins, MaxConns: s.http.maxConns, TLS: cert.config(), Ready: func() error { return ready.get(m) }, Log: s.session.Log,
	})
	if err != nil {
		return err
	}
	l, err := openListener(s.http.listen)
	if err != nil {
		return err
	}
	defer l.Close() // of a start that fails below
	// The trial is a session, with its warnings: wrong settings are found before it.
	ready.try(ctx, m, s.session)
	if oauth != nil {
		if err := s.mayShareIssuer(m.Config().Root, confine.SharesSignals(ready.level)); err != nil {
			return err
		}
	}
	if err := principals.Restrict(func(f serve.TokenFile) error {
		if err := limits.read(f.Settings); err != nil {
			return err
		}
		return s.mayShare(f.Names, m.Config().Root, confine.SharesSignals(ready.level))
	}); err != nil {
		return err
	}
	var reloads []func()
	if principals != nil {
		reloads = append(reloads, principals.Reload)
	}
	if cert != nil {
		reloads = append(reloads, cert.reload)
	}
	ctx, stop := s.reloadOnSIGHUP(ctx, reloads...)
	defer stop()
	stopMetrics, err := s.observe.serveMetrics(s.tools.Metrics, m, s.session.Log, append(gatewaySeries(s.gateway),
		series{"mcp_sandbox_http_connections", "Open connections of clients.", func() float64 { return float64(h.Connections()) }, false})...)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	stopAdmin := serveAdmin(m, s)
	up, down := supervised()
	fmt.Fprintf(operator(os.Stderr), "mcp-sandbox serves %s on %s\n", s.transport, s.http.address(l.Addr(), s.transport, cert != nil))
	s.tellTokens(m.Config().StateDir)
	s.tellFiles()
	up()
	err = h.Serve(ctx, l)
	down()
	return errors.Join(err, stopMetrics(), stopAdmin())
}

// mayShare refuses principals who would share what is meant to be each one's own.
func (s *settings) mayShare(names []string, root string, signals bool) error {
	switch {
	case len(names) < 2:
		return nil
	case root != "":
		return badSetting("root is one directory, and the token file has %d principals who would share it; leave --root out or serve each from a server of its own", len(names))
	case signals && s.session.Level != sandbox.LevelNone && !s.http.shareSignals:
		return sandbox.Errorf("confinement_unavailable", nil, "the token file has %d principals, and at the level landlock before Linux 6.12 commands of one can kill those of another, and the server; use Linux 6.12 or namespaces (see mcp-sandbox doctor), serve each from a server with a uid of its own, or accept it with --share-signals", len(names))
	}
	return nil
}

// principals are those of the token file, of one made for this machine, or
// nobody in particular.
func (s *settings) principals(stateDir string) (*serve.Principals, error) {
	h := &s.http
	path := h.tokenFile
	switch {
	case h.noAuth:
		return nil, nil
	case path != "":
	case h.oauth.Issuer != "":
		return nil, nil // the issuer's tokens are enough
	case strings.HasPrefix(h.listen, "unix:"):
		return nil, nil // the socket lets only its owner in
	default:
		path = filepath.Join(stateDir, madeToken)
		if err := makeToken(path); err != nil {
			return nil, err
		}
	}
	return serve.LoadPrincipals(path, s.session.Log)
}

// madeToken is the token file of a server that is given none, in its state directory.
const madeToken = "http-token"

// tellTokens says what a client has to send, once the server listens.
func (s *settings) tellTokens(stateDir string) {
	h := &s.http
	switch {
	case h.noAuth:
		fmt.Fprintln(os.Stderr, "mcp-sandbox: no token is asked for, so every program and user of this machine can run commands here")
	case h.tokenFile == "" && h.oauth.Issuer == "" && !strings.HasPrefix(h.listen, "unix:"):
		fmt.Fprintf(operator(os.Stderr), "mcp-sandbox: clients need the token in %s (after \"local:\"), sent as: Authorization: Bearer TOKEN\n", filepath.Join(stateDir, madeToken))
	}
}

// filesOfSession is how many files a server has open for each session, its client's
// connection included.
const filesOfSession = 10

// tellFiles warns of a limit of open files that is reached before --max-sessions.
func (s *settings) tellFiles() {
	have, want := maxFDs(), float64(100+filesOfSession*s.session.MaxSessions)
	if s.remote() && have > 0 && have < want {
		fmt.Fprintf(os.Stderr, "mcp-sandbox: the server may open %.0f files, and --max-sessions %d takes %.0f; raise the limit (ulimit -n, or LimitNOFILE= of a unit) or lower --max-sessions\n", have, s.session.MaxSessions, want)
	}
}

// address is the URL to give to a client, or the path of a socket. A server that
// listens on all addresses is reached by its first --http-host.
func (h *httpSettings) address(a net.Addr, transport string, tls bool) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "HOST"
		if len(h.allowedHosts) > 0 {
			host = h.allowedHosts[0]
		}
	}
	scheme, path := "http", "/mcp"
	if tls {
		scheme = "https"
	}
	if transport == "sse" {
		path = "/sse"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + path
}

// makeToken writes a token file with one random token unless there is one. The
// state directory is closed to others and hidden from commands.
func makeToken(path string) error {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if os.IsExist(err) {
		return nil
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "local:%s\n", hex.EncodeToString(b[:]))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return badSetting("no token could be made in the state directory (%v); name a file with --token-file", err)
	}
	return nil
}

// readiness says whether a sandbox is available here: it is tried once before the
// first client, so that a server which could only refuse is never given any. The
// trial is a session like others, so a server killed in it leaves nothing that
// the next one does not remove.
type readiness struct {
	failed error
	level  sandbox.Level // of the trial, "" when it failed
}

func (r *readiness) get(m *session.Manager) error {
	if r.failed == nil && !m.Ready() {
		return errStoreAway
	}
	if r.failed != nil {
		return errNoSandbox
	}
	return nil
}

// What /readyz tells to anybody, so without the cause.
var (
	errNoSandbox = errors.New("no sandbox available; see the server log")
	// errStoreAway is for a server that ends what it holds, see session.Manager.Ready.
	errStoreAway = errors.New("the store cannot be reached; see the server log")
)

// trialKey belongs to no client: their keys are made by session.Key.
const trialKey = "trial"

func (r *readiness) try(ctx context.Context, m *session.Manager, c session.Config) {
	sess, err := m.Get(ctx, trialKey)
	if err == nil {
		r.level = sess.Sandbox().Report().Level
	}
	if r.failed = errors.Join(err, m.Delete(trialKey)); r.failed != nil && ctx.Err() == nil {
		c.Log.Error("no sandbox available, calls will fail", "error", r.failed)
	}
}

// keptName names every client's session, so that it is kept, and not the trial.
func keptName(key string) string {
	if key == trialKey {
		return ""
	}
	return session.KeptName(key)
}
