package serve

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"mcp-sandbox/sandbox"
	"mcp-sandbox/tools"
)

// OAuthOptions say whose access tokens admit a client.
type OAuthOptions struct {
	// Issuer is the authorization server's issuer identifier (RFC 8414, section 2),
	// as its tokens spell it: https, or http on loopback.
	Issuer string
	// Audience is what a token's aud claim must hold.
	Audience string
	// Resource is the address that clients know the endpoint by; "" is Audience.
	Resource string
	// Claim names the principal; "" is sub.
	Claim string
	// Scopes are NAME=WHAT, WHAT being all, read-only or names of toolsets, joined
	// by commas. With none, every token may use every tool.
	Scopes []string
	// Client reaches the issuer; nil is one with time-outs.
	Client *http.Client
	Log    *slog.Logger
}

// OAuth admits those who hold an access token of one issuer: a JWT (RFC 9068) for
// this server. It asks the issuer for nothing but its keys.
type OAuth struct {
	options OAuthOptions
	keys    *keySet
	scopes  []scope
	now     func() time.Time
}

// scope is a scope of the issuer and what it lets its holder do.
type scope struct {
	name   string
	grants tools.Grant
}

const (
	// clockSkew is how far the issuer's clock may be from ours.
	clockSkew = time.Minute
	// maxToken bounds what is parsed before anything is known of its sender.
	maxToken = 16 << 10
	// maxSubject bounds a principal's name (OpenID Connect Core 1.0, section 2: sub
	// has at most 255 characters).
	maxSubject = 255
	// subjectPrefix keeps an issuer's names apart from those of the token file,
	// which have no colon: whoever can choose a name there must not become somebody
	// here.
	subjectPrefix = "oauth:"
)

// signatures are the algorithms with a public key (RFC 7518, section 3.1): with a
// shared secret among them, a public key would pass as the secret (CVE-2015-9235).
var signatures = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// errIssuerAway means that a token could not be judged.
var errIssuerAway = errors.New("the issuer's keys are not available")

// NewOAuth checks the options. Code: invalid_argument.
func NewOAuth(o OAuthOptions) (*OAuth, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := checkIssuer(o.Issuer); err != nil {
		return nil, err
	}
	if o.Audience == "" {
		return nil, badOAuth("oauth-audience is missing; name what the issuer puts into the aud claim of tokens for this server, such as its URL")
	}
	if o.Resource == "" {
		o.Resource = o.Audience
	}
	if u, err := url.Parse(o.Resource); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, badOAuth("oauth-resource is %q; write the URL that clients use, such as https://sandbox.example.com/mcp", o.Resource)
	}
	if o.Claim == "" {
		o.Claim = "sub"
	}
	if strings.ContainsFunc(o.Claim, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }) {
		return nil, badOAuth("oauth-claim is %q; write the name of a claim that holds text, such as sub", o.Claim)
	}
	a := &OAuth{options: o, now: time.Now, keys: newKeySet(o)}
	for _, text := range o.Scopes {
		s, err := parseScope(text)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(a.scopes, func(other scope) bool { return other.name == s.name }) {
			return nil, badOAuth("oauth-scope names %q twice; write one entry for it", s.name)
		}
		a.scopes = append(a.scopes, s)
	}
	return a, nil
}

func badOAuth(format string, args ...any) error {
	return sandbox.Errorf("invalid_argument", nil, format, args...)
}

func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return badOAuth("oauth-issuer is %q; write the issuer's URL as its tokens have it, such as https://login.example.com", issuer)
	case u.Scheme == "http" && !LoopbackHost(u.Host):
		return badOAuth("oauth-issuer is %q, and over http anybody on the way could give out keys; use https", issuer)
	}
	return nil
}

// parseScope reads NAME=WHAT.
func parseScope(text string) (scope, error) {
	name, what, ok := strings.Cut(text, "=")
	// RFC 6749, section 3.3: what a scope can be made of.
	other := func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }
	if !ok || name == "" || strings.ContainsFunc(name, other) {
		return scope{}, badOAuth("oauth-scope is %q; write SCOPE=all, SCOPE=read-only or SCOPE=TOOLSET,TOOLSET", text)
	}
	g, err := tools.ParseGrant(what)
	if err != nil {
		return scope{}, err
	}
	return scope{name, g}, nil
}

// Check asks the issuer for its keys once. It does not fail when that is away, as
// a server must start without it, but when it calls itself otherwise. Code:
// invalid_argument.
func (a *OAuth) Check(ctx context.Context) error {
	_, err := a.keys.find(ctx, "")
	var named *issuerError
	if errors.As(err, &named) {
		return badOAuth("oauth-issuer is %q, and what is served there calls itself %q; write that", a.options.Issuer, named.got)
	}
	if err != nil {
		a.options.Log.Warn("the OAuth issuer is out of reach, its tokens are refused until it is back", "issuer", a.options.Issuer, "error", err)
	}
	return nil
}

// claims are those that decide; others are read by name.
type claims struct {
	jwt.Claims
	Scope any `json:"scope"` // RFC 8693, section 4.2: text; some issuers send a list
	SCP   any `json:"scp"`   // Microsoft's and Okta's name
}

// verify gives the principal of an access token. The error is errIssuerAway, or
// says what is wrong with the token.
func (a *OAuth) verify(ctx context.Context, token string) (principal, error) {
	if len(token) > maxToken {
		return principal{}, errors.New("the token is too long")
	}
	t, err := jwt.ParseSigned(token, signatures)
	if err != nil || len(t.Headers) != 1 {
		return principal{}, errors.New("the token is not a JWT with a signature that is accepted here")
	}
	head := t.Headers[0]
	// RFC 9068, section 4; others, such as logout tokens, are signed by the same key.
	if typ, _ := head.ExtraHeaders[jose.HeaderType].(string); typ != "" && !slices.Contains([]string{"jwt", "at+jwt", "application/at+jwt"}, strings.ToLower(typ)) {
		return principal{}, errors.New("the token is not an access token")
	}
	if head.ExtraHeaders["crit"] != nil {
		return principal{}, errors.New("the token needs an extension that is not known here")
	}
	keys, err := a.keys.find(ctx, head.KeyID)
	if err != nil {
		return principal{}, errIssuerAway
	}
	var c claims
	var all map[string]any
	if !verified(t, keys, head, &c, &all) {
		return principal{}, errors.New("the token has no valid signature of the issuer")
	}
	now := a.now()
	switch err := c.ValidateWithLeeway(jwt.Expected{Issuer: a.options.Issuer, AnyAudience: []string{a.options.Audience}, Time: now}, clockSkew); {
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return principal{}, errors.New("the token is of another issuer")
	case errors.Is(err, jwt.ErrInvalidAudience):
		return principal{}, errors.New("the token is for another audience")
	case errors.Is(err, jwt.ErrExpired):
		return principal{}, errors.New("the token has expired")
	case err != nil:
		return principal{}, errors.New("the token is not valid yet")
	case c.Expiry == nil:
		return principal{}, errors.New("the token has no time of expiry")
	}
	name, ok := all[a.options.Claim].(string)
	if !ok || !goodSubject(name) || a.options.Claim == "email" && all["email_verified"] == false {
		return principal{}, errors.New("the token names nobody in the claim " + a.options.Claim)
	}
	by := principal{name: subjectPrefix + name, valid: context.Background(), expires: c.Expiry.Time().Add(clockSkew)}
	if len(a.scopes) > 0 {
		by.scopes = a.known(append(scopesOf(c.Scope), scopesOf(c.SCP)...))
		by.grant = a.granted(by.scopes)
	}
	return by, nil
}

func verified(t *jwt.JSONWebToken, keys []jose.JSONWebKey, head jose.Header, out ...any) bool {
	for _, k := range keys {
		if k.Algorithm != "" && k.Algorithm != head.Algorithm {
			continue
		}
		if t.Claims(k.Key, out...) == nil {
			return true
		}
	}
	return false
}

// goodSubject refuses names that could pass as something else in a key or a log.
func goodSubject(s string) bool {
	return s != "" && len(s) <= maxSubject && utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}

func scopesOf(v any) (out []string) {
	switch v := v.(type) {
	case string:
		return strings.Fields(v)
	case []any:
		for _, one := range v {
			if s, ok := one.(string); ok {
				out = append(out, s)
			}
		}
	}
	return out
}

// known are the scopes that mean something here, in the order of the settings.
func (a *OAuth) known(held []string) (out []string) {
	for _, s := range a.scopes {
		if slices.Contains(held, s.name) {
			out = append(out, s.name)
		}
	}
	return out
}

// granted is what the scopes allow together, never nil.
func (a *OAuth) granted(held []string) tools.Grants {
	out := tools.Grants{}
	for _, s := range a.scopes {
		if slices.Contains(held, s.name) {
			out = append(out, s.grants)
		}
	}
	return out
}

// scopeNames are all that mean something here.
func (a *OAuth) scopeNames() (out []string) {
	for _, s := range a.scopes {
		out = append(out, s.name)
	}
	return out
}
