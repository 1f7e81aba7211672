package main

import (
	"context"
	"net"
	"net/netip"
	"net/url"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/serve"
)

// checkOAuth refuses settings that would be ignored, or let more people in than meant.
func (h *httpSettings) checkOAuth() error {
	o := h.oauth
	if o.Issuer == "" {
		return nil
	}
	if h.noAuth {
		return badSetting("no-auth and oauth-issuer say different things; keep one")
	}
	_, err := serve.NewOAuth(o)
	return err
}

// oauth is nil without an issuer.
func (s *settings) oauth(ctx context.Context) (*serve.OAuth, error) {
	o := s.http.oauth
	if o.Issuer == "" {
		return nil, nil
	}
	o.Log = s.session.Log
	a, err := serve.NewOAuth(o)
	if err != nil {
		return nil, err
	}
	return a, a.Check(ctx)
}

// mayShareIssuer is mayShare for the principals of an issuer, whose number nobody
// knows.
func (s *settings) mayShareIssuer(root string, signals bool) error {
	switch {
	case root != "":
		return badSetting("root is one directory, and everybody whom oauth-issuer admits would share it; leave --root out")
	case signals && s.session.Level != sandbox.LevelNone && !s.http.shareSignals:
		return sandbox.Errorf("confinement_unavailable", nil, "at the level landlock before Linux 6.12 commands of one principal can kill those of another, and the server, and oauth-issuer admits many; use Linux 6.12 or namespaces (see mcp-sandbox doctor), or accept it with --share-signals")
	}
	return nil
}

// hosts adds what the server is known to be called to those the gate answers for:
// the address that is listened on, and that of the OAuth resource.
func (h *httpSettings) hosts() []string {
	out := h.allowedHosts
	if host, _, err := net.SplitHostPort(h.listen); err == nil && host != "" {
		if a, err := netip.ParseAddr(host); err != nil || !a.IsUnspecified() {
			out = append(out[:len(out):len(out)], host)
		}
	}
	if h.oauth.Issuer != "" {
		for _, at := range []string{h.oauth.Resource, h.oauth.Audience} {
			if u, err := url.Parse(at); err == nil && u.Hostname() != "" {
				return append(out[:len(out):len(out)], u.Hostname())
			}
		}
	}
	return out
}
