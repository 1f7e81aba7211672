package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"mcp-sandbox/session"
)

//go:embed review.html
var reviewPage string

// reviewWeb serves a review as a page on loopback. Other users of the machine reach
// the port, and other pages in the browser can send to it: so the address has a token
// that is good once, for a key that every other request must bring, changes must come
// from the page itself (Origin, Sec-Fetch-Site), and the Host header must name this
// server (DNS rebinding). Both are sent in a header by the page alone: a cookie would
// go to every server of this machine, as cookies know no ports (RFC 6265, 8.5), and the
// token is in the fragment of the address, which no browser sends.
type reviewWeb struct {
	r    reviewer
	host string
	key  string

	mu    sync.Mutex // one request at a time: a comparison is of one moment
	token string
	ended chan struct{}
	once  sync.Once

	sides map[string]*session.ThreeWay // that the page shows

	done, dropped int
	snapshot      string
}

// reviewHeader has the token of POST /open, and the key of everything else.
const reviewHeader = "Mcp-Sandbox-Review"

func secret128() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// reviewInBrowser serves the page until the person ends it.
func reviewInBrowser(ctx context.Context, r reviewer, out io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("the page cannot be served: %w", err)
	}
	w := &reviewWeb{r: r, host: l.Addr().String(), key: secret128(), token: secret128(), ended: make(chan struct{})}
	fmt.Fprintf(out, "http://%s/#%s\nOpen this address once, in a browser of this machine; Ctrl-C ends.\n", w.host, w.token)
	srv := &http.Server{Handler: w, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case <-ctx.Done():
	case <-w.ended:
		time.Sleep(100 * time.Millisecond) // the last answer is on its way
	case err := <-served:
		return err
	}
	_ = srv.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(out, "%d applied, %d discarded\n", w.done, w.dropped)
	printUndo(out, r.Info().Root, w.snapshot, w.done+len(r.Unfinished()))
	return nil
}

func (w *reviewWeb) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	h, nonce := rw.Header(), secret128()
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'nonce-"+nonce+"'; style-src 'nonce-"+nonce+"'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	if r.Host != w.host {
		http.Error(rw, "unknown host", http.StatusMisdirectedRequest)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if site := r.Header.Get("Sec-Fetch-Site"); r.Method != http.MethodGet && (r.Header.Get("Origin") != "http://"+w.host || site != "" && site != "same-origin") {
		http.Error(rw, "not from this page", http.StatusForbidden)
		return
	}
	given, asked := r.Header.Get(reviewHeader), r.Method+" "+r.URL.Path
	switch asked {
	case "GET /": // the page alone tells nothing
		h.Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(rw, strings.ReplaceAll(reviewPage, "{{nonce}}", nonce))
		return
	case "POST /open":
		if w.token == "" || subtle.ConstantTimeCompare([]byte(given), []byte(w.token)) != 1 {
			http.Error(rw, "this address was used already; start the review again", http.StatusForbidden)
			return
		}
		w.token = ""
		w.answer(rw, func() (any, error) { return map[string]string{"key": w.key}, nil })
		return
	}
	if subtle.ConstantTimeCompare([]byte(given), []byte(w.key)) != 1 {
		http.Error(rw, "open the address that the command printed", http.StatusForbidden)
		return
	}
	switch asked {
	case "GET /changes":
		w.answer(rw, func() (any, error) { return w.changes(r.Context()) })
	case "POST /do":
		var q webRequest
		if err := json.NewDecoder(http.MaxBytesReader(rw, r.Body, 1<<20)).Decode(&q); err != nil {
			http.Error(rw, "not a request", http.StatusBadRequest)
			return
		}
		w.answer(rw, func() (any, error) {
			res, err := w.do(r.Context(), q.decoded())
			return res.Encoded(), err
		})
	case "POST /end":
		w.once.Do(func() { close(w.ended) })
		rw.WriteHeader(http.StatusNoContent)
	default:
		http.NotFound(rw, r)
	}
}

func (w *reviewWeb) answer(rw http.ResponseWriter, f func() (any, error)) {
	v, err := f()
	rw.Header().Set("Content-Type", "application/json")
	if err != nil {
		rw.WriteHeader(http.StatusConflict)
		v = map[string]string{"error": err.Error()}
	}
	_ = json.NewEncoder(rw).Encode(v)
}

// webChange is a change as the page shows it.
type webChange struct {
	session.StageChange
	Seen  string              `json:"seen"`
	Diff  string              `json:"diff"`
	Hunks []session.StageHunk `json:"hunks,omitempty"`
	Sum   string              `json:"sum,omitempty"`
	// Sides is what each side did to a text in conflict; Merges: they can be merged.
	Sides  string `json:"sides,omitempty"`
	Merges bool   `json:"merges,omitempty"`
}

func (w *reviewWeb) changes(ctx context.Context) (any, error) {
	changes, diffs, err := w.r.Changes([]string{"."})
	if err != nil {
		return nil, err
	}
	out := make([]webChange, len(changes))
	w.sides = map[string]*session.ThreeWay{}
	for i := range changes {
		out[i] = webChange{StageChange: changes[i], Seen: changes[i].Seen, Diff: diffs[i]}
		out[i].Hunks, out[i].Sum = w.r.Hunks(&changes[i])
		if t := w.r.ThreeWay(ctx, &changes[i]); t != nil {
			w.sides[changes[i].Path] = t
			out[i].Sides, out[i].Merges = threeWayText(t), t.Clean
		}
		out[i].Path = session.EncodePath(changes[i].Path)
	}
	info := w.r.Info()
	return map[string]any{"root": info.Root, "session": info.Session, "in_use": info.InUse, "changes": out}, nil
}

// webRequest is what the page asks for; Hunk is -1 for whole paths, those of Seen.
type webRequest struct {
	Op     string              `json:"op"`
	Path   string              `json:"path"`
	Hunk   int                 `json:"hunk"`
	Sum    string              `json:"sum"`
	Seen   map[string]string   `json:"seen"`
	Choice session.StageChoice `json:"choice"`
}

// decoded has the paths as they are, see session.EncodePath.
func (q webRequest) decoded() *webRequest {
	seen := make(map[string]string, len(q.Seen))
	for p, id := range q.Seen {
		seen[session.DecodePath(p)] = id
	}
	q.Path, q.Seen = session.DecodePath(q.Path), seen
	return &q
}

func (w *reviewWeb) do(ctx context.Context, q *webRequest) (res session.StageResult, err error) {
	id := ""
	switch {
	case q.Path == "" || q.Hunk < 0 && q.Op != "merge" && q.Seen[q.Path] == "":
		return res, errors.New("no path is named")
	case q.Op == "apply" && q.Hunk >= 0:
		res, id, err = w.r.ApplyHunk(ctx, q.Path, q.Hunk, q.Sum, q.Choice)
	case q.Op == "apply":
		res, id, err = w.r.ApplyListed(ctx, q.Seen, q.Choice)
	case q.Op == "merge":
		return w.merge(ctx, q)
	case q.Op == "discard" && q.Hunk >= 0:
		res, err = w.r.DiscardHunk(ctx, q.Path, q.Hunk, q.Sum)
	case q.Op == "discard":
		res, err = w.r.DiscardListed(ctx, q.Seen)
	default:
		return res, fmt.Errorf("unknown request %q", q.Op)
	}
	if q.Op == "apply" {
		w.done += len(res.Done)
		if w.snapshot == "" && len(res.Done) > 0 {
			w.snapshot = id
		}
	} else {
		w.dropped += len(res.Done)
	}
	return res, err
}

// merge merges both sides of one file.
func (w *reviewWeb) merge(ctx context.Context, q *webRequest) (session.StageResult, error) {
	t := w.sides[q.Path]
	if t != nil && t.Sum != q.Sum {
		return session.StageResult{}, errors.New("the file has changed since it was shown")
	}
	if t == nil || !t.Clean {
		return session.StageResult{}, errors.New("both changed the same place")
	}
	res, id, err := w.r.ApplyMerged(ctx, q.Path, t, q.Choice)
	w.done += len(res.Done)
	if w.snapshot == "" && len(res.Done) > 0 {
		w.snapshot = id
	}
	return res, err
}
