package egress

import (
	"bufio"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"mcp-sandbox/sandbox"
)

const (
	maxResponseHead = 1 << 20
	maxInterim      = 16      // 1xx answers before the real one
	bulkBody        = 1 << 20 // a body of known length from here on is moved, not copied
	via             = "1.1 mcp-sandbox"
)

var (
	errBody    = errors.New("incomplete request body")
	errFraming = errors.New("malformed request body")
)

// forward serves one plain HTTP request, on an upstream connection of its own:
// where no connection is shared, nothing smuggled into one request can become
// the next. It tells whether the client's connection may carry another.
func (p *Proxy) forward(c *client, h *head, fixed *endpoint) bool {
	e, path, written, err := h.destination(fixed)
	var hostErr *sandbox.Error
	if errors.As(err, &hostErr) {
		p.refuseError(c, p.denyText(c.RemoteAddr(), written, err))
		return false
	}
	var body bodyKind
	if err == nil {
		body, err = h.framing()
	}
	if err == nil && len(h.values("Expect")) > 0 && (h.minor == 0 || !h.listed("Expect", "100-continue")) {
		err = httpFault{http.StatusExpectationFailed, "only the expectation 100-continue is known here"}
	}
	var fault httpFault
	if errors.As(err, &fault) {
		p.refuse(c, fault.status, codeInvalid, fault.text)
		return false
	}
	if e.port == 443 {
		p.refuseError(c, p.denyEndpoint(c.RemoteAddr(), e, Decision{Reason: "plain HTTP does not go to port 443"}))
		return false
	}
	f, fail := p.open(c, e)
	if fail != nil {
		p.refuseError(c, fail)
		return false
	}
	defer f.Close()
	x := &exchange{p: p, c: c, h: h, f: f, body: body, up: &metered{flow: f}}
	x.upgrade = h.minor == 1 && fixed != nil && h.listed("Connection", "upgrade") && h.listed("Upgrade", "websocket") && !body.chunked && body.length == 0
	x.keep = h.minor == 1 && !h.listed("Connection", "close") && !h.listed("Proxy-Connection", "close")
	return x.run(path)
}

// exchange is one request and its answer.
type exchange struct {
	p       *Proxy
	c       *client
	h       *head
	f       *flow
	up      *metered
	body    bodyKind
	upgrade bool // the client wants a WebSocket
	keep    bool
	begun   bool        // a part of the answer is on its way
	stop    atomic.Bool // the body is wanted no more
}

func (x *exchange) run(path string) bool {
	if err := x.writeHead(path); err != nil {
		return x.fail(err)
	}
	if x.h.listed("Expect", "100-continue") && (x.body.chunked || x.body.length > 0) {
		// The proxy's own answer (RFC 9110 section 10.1.1): the upstream's would come
		// at the price of a wait on every server that sends none.
		if _, err := io.WriteString(x.c, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return false
		}
	}
	// The body goes its way while the answer may already come: a server may refuse
	// early, and must not be kept from saying so.
	sent := make(chan error, 1)
	go func() {
		err := x.sendBody()
		if errors.Is(err, errBody) {
			reset(x.f.Conn) // the server must not take what it has for the whole
		}
		sent <- err
	}()
	err := x.answer()
	// What is left of a body cannot be told from a next request. The order matters:
	// a read that sets its deadline after this sees stop, one before it is woken.
	x.stop.Store(true)
	_ = x.c.SetReadDeadline(time.Now())
	reset(x.f.Conn)
	bodyErr := <-sent
	if bodyErr != nil {
		x.keep = false
	}
	if errors.Is(bodyErr, errFraming) && !x.begun {
		x.p.refuse(x.c, http.StatusBadRequest, codeInvalid, "the request's body is malformed; correct its framing")
		return false
	}
	if err != nil {
		// Where the client's own body failed, the upstream was cut for that.
		if !x.begun && !errors.Is(err, errBudget) && !errors.Is(err, net.ErrClosed) && !errors.Is(bodyErr, errBody) {
			x.p.unreached(x.c.RemoteAddr(), x.f.to, answerReason(err), true)
		}
		return x.fail(err)
	}
	return x.keep
}

// fail answers where nothing was answered yet, and else breaks the connection
// off: a cut body must not look whole.
func (x *exchange) fail(err error) bool {
	spent := (*sandbox.Error)(nil)
	if errors.Is(err, errBudget) {
		spent = x.p.overBudget(x.f.client.RemoteAddr(), x.f.to)
	}
	if x.begun {
		x.c.abort()
		return false
	}
	if spent != nil {
		x.p.refuseError(x.c, spent)
		return false
	}
	x.p.refuse(x.c, http.StatusBadGateway, "unreachable", "no response from "+x.f.to.String()+": "+reason(err)+"; try again")
	return false
}

// writeHead writes a new request: every byte of it has been looked at.
func (x *exchange) writeHead(path string) error {
	host := x.f.to.bracketed()
	if x.f.to.port != 80 {
		host = x.f.to.String()
	}
	var b strings.Builder
	b.WriteString(x.h.method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\n")
	var named []string
	for _, v := range x.h.values("Connection") {
		named = append(named, listWords(v)...)
	}
	for _, f := range x.h.fields {
		lower := lowerASCII(f.name)
		if hopField(f.name) || lower == "host" || lower == "content-length" || lower == "expect" || slices.Contains(named, lower) {
			continue
		}
		b.WriteString(f.name + ": " + f.value + "\r\n")
	}
	switch {
	case x.body.chunked:
		b.WriteString("Transfer-Encoding: chunked\r\n")
	case x.body.stated:
		b.WriteString("Content-Length: " + strconv.FormatInt(x.body.length, 10) + "\r\n")
	}
	b.WriteString("Via: " + via + "\r\n")
	if x.upgrade {
		b.WriteString("Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	} else {
		b.WriteString("Connection: close\r\n\r\n")
	}
	_, err := io.WriteString(x.up, b.String())
	return err
}

// sendBody passes the body on, in pieces as they come. Its error is errBody where
// the client's side failed, and the upstream's error where that did.
func (x *exchange) sendBody() error {
	// Both readers take from the client's own buffer, where the next request may
	// stand already.
	in, out := io.LimitReader(x.c.br, x.body.length), io.Writer(x.up)
	if x.body.chunked {
		in, out = httputil.NewChunkedReader(x.c.br), httputil.NewChunkedWriter(x.up)
	}
	left := x.body.length
	if left == 0 && !x.body.chunked {
		return nil
	}
	if !x.body.chunked && left >= bulkBody {
		return x.sendInBulk(left)
	}
	buf := make([]byte, copyBuffer)
	for x.body.chunked || left > 0 {
		_ = x.c.SetReadDeadline(time.Now().Add(x.p.o.IdleTimeout))
		if x.stop.Load() {
			return errBody
		}
		n, err := in.Read(buf)
		left -= int64(n)
		if n > 0 {
			if _, werr := out.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, os.ErrDeadlineExceeded), !x.body.chunked && left > 0:
			return errors.Join(errBody, err)
		case !errors.Is(err, io.EOF):
			return errors.Join(errBody, errFraming, err)
		}
		break
	}
	if !x.body.chunked {
		return nil
	}
	if err := x.skipTrailer(); err != nil {
		return err
	}
	_, err := io.WriteString(x.up, "0\r\n\r\n")
	return err
}

// sendInBulk is sendBody for a body of known length, in the way of answerInBulk.
func (x *exchange) sendInBulk(length int64) error {
	held, _ := x.c.br.Peek(int(min(int64(x.c.br.Buffered()), length)))
	n := len(held)
	if _, err := x.up.Write(held); err != nil {
		return err
	}
	_, _ = x.c.br.Discard(n)
	return x.p.moveBody(x.f.Conn, x.c.Conn, length-int64(n), &x.stop)
}

// skipTrailer reads the trailer section and drops it: its fields would join a
// head that has been judged already.
func (x *exchange) skipTrailer() error {
	for total := 0; ; {
		b, err := x.c.br.ReadSlice('\n')
		total += len(b)
		if err != nil || total > headBuffer || len(b) < 2 || b[len(b)-2] != '\r' {
			return errors.Join(errBody, errFraming, err)
		}
		if len(b) == 2 {
			return nil
		}
	}
}

// answer passes the server's answer to the client.
func (x *exchange) answer() error {
	capped := &cappedReader{r: x.up, left: maxResponseHead}
	br := bufio.NewReaderSize(capped, copyBuffer)
	req := &http.Request{Method: x.h.method}
	for range maxInterim {
		resp, err := http.ReadResponse(br, req)
		if err != nil {
			return err
		}
		switch {
		case resp.StatusCode == http.StatusSwitchingProtocols && x.upgrade:
			return x.switchProtocols(resp, br)
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return errors.New("unasked change of protocol")
		case resp.StatusCode < 200:
			continue
		}
		capped.left = math.MaxInt64
		// The body is never closed: that would read on to its end. The connection is
		// this exchange's alone and ends with it.
		return x.writeAnswer(resp, br)
	}
	return errors.New("too many interim answers")
}

func (x *exchange) writeAnswer(resp *http.Response, br *bufio.Reader) error {
	bodyless := x.h.method == http.MethodHead || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified
	chunked := !bodyless && resp.ContentLength < 0 && x.h.minor == 1
	if !bodyless && resp.ContentLength < 0 && !chunked {
		x.keep = false // only the end of the connection tells the end of the body
	}
	head := endToEnd(resp.Header)
	switch {
	case chunked:
		head.Set("Transfer-Encoding", "chunked")
		head.Del("Content-Length")
	case bodyless && resp.StatusCode != http.StatusNoContent:
		// Content-Length says here what a body would have had.
	case resp.ContentLength >= 0 && resp.StatusCode != http.StatusNoContent:
		head.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	default:
		head.Del("Content-Length")
	}
	if !x.keep {
		head.Set("Connection", "close")
	}
	// Room for a whole piece with its chunk's frame, so that each is one write.
	out := bufio.NewWriterSize(&patientWriter{x.c, x.p.o.IdleTimeout}, copyBuffer+64)
	x.begun = true
	writeStatus(out, resp)
	if err := head.Write(out); err != nil {
		return err
	}
	_, _ = out.WriteString("\r\n") // an error stays in the writer until Flush
	if bodyless {
		return out.Flush()
	}
	var dst io.Writer = out
	if chunked {
		dst = httputil.NewChunkedWriter(out)
	}
	if !chunked && resp.ContentLength >= bulkBody {
		return x.answerInBulk(out, br, resp.ContentLength)
	}
	// Flushed piece by piece: an event stream must not wait for a full buffer.
	buf := make([]byte, copyBuffer)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return werr
			}
			if werr := out.Flush(); werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if chunked {
		_, _ = out.WriteString("0\r\n\r\n")
	}
	return out.Flush()
}

// answerInBulk passes on a body of a known length: what the reader holds, and
// then the rest from connection to connection.
func (x *exchange) answerInBulk(out *bufio.Writer, br *bufio.Reader, length int64) error {
	held, _ := br.Peek(int(min(int64(br.Buffered()), length)))
	_, _ = out.Write(held) // an error stays in the writer until Flush
	if err := out.Flush(); err != nil {
		return err
	}
	return x.p.moveBody(x.c.Conn, x.f.Conn, length-int64(len(held)), nil)
}

// switchProtocols passes on a WebSocket's 101 and then carries bytes.
func (x *exchange) switchProtocols(resp *http.Response, br *bufio.Reader) error {
	x.keep, x.begun = false, true
	head := endToEnd(resp.Header)
	head.Set("Connection", "upgrade")
	head.Set("Upgrade", "websocket")
	out := bufio.NewWriter(&patientWriter{x.c, x.p.o.IdleTimeout})
	writeStatus(out, resp)
	_ = head.Write(out)
	_, _ = out.WriteString("\r\n")
	early, _ := br.Peek(br.Buffered())
	_, _ = out.Write(early)
	if err := out.Flush(); err != nil {
		return err
	}
	x.p.newRelay(x.c, x.f).run(func() ([]byte, error) { return nil, nil })
	return nil
}

func writeStatus(out *bufio.Writer, resp *http.Response) {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, resp.Status)
	_, _ = out.WriteString("HTTP/1.1 " + text + "\r\n")
}

// endToEnd drops the fields of the upstream connection. http.ReadResponse has
// taken Connection away where it holds "close", and with it the names of others.
func endToEnd(h http.Header) http.Header {
	h = h.Clone()
	if h == nil {
		h = http.Header{}
	}
	for _, v := range h.Values("Connection") {
		for _, name := range listWords(v) {
			if name != "content-length" {
				h.Del(name)
			}
		}
	}
	for name := range h {
		if hopField(name) {
			delete(h, name)
		}
	}
	h.Add("Via", via)
	return h
}
