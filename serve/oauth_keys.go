package serve

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// keySet holds the issuer's public keys. go-oidc's RemoteKeySet asks the issuer for
// each token with an unknown key, so that anybody could have the issuer flooded by
// this server, and drops the keys it has no more of; here the issuer is asked once in
// a while whatever comes, and keys stay in use while it is away.
type keySet struct {
	issuer string
	client *http.Client
	log    *slog.Logger
	now    func() time.Time

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time     // when keys came
	tried   time.Time     // when the issuer was asked
	failed  error         // of the last try
	asking  chan struct{} // closed when the try under way is over; nil without one
}

const (
	// keysAgain is the least time between two questions to the issuer, and
	// keysFresh how long keys are used without one: a key that the issuer withdraws
	// is refused from then on.
	keysAgain = 10 * time.Second
	keysFresh = 15 * time.Minute
	// askWithin bounds one question, maxAnswer its answer.
	askWithin = 5 * time.Second
	maxAnswer = 1 << 20
	maxKeys   = 100
	// leastRSA is in bits (RFC 7518, section 3.3).
	leastRSA = 2048
)

// issuerError is metadata of another issuer (RFC 8414, section 3.3).
type issuerError struct{ got string }

func (e *issuerError) Error() string { return fmt.Sprintf("the metadata is of the issuer %q", e.got) }

func newKeySet(o OAuthOptions) *keySet {
	k := &keySet{issuer: o.Issuer, client: o.Client, log: o.Log, now: time.Now}
	if k.client == nil {
		k.client = &http.Client{}
	}
	c := *k.client
	c.Timeout = askWithin
	c.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > 3 || checkIssuerURL(r.URL) != nil {
			return errors.New("the issuer redirects to where it cannot be trusted")
		}
		return nil
	}
	k.client = &c
	return k
}

// find gives the keys of that id, all when it is "" or none has one. It asks the
// issuer when there is no such key or the keys are old, and fails only when it has
// no keys at all.
func (k *keySet) find(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	k.mu.Lock()
	found, old := k.pick(id), k.now().Sub(k.fetched) > keysFresh
	if len(found) > 0 {
		if old {
			k.ask() // and go on with those at hand
		}
		k.mu.Unlock()
		return found, nil
	}
	asking := k.ask()
	k.mu.Unlock()
	if asking != nil {
		select {
		case <-asking:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keys) == 0 {
		return nil, k.failed
	}
	return k.pick(id), nil
}

// pick needs mu.
func (k *keySet) pick(id string) (out []jose.JSONWebKey) {
	for _, key := range k.keys {
		if id == "" || key.KeyID == "" || key.KeyID == id {
			out = append(out, key)
		}
	}
	return out
}

// ask begins a question to the issuer unless one was asked a moment ago, and gives
// what is closed at the end of the one under way. It needs mu.
func (k *keySet) ask() <-chan struct{} {
	if k.asking != nil {
		return k.asking
	}
	if !k.tried.IsZero() && k.now().Sub(k.tried) < keysAgain {
		return nil
	}
	k.tried = k.now()
	over := make(chan struct{})
	k.asking = over
	go func() {
		// Not in the context of the first caller, for whom others do not wait.
		ctx, cancel := context.WithTimeout(context.Background(), askWithin)
		defer cancel()
		keys, err := k.fetch(ctx)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.failed = err
		if err == nil {
			k.keys, k.fetched = keys, k.now()
		} else if len(k.keys) > 0 {
			k.log.Warn("the OAuth issuer's keys could not be read again, those at hand stay in use", "error", err)
		}
		k.asking = nil
		close(over)
	}()
	return over
}

func (k *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	var meta struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	var err error
	for _, at := range metadataOf(k.issuer) {
		if err = k.get(ctx, at, &meta); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if meta.Issuer != k.issuer {
		return nil, &issuerError{meta.Issuer}
	}
	u, err := url.Parse(meta.Keys)
	if err != nil || checkIssuerURL(u) != nil {
		return nil, fmt.Errorf("the issuer's jwks_uri is %q, which is not https", meta.Keys)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := k.get(ctx, meta.Keys, &set); err != nil {
		return nil, err
	}
	var out []jose.JSONWebKey
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		// RFC 7517, section 5: keys of a kind that is not understood are left out.
		if json.Unmarshal(raw, &key) == nil && signs(key) && len(out) < maxKeys {
			out = append(out, key)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the issuer has no key that is accepted here")
	}
	return out, nil
}

// metadataOf is where an issuer's metadata may be: OpenID Connect Discovery 1.0,
// section 4, and RFC 8414, section 3.
func metadataOf(issuer string) []string {
	u, _ := url.Parse(issuer) // checked at the start
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	base := u.Scheme + "://" + u.Host
	return []string{base + path + "/.well-known/openid-configuration", base + "/.well-known/oauth-authorization-server" + path}
}

func checkIssuerURL(u *url.URL) error { return checkIssuer(u.Scheme + "://" + u.Host) }

// signs: only public keys for signatures, and none that could be guessed.
func signs(key jose.JSONWebKey) bool {
	if key.Use != "" && key.Use != "sig" || !key.Valid() {
		return false
	}
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= leastRSA
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

func (k *keySet) get(ctx context.Context, at string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	resp, err := k.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", at, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil || len(text) > maxAnswer {
		return fmt.Errorf("%s sent no whole answer below %d bytes", at, maxAnswer)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s did not answer JSON", at)
	}
	return nil
}
