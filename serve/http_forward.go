package serve

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mcp-sandbox/session"
	"mcp-sandbox/tools"
)

// Servers that share a directory of sessions send each other the requests of sessions
// that the other one holds. Such a request says in a header whose it is, which server
// it is for and what its body is, under a MAC of the key that all of them have; the
// client's own token stays here. A request that was overheard is not taken twice, see
// replays; a server that was started in the place of a killed one takes none that was
// for that one, and tells its own name. The answer carries a MAC over the request's random part alone, so an address
// that was taken over by something else is found out; what changes answers on their way
// is not. A request is sent on once.
const (
	forwardedHeader = "Mcp-Sandbox-Forwarded"
	answeredHeader  = "Mcp-Sandbox-Answered"
	successorHeader = "Mcp-Sandbox-Successor"
	yieldPath       = "/peer/yield"
	// peerPrincipal asks for itself; no token file can name it.
	peerPrincipal = "(server)"
	// askAfter is how many requests of a session are sent on before its holder is asked
	// to give it up, and quietFor for how long no client may have used it there.
	askAfter = 16
	quietFor = 30 * time.Second
	// peerDial and peerNotice bound reaching a server, and telling one something.
	peerDial   = 2 * time.Second
	peerNotice = 5 * time.Second
	// tellAtOnce bounds the cancels that are being told, and maxCancel what one may have
	// in bytes to be told at all.
	tellAtOnce = 64
	maxCancel  = 64 << 10
	// lookAtPeer is how often the lease of a server that does not answer is looked at.
	lookAtPeer = 250 * time.Millisecond
)

// envelope is what the header says.
type envelope struct {
	To        string `json:"to"`
	From      string `json:"from"`   // the sender, another after each start
	Number    uint64 `json:"number"` // of the sender's requests, from 1
	Principal string `json:"principal"`
	Nonce     string `json:"nonce"`
	Body      string `json:"body_sha256"`
}

// forwarder sends requests on; nil where servers share no directory.
type forwarder struct {
	manager *session.Manager
	key     []byte
	client  *http.Client
	id      string
	number  atomic.Uint64
	came    replays
	telling chan struct{} // a place for each request that all are told

	mu   sync.Mutex
	sent map[string]int // requests of a session, since its holder was asked
}

func newForwarder(m *session.Manager, secret []byte) *forwarder {
	if !m.Shared() {
		return nil
	}
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("mcp-sandbox forward 1"))
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return &forwarder{manager: m, key: h.Sum(nil), id: hex.EncodeToString(id[:]), telling: make(chan struct{}, tellAtOnce), sent: map[string]int{}, client: peerClient()}
}

// peerClient is for requests between servers.
func peerClient() *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: peerDial}).DialContext,
			TLSHandshakeTimeout: peerDial,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     time.Minute,
			DisableCompression:  true,
			// A body is sent when the other server asks for it and never before: until
			// then it has done nothing, whatever happens to it.
			ExpectContinueTimeout: time.Hour,
		}}
}

func (f *forwarder) mac(parts ...string) string {
	h := hmac.New(sha256.New, f.key)
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// sign makes the header of a request.
func (f *forwarder) sign(e envelope, method, uri, session string) string {
	b, _ := json.Marshal(e) // strings and a number
	text := base64.RawURLEncoding.EncodeToString(b)
	return text + "." + f.mac("request", method, uri, session, text)
}

// read gives what a request's header says, false for one that was not signed for this
// server, or for the one that was killed in its place.
func (f *forwarder) read(r *http.Request) (envelope, bool) {
	var e envelope
	all := r.Header.Values(forwardedHeader)
	if f == nil || len(all) != 1 {
		return e, false
	}
	text, mac, _ := strings.Cut(all[0], ".")
	if !hmac.Equal([]byte(mac), []byte(f.mac("request", r.Method, r.RequestURI, r.Header.Get("Mcp-Session-Id"), text))) {
		return e, false
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(b, &e) != nil || e.Principal == "" {
		return envelope{}, false
	}
	if _, ok := f.manager.Successor(e.To); !ok {
		return envelope{}, false
	}
	return e, true
}

// peerKey is the envelope of a request that another server sent.
type peerKey struct{}

// admit notes in a request's context what another server says of it. It is called once
// for each request: a second time it is a replay. What is for a server that was killed
// it answers itself, as nobody knows here what that one has taken: nothing is done, and
// the sender is told for whom to sign.
func (f *forwarder) admit(w http.ResponseWriter, r *http.Request) (_ *http.Request, answered bool) {
	e, ok := f.read(r)
	if !ok {
		return r, false
	}
	if id, _ := f.manager.Successor(e.To); id != e.To {
		w.Header().Set(successorHeader, id)
		w.Header().Set(answeredHeader, f.mac("successor", e.Nonce, id))
		refuseHTTP(w, http.StatusMisdirectedRequest, "the server that this request is for was started again")
		return r, true
	}
	if !f.came.first(e.From, e.Number) {
		return r, false
	}
	return r.WithContext(context.WithValue(r.Context(), peerKey{}, e)), false
}

// sentOn gives what admit noted, false for a request that came from a client.
func sentOn(r *http.Request) (envelope, bool) {
	e, ok := r.Context().Value(peerKey{}).(envelope)
	return e, ok
}

// answers marks the response as this server's.
func (f *forwarder) answers(w http.ResponseWriter, e envelope) {
	w.Header().Set(answeredHeader, f.mac("answer", e.Nonce))
}

// passing is a request with what is needed to send it on.
type passing struct {
	method, uri, host, principal string
	header                       http.Header
	body                         []byte
}

// passingOf keeps of a request what another server may see.
func passingOf(r *http.Request, principal string, body []byte) *passing {
	// Not the text as it came, which may have another host in it (RFC 9112, section
	// 3.2.2), and not r.URL, whose path the routing changes.
	uri := ""
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil {
		uri = u.RequestURI()
	}
	p := &passing{method: r.Method, uri: uri, host: r.Host, principal: principal, header: r.Header.Clone(), body: body}
	for _, name := range []string{"Authorization", "Cookie", "Connection", "Te", "Trailer", "Upgrade", "Keep-Alive", "Proxy-Authorization", "Expect", "Content-Length", "Transfer-Encoding", forwardedHeader} {
		p.header.Del(name)
	}
	return p
}

// send does the request at another server, or at the one started in its place. begun
// says whether that one may have read the body, and moved, unless it is nil, is told of
// the second before. The response is known to be that server's.
func (f *forwarder) send(ctx context.Context, to session.Holder, p *passing, moved func(session.Holder)) (resp *http.Response, begun func() bool, err error) {
	resp, begun, next, err := f.sendTo(ctx, to, p)
	if err == nil && next != "" {
		resp.Body.Close()
		to.ID = next
		if moved != nil {
			moved(to)
		}
		if resp, begun, next, err = f.sendTo(ctx, to, p); err == nil && next != "" {
			resp.Body.Close()
			err = errNotServer // it was started twice within a request
		}
	}
	return resp, begun, err
}

// sendTo is send to this server alone. next is the one in its place, which has done
// nothing.
func (f *forwarder) sendTo(ctx context.Context, to session.Holder, p *passing) (resp *http.Response, begun func() bool, next string, err error) {
	var asked atomic.Bool
	begun = asked.Load
	if !strings.HasPrefix(p.uri, "/") {
		return nil, begun, "", errNoPath // it would become part of the host
	}
	// Not when the body is read: net/http sends it after a final answer too, to go on
	// with the connection, and who answered so has not waited for it.
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got100Continue: func() { asked.Store(true) }})
	r, err := http.NewRequestWithContext(ctx, p.method, to.URL+p.uri, nil)
	if err != nil {
		return nil, begun, "", err
	}
	r.Header, r.Host = p.header.Clone(), p.host
	if len(p.body) > 0 {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(p.body)), int64(len(p.body))
		r.Header.Set("Expect", "100-continue")
	}
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails (crypto/rand)
	sum := sha256.Sum256(p.body)
	e := envelope{To: to.ID, From: f.id, Number: f.number.Add(1), Principal: p.principal, Nonce: hex.EncodeToString(nonce[:]), Body: hex.EncodeToString(sum[:])}
	r.Header.Set(forwardedHeader, f.sign(e, p.method, p.uri, p.header.Get("Mcp-Session-Id")))
	if resp, err = f.client.Do(r); err != nil {
		return nil, begun, "", err
	}
	if id := resp.Header.Get(successorHeader); id != "" && hmac.Equal([]byte(resp.Header.Get(answeredHeader)), []byte(f.mac("successor", e.Nonce, id))) {
		return resp, begun, id, nil
	}
	if !hmac.Equal([]byte(resp.Header.Get(answeredHeader)), []byte(f.mac("answer", e.Nonce))) {
		resp.Body.Close()
		return nil, begun, "", errNotServer
	}
	return resp, begun, "", nil
}

var errNoPath = errors.New("a request that is sent on has no path")

var errNotServer = &httpError{status: http.StatusBadGateway, text: "what answers at the address of a server is not that server"}

// forward has a request answered by the server that holds its session. It gives up on
// one that does not answer when that one's lease is past.
func (f *forwarder) forward(ctx context.Context, to *session.Elsewhere, p *passing, w *replyWriter) tools.Forwarding {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var at atomic.Pointer[session.Elsewhere]
	at.Store(to)
	go func() {
		t := time.NewTicker(lookAtPeer)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				// What was looked at may have been left meanwhile.
				if looked := at.Load(); !f.manager.Answers(ctx, looked) && at.Load() == looked {
					cancel()
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	resp, begun, err := f.send(ctx, to.Holder, p, func(h session.Holder) {
		at.Store(&session.Elsewhere{Holder: h, Name: to.Name})
	})
	if err != nil {
		if begun() {
			return tools.Broken
		}
		return tools.NotReached
	}
	defer resp.Body.Close()
	// In every case that nothing was done.
	if resp.StatusCode == http.StatusServiceUnavailable {
		return tools.NotReached
	}
	if place := tools.CallerOf(ctx).Large; place != nil {
		resp.Body = &placedBody{resp.Body, tools.LargeReply, func() error { return place(ctx) }}
	}
	how := w.pass(resp)
	if how == tools.Answered {
		f.ask(to)
	}
	return how
}

// ask has a session moved here that clients keep asking for here and not at its holder.
func (f *forwarder) ask(to *session.Elsewhere) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.sent) > maxDead {
		clear(f.sent)
	}
	if f.sent[to.Name]++; f.sent[to.Name] < askAfter {
		return
	}
	delete(f.sent, to.Name)
	go func() {
		f.tell(to.Holder, &passing{method: http.MethodPost, uri: yieldPath + "?name=" + to.Name, host: "localhost", principal: peerPrincipal, header: http.Header{}})
		// Or the next request would be sent there once more, and the session with it.
		f.manager.Unroute(to.Name)
	}()
}

// tell sends a request whose answer nobody needs.
func (f *forwarder) tell(to session.Holder, p *passing) {
	ctx, cancel := context.WithTimeout(context.Background(), peerNotice)
	defer cancel()
	if resp, _, err := f.send(ctx, to, p, nil); err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		resp.Body.Close()
	}
}

// tellAll tells every other server, and waits for them. It is for what concerns calls
// that may be at any of them: a cancel, and the end of an MCP session.
func (f *forwarder) tellAll(p *passing) {
	var wg sync.WaitGroup
	for _, h := range f.manager.Peers() {
		wg.Go(func() { f.tell(h, p) })
	}
	wg.Wait()
}

// tellCancel has every other server told of a cancel, and waits for a place alone.
func (f *forwarder) tellCancel(ctx context.Context, p *passing) {
	if len(p.body) > maxCancel {
		return
	}
	select {
	case f.telling <- struct{}{}:
		go func() {
			defer func() { <-f.telling }()
			f.tellAll(p)
		}()
	case <-ctx.Done():
	}
}

// close drops idle connections.
func (f *forwarder) close() {
	if f != nil {
		f.client.CloseIdleConnections()
	}
}

// answerPeer answers what one server asks another for itself.
func (h *HTTP) answerPeer(w http.ResponseWriter, r *http.Request) {
	given := h.server.Manager().Yield(r.URL.Query().Get("name"), quietFor)
	h.log.Info("another server asked for a session", "given_up", given)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]bool{"given_up": given})
}

// forwardedKey is the hash that the body of a request which was sent on must have.
type forwardedKey struct{}

// forwardedBody says whether the body is the one that was signed; any is where the
// request came from a client.
func forwardedBody(ctx context.Context, body []byte) bool {
	want, ok := ctx.Value(forwardedKey{}).(string)
	sum := sha256.Sum256(body)
	return !ok || want == hex.EncodeToString(sum[:])
}
