package serve

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"mcp-sandbox/sandbox"
)

// fakeIssuer is an authorization server as far as a resource server sees one. The
// clients' suite has a real one.
type fakeIssuer struct {
	*httptest.Server
	asked atomic.Int32

	mu    sync.Mutex
	keys  []jose.JSONWebKey
	away  bool
	named string
}

const testAudience = "https://sandbox.example.com/mcp"

func newIssuer(t *testing.T, keys ...jose.JSONWebKey) *fakeIssuer {
	t.Helper()
	i := &fakeIssuer{keys: keys}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		switch {
		case i.away:
			w.WriteHeader(http.StatusBadGateway)
		case r.URL.Path == "/.well-known/oauth-authorization-server": // not OpenID's
			name := i.URL
			if i.named != "" {
				name = i.named
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": name, "jwks_uri": i.URL + "/keys"})
		case r.URL.Path == "/keys":
			i.asked.Add(1)
			set := []any{map[string]string{"kty": "strange"}, map[string]string{"kty": "oct", "k": "c2VjcmV0", "kid": "secret"}}
			for _, k := range i.keys {
				set = append(set, k)
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"keys": set})
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *fakeIssuer) set(f func()) { i.mu.Lock(); defer i.mu.Unlock(); f() }

func (i *fakeIssuer) oauth(t *testing.T, o OAuthOptions) *OAuth {
	t.Helper()
	o.Issuer, o.Audience = i.URL, testAudience
	a, err := NewOAuth(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// token signs the usual claims with some changed; nil takes one away.
func (i *fakeIssuer) token(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string, change map[string]any, head ...any) string {
	t.Helper()
	now := time.Now()
	c := map[string]any{"iss": i.URL, "aud": []string{"other", testAudience}, "sub": "ann", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	o := (&jose.SignerOptions{}).WithType("at+jwt")
	if kid != "" {
		o = o.WithHeader("kid", kid)
	}
	for n := 0; n+1 < len(head); n += 2 {
		o = o.WithHeader(jose.HeaderKey(head[n].(string)), head[n+1])
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(c)
	signed, err := s.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	out, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func public(k crypto.Signer, kid, alg string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.Public(), KeyID: kid, Algorithm: alg, Use: "sig"}
}

// TestAccessTokens: what is admitted, as whom, and what is not, by which words.
func TestAccessTokens(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	r, weak, foreign := rsaKey(t, 2048), rsaKey(t, 1024), rsaKey(t, 2048)
	e, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	enc := public(foreign, "enc", "")
	enc.Use = "enc"
	i := newIssuer(t, public(r, "r", "RS256"), public(e, "e", ""), public(ed, "ed", "EdDSA"), public(weak, "weak", ""), enc)
	a := i.oauth(t, OAuthOptions{})
	spki, _ := x509.MarshalPKIXPublicKey(r.Public())
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	good := i.token(t, jose.RS256, r, "r", nil)
	part := strings.Split(good, ".")
	raw := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	rs := func(change map[string]any, head ...any) string {
		return i.token(t, jose.RS256, r, "r", change, head...)
	}
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	mine := jose.JSONWebKey{Key: foreign.Public(), KeyID: "r"}

	for _, c := range []struct{ what, token, want string }{
		{"RS256", good, "oauth:ann"},
		{"ES256", i.token(t, jose.ES256, e, "e", nil), "oauth:ann"},
		{"EdDSA", i.token(t, jose.EdDSA, ed, "ed", nil), "oauth:ann"},
		{"no kid", i.token(t, jose.ES256, e, "", nil), "oauth:ann"},
		{"type JWT", rs(nil, "typ", "JWT"), "oauth:ann"},
		{"one audience as text", rs(map[string]any{"aud": testAudience}), "oauth:ann"},
		{"a name with a bar", rs(map[string]any{"sub": "auth0|5f7c"}), "oauth:auth0|5f7c"},
		{"expired half a minute ago", rs(map[string]any{"exp": at(-30 * time.Second)}), "oauth:ann"},
		{"issued half a minute from now", rs(map[string]any{"iat": at(30 * time.Second), "nbf": at(30 * time.Second)}), "oauth:ann"},

		{"expired two minutes ago", rs(map[string]any{"exp": at(-2 * time.Minute)}), "has expired"},
		{"no expiry", rs(map[string]any{"exp": nil}), "no time of expiry"},
		{"expiry as text", rs(map[string]any{"exp": "never"}), "no valid signature"},
		{"not before two minutes from now", rs(map[string]any{"nbf": at(2 * time.Minute)}), "not valid yet"},
		{"issued two minutes from now", rs(map[string]any{"iat": at(2 * time.Minute)}), "not valid yet"},
		{"another audience", rs(map[string]any{"aud": "https://other.example"}), "another audience"},
		{"an audience that begins alike", rs(map[string]any{"aud": testAudience + "2"}), "another audience"},
		{"no audience", rs(map[string]any{"aud": nil}), "another audience"},
		{"another issuer", rs(map[string]any{"iss": "https://evil.example"}), "another issuer"},
		{"the issuer with a slash", rs(map[string]any{"iss": i.URL + "/"}), "another issuer"},
		{"no issuer", rs(map[string]any{"iss": nil}), "another issuer"},
		{"no subject", rs(map[string]any{"sub": nil}), "names nobody"},
		{"an empty subject", rs(map[string]any{"sub": ""}), "names nobody"},
		{"a subject that is not text", rs(map[string]any{"sub": 7}), "no valid signature"},
		{"a subject with a zero byte", rs(map[string]any{"sub": "ann\x00mcp:x"}), "names nobody"},
		{"a subject with a line break", rs(map[string]any{"sub": "ann\nroot"}), "names nobody"},
		{"a subject of 256 characters", rs(map[string]any{"sub": strings.Repeat("a", 256)}), "names nobody"},
		{"a logout token", rs(nil, "typ", "logout+jwt"), "not an access token"},
		{"alg none", raw(`{"alg":"none","typ":"at+jwt"}`) + "." + part[1] + ".", "not a JWT"},
		{"alg NONE", raw(`{"alg":"NONE"}`) + "." + part[1] + "." + part[2], "not a JWT"},
		{"HS256 with the public key as PEM", i.token(t, jose.HS256, asPEM, "r", nil), "not a JWT"},
		{"HS256 with the public key as DER", i.token(t, jose.HS256, spki, "r", nil), "not a JWT"},
		{"HS256 with a secret of the key set", i.token(t, jose.HS256, []byte("secret-secret-secret-secret-1234"), "secret", nil), "not a JWT"},
		{"RS512 with the key for RS256", i.token(t, jose.RS512, r, "r", nil), "no valid signature"},
		{"a key of another", i.token(t, jose.RS256, foreign, "r", nil), "no valid signature"},
		{"a key for encryption", i.token(t, jose.RS256, foreign, "enc", nil), "no valid signature"},
		{"a key of 1024 bits", i.token(t, jose.RS256, weak, "weak", nil), "no valid signature"},
		{"a key in the header", i.token(t, jose.RS256, foreign, "r", nil, "jwk", mine), "no valid signature"},
		{"an address of keys in the header", i.token(t, jose.RS256, foreign, "x", nil, "jku", "https://evil.example/keys"), "no valid signature"},
		{"a kid that is a path", i.token(t, jose.RS256, foreign, "../../dev/null", nil), "no valid signature"},
		{"an extension that must be understood", i.token(t, jose.RS256, r, "r", nil, "crit", []string{"b64"}, "b64", false), "an extension"},
		{"claims changed", part[0] + "." + raw(`{"sub":"root"}`) + "." + part[2], "no valid signature"},
		{"no signature", part[0] + "." + part[1] + ".", ""},
		{"an encrypted token", good + ".x.y", "not a JWT"},
		{"a longer token", rs(map[string]any{"pad": strings.Repeat("a", maxToken)}), "too long"},
		{"no token", "a.b.c", "not a JWT"},
	} {
		by, err := a.verify(context.Background(), c.token)
		switch admitted := strings.HasPrefix(c.want, subjectPrefix); {
		case admitted && (err != nil || by.name != c.want):
			t.Errorf("%s: %q, %v", c.what, by.name, err)
		case !admitted && (err == nil || errors.Is(err, errIssuerAway) || by.name != "" || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %q, %v; want %q", c.what, by.name, err, c.want)
		}
	}
	if n := i.asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times", n)
	}
	mail := i.oauth(t, OAuthOptions{Claim: "email"})
	for claims, want := range map[string]string{`{"email":"a@b.c"}`: "oauth:a@b.c", `{"email":"a@b.c","email_verified":true}`: "oauth:a@b.c", `{"email":"a@b.c","email_verified":false}`: "", `{}`: ""} {
		var change map[string]any
		_ = json.Unmarshal([]byte(claims), &change)
		if by, _ := mail.verify(context.Background(), rs(change)); by.name != want {
			t.Errorf("%s: %q", claims, by.name)
		}
	}
}

// TestIssuersKeys: keys that change, an issuer that is away, and a flood of unknown
// ones.
func TestIssuersKeys(t *testing.T) {
	one, two := rsaKey(t, 2048), rsaKey(t, 2048)
	i := newIssuer(t, public(one, "one", ""))
	a := i.oauth(t, OAuthOptions{})
	now := time.Now()
	var mu sync.Mutex
	a.keys.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	later := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	first, second := i.token(t, jose.RS256, one, "one", nil), i.token(t, jose.RS256, two, "two", nil)
	check := func(what, token string, want error, ok bool) {
		t.Helper()
		_, err := a.verify(context.Background(), token)
		if ok != (err == nil) || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	i.set(func() { i.away = true })
	check("away from the start", first, errIssuerAway, false)
	i.set(func() { i.away = false })
	check("back, and asked a moment ago", first, errIssuerAway, false)
	later(keysAgain)
	check("back", first, nil, true)
	check("an unknown key", second, nil, false)

	asked := i.asked.Load()
	var wg sync.WaitGroup
	for n := range 500 {
		wg.Go(func() {
			_, _ = a.verify(context.Background(), i.token(t, jose.ES256, mustEC(), fmt.Sprint("flood", n), nil))
		})
	}
	wg.Wait()
	if n := i.asked.Load() - asked; n != 0 {
		t.Errorf("a flood of unknown keys asked the issuer %d times", n)
	}
	i.set(func() { i.keys = append(i.keys, public(two, "two", "")) })
	later(keysAgain)
	check("a new key", second, nil, true)
	check("the old one with it", first, nil, true)

	i.set(func() { i.away = true })
	later(2 * keysFresh)
	check("away, with keys at hand", first, nil, true)
	a.keys.settle()
	check("away, and asked in vain", second, nil, true)
	i.set(func() { i.away, i.keys = false, i.keys[1:] })
	later(keysAgain)
	check("withdrawn, not known yet", first, nil, true)
	a.keys.settle()
	later(keysAgain)
	check("withdrawn", first, nil, false)
	check("what is left", second, nil, true)

	i.set(func() { i.named = "https://other.example" })
	if err := i.oauth(t, OAuthOptions{}).Check(context.Background()); sandbox.CodeOf(err) != "invalid_argument" || !strings.Contains(err.Error(), "other.example") {
		t.Error(err)
	}
	i.set(func() { i.away = true })
	if err := i.oauth(t, OAuthOptions{}).Check(context.Background()); err != nil {
		t.Error("an issuer that is away keeps the server from starting:", err)
	}
}

func mustEC() *ecdsa.PrivateKey { k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader); return k }

// settle waits for a question under way.
func (k *keySet) settle() {
	k.mu.Lock()
	asking := k.asking
	k.mu.Unlock()
	if asking != nil {
		<-asking
	}
}

func TestOAuthSettings(t *testing.T) {
	ok := OAuthOptions{Issuer: "https://login.example", Audience: testAudience}
	for what, change := range map[string]func(*OAuthOptions){
		"no issuer": func(o *OAuthOptions) { o.Issuer = "" }, "a name": func(o *OAuthOptions) { o.Issuer = "login.example" },
		"http": func(o *OAuthOptions) { o.Issuer = "http://login.example" }, "a query": func(o *OAuthOptions) { o.Issuer += "?x" },
		"no audience": func(o *OAuthOptions) { o.Audience = "" }, "an audience that is no address": func(o *OAuthOptions) { o.Audience = "api" },
		"a resource that is none": func(o *OAuthOptions) { o.Resource = "ftp://x" }, "a claim with a quote": func(o *OAuthOptions) { o.Claim = `a"b` },
		"a scope of nothing": func(o *OAuthOptions) { o.Scopes = []string{"a"} }, "a scope of an unknown set": func(o *OAuthOptions) { o.Scopes = []string{"a=everything"} },
		"a scope with a quote": func(o *OAuthOptions) { o.Scopes = []string{`a"=all`} }, "a scope twice": func(o *OAuthOptions) { o.Scopes = []string{"a=all", "a=files"} },
	} {
		o := ok
		change(&o)
		if _, err := NewOAuth(o); sandbox.CodeOf(err) != "invalid_argument" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := NewOAuth(OAuthOptions{Issuer: "http://127.0.0.1:1", Audience: "api", Resource: testAudience, Scopes: []string{"a=files,read-only"}}); err != nil {
		t.Error(err)
	}
}
