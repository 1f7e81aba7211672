package serve

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"mcp-sandbox/sandbox"
)

// gate decides who may speak to the server at all, before a byte of the body is
// read. The library checks the Host of loopback connections only, no Origin and
// no token, and its SSE handler answers every web page (mcp-go 1.2.1), so all of
// it is done here, before the library's handlers.
type gate struct {
	principals *Principals // nil, without oauth, admits everybody as anonymous
	oauth      *OAuth
	hosts      map[string]bool
	anyHost    bool
	origins    []string
	refuse     func(w http.ResponseWriter, r *http.Request, kind string, status int, text string)
}

// anonymous is the principal of a server without tokens.
const anonymous = "local"

func newGate(o Options, refuse func(w http.ResponseWriter, r *http.Request, kind string, status int, text string)) *gate {
	g := &gate{principals: o.Principals, oauth: o.OAuth, anyHost: o.AnyHost, refuse: refuse,
		hosts: map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true}}
	for _, h := range o.AllowedHosts {
		g.hosts[strings.ToLower(h)] = true
	}
	for _, origin := range o.AllowedOrigins {
		g.origins = append(g.origins, strings.ToLower(strings.TrimSuffix(origin, "/")))
	}
	return g
}

// checkHost refuses an allowed host that no Host header could carry. Code:
// invalid_argument.
func checkHost(h string) error {
	if h == "" || strings.ContainsAny(h, "/*@ ") || strings.Contains(h, "://") {
		return sandbox.Errorf("invalid_argument", nil, "http-host %q is not a host name or address; write it as in the URL, without scheme, port, path or *", h)
	}
	return nil
}

// checkOrigin refuses an allowed origin that no browser sends (RFC 6454, section
// 6.2). Code: invalid_argument.
func checkOrigin(o string) error {
	u, err := url.Parse(o)
	if err != nil || u.Scheme == "" || u.Host == "" || strings.TrimSuffix(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil || strings.Contains(o, "*") {
		return sandbox.Errorf("invalid_argument", nil, "http-origin %q is not an origin; write scheme://host:port, not * or null", o)
	}
	return nil
}

// hostAllowed guards against DNS rebinding (CVE-2025-66414, CVE-2026-34742): a
// page whose name was made to point here still sends its own name.
func (g *gate) hostAllowed(r *http.Request) bool {
	return g.anyHost || g.hosts[hostOnly(r.Host)]
}

// hostOnly is a Host header without its port and brackets.
func hostOnly(h string) string {
	h = strings.ToLower(h)
	if host, _, err := net.SplitHostPort(h); err == nil {
		h = host
	}
	h = strings.TrimSuffix(strings.TrimPrefix(h, "["), "]")
	if a, err := netip.ParseAddr(h); err == nil {
		return a.Unmap().String()
	}
	return strings.TrimSuffix(h, ".")
}

// LoopbackHost says whether a Host header, or the HOST:PORT of a listener, is
// this machine's loopback by name or address.
func LoopbackHost(h string) bool {
	h = hostOnly(h)
	a, err := netip.ParseAddr(h)
	return h == "localhost" || err == nil && a.IsLoopback()
}

// originAllowed: only a browser sends an Origin, and then it must be one that
// was named, or the server's own.
func (g *gate) originAllowed(r *http.Request) bool {
	all := r.Header.Values("Origin")
	switch {
	case len(all) == 0:
		return true
	case len(all) > 1:
		return false
	}
	origin := strings.ToLower(all[0])
	own := "http://"
	if r.TLS != nil {
		own = "https://"
	}
	return slices.Contains(g.origins, origin) || !g.anyHost && origin == own+strings.ToLower(r.Host)
}

// cross sets CORS headers for an allowed origin, never *, and answers its preflight.
// It reports whether the request was one.
func (g *gate) cross(w http.ResponseWriter, r *http.Request) (done bool) {
	origin := r.Header.Get("Origin")
	if origin == "" || !slices.Contains(g.origins, strings.ToLower(origin)) {
		return false
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Add("Vary", "Origin")
	h.Set("Access-Control-Expose-Headers", "Mcp-Session-Id, WWW-Authenticate")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Accept, Last-Event-ID, Mcp-Session-Id, Mcp-Protocol-Version, Mcp-Method, Mcp-Name")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// pass runs the checks in the order of their cost to an attacker: what comes
// from the wrong place is refused before a token is looked at. It answers what
// it refuses, and gives the principal.
func (g *gate) pass(w http.ResponseWriter, r *http.Request, open bool) (by principal, ok bool) {
	_, sent := sentOn(r)
	switch {
	case sent:
		// It carries the Host and Origin of the server where it came in, which has
		// looked at them.
	case !g.hostAllowed(r):
		g.refuse(w, r, "host", http.StatusForbidden, "Host header not allowed; use the server's address or start it with --http-host")
		return principal{}, false
	case !g.originAllowed(r):
		g.refuse(w, r, "origin", http.StatusForbidden, "the Origin header names a page that may not speak to this server; have --http-origin set")
		return principal{}, false
	case g.cross(w, r):
		return principal{}, false
	case open:
		return principal{}, true
	}
	by, refused, challenge := g.authorize(r)
	if refused != nil {
		if challenge != "" {
			w.Header().Set("WWW-Authenticate", challenge)
		}
		kind := "auth"
		if refused.status == http.StatusForbidden {
			kind = "scope"
		}
		g.refuse(w, r, kind, refused.status, refused.text)
		return principal{}, false
	}
	return by, true
}
