package egress

import (
	"bufio"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"mcp-sandbox/sandbox"
)

const (
	maxHead   = 64 << 10 // bytes of a request's head
	maxFields = 128
)

// head is a request's head as it came. It is read here and not by net/http,
// because a proxy must refuse what a lenient reader and the next server could
// take differently (request smuggling): bare line feeds, folded lines, spaces
// before colons, two framings, two hosts.
type head struct {
	method, target string
	minor          int // HTTP/1.minor
	fields         []field
}

type field struct{ name, value string }

// httpFault is an answer to a request that cannot be served.
type httpFault struct {
	status int
	text   string
}

func (f httpFault) Error() string { return f.text }

func badRequest(text string) error { return httpFault{http.StatusBadRequest, text} }

// readHead reads up to the empty line. io.EOF before the first byte is a client
// that is done.
func readHead(br *bufio.Reader) (*head, error) {
	total := 0
	line := func() (string, error) {
		b, err := br.ReadSlice('\n')
		total += len(b)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) || total > maxHead:
			return "", httpFault{http.StatusRequestHeaderFieldsTooLarge, "the request's head is too large"}
		case err != nil:
			return "", err
		case len(b) < 2 || b[len(b)-2] != '\r':
			return "", badRequest("a line of the head does not end in CR LF")
		}
		b = b[:len(b)-2]
		for _, c := range b {
			if c < ' ' && c != '\t' || c == 0x7f {
				return "", badRequest("the head contains a control character")
			}
		}
		return string(b), nil
	}
	first, err := line()
	if err != nil {
		return nil, err
	}
	h := &head{}
	var version string
	parts := strings.Split(first, " ")
	if len(parts) != 3 {
		return nil, badRequest("the request line is not method, target and version")
	}
	h.method, h.target, version = parts[0], parts[1], parts[2]
	switch version {
	case "HTTP/1.1":
		h.minor = 1
	case "HTTP/1.0":
	default:
		return nil, httpFault{http.StatusHTTPVersionNotSupported, "only HTTP/1.1 and HTTP/1.0 are spoken here"}
	}
	if !isToken(h.method) || h.target == "" || strings.ContainsRune(h.target, '\t') {
		return nil, badRequest("the request line is malformed")
	}
	for {
		l, err := line()
		if err != nil {
			return nil, err
		}
		if l == "" {
			return h, nil
		}
		name, value, ok := strings.Cut(l, ":")
		if !ok || !isToken(name) {
			return nil, badRequest("a header field is malformed")
		}
		if len(h.fields) == maxFields {
			return nil, httpFault{http.StatusRequestHeaderFieldsTooLarge, "the request has too many header fields"}
		}
		h.fields = append(h.fields, field{name, strings.Trim(value, " \t")})
	}
}

// isToken is RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// values gives every value of a field.
func (h *head) values(name string) []string {
	var out []string
	for _, f := range h.fields {
		if strings.EqualFold(f.name, name) {
			out = append(out, f.value)
		}
	}
	return out
}

// listed tells whether a comma-separated field holds a word.
func (h *head) listed(name, word string) bool {
	return slices.ContainsFunc(h.values(name), func(v string) bool {
		return slices.Contains(listWords(v), word)
	})
}

// listWords splits a comma-separated value into lower-case words.
func listWords(v string) []string {
	words := strings.Split(lowerASCII(v), ",")
	for i := range words {
		words[i] = strings.Trim(words[i], " \t")
	}
	return words
}

// bodyKind is how the end of a request's body is known.
type bodyKind struct {
	chunked bool
	length  int64 // where not chunked; 0 when there is none
	stated  bool  // there was a Content-Length
}

// framing reads the body's framing (RFC 9112 section 6). Anything that has two
// readings is refused.
func (h *head) framing() (bodyKind, error) {
	lengths, encodings := h.values("Content-Length"), h.values("Transfer-Encoding")
	switch {
	case len(encodings) > 0 && len(lengths) > 0:
		return bodyKind{}, badRequest("the request has both Content-Length and Transfer-Encoding")
	case len(encodings) > 0:
		if h.minor == 0 || len(encodings) != 1 || lowerASCII(encodings[0]) != "chunked" {
			return bodyKind{}, badRequest("the Transfer-Encoding is not the single word chunked")
		}
		return bodyKind{chunked: true}, nil
	case len(lengths) > 1:
		return bodyKind{}, badRequest("the request has more than one Content-Length")
	case len(lengths) == 1:
		v := lengths[0]
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 || strings.Trim(v, "0123456789") != "" {
			return bodyKind{}, badRequest("the Content-Length is not a number")
		}
		return bodyKind{length: n, stated: true}, nil
	}
	return bodyKind{}, nil
}

// destination reads where a request goes and the path to ask for there. In a
// tunnel to port 80 fixed is the tunnel's endpoint. The second result is the
// host as written, for denials of what cannot be read.
func (h *head) destination(fixed *endpoint) (e endpoint, path, written string, err error) {
	hosts := h.values("Host")
	if len(hosts) > 1 {
		return e, "", "", badRequest("the request has more than one Host")
	}
	if h.minor == 1 && len(hosts) == 0 {
		return e, "", "", badRequest("the request has no Host")
	}
	rest, absolute := h.target, false
	if i := strings.Index(h.target, "://"); i >= 0 && h.target[0] != '/' {
		if lowerASCII(h.target[:i]) != "http" {
			return e, "", "", badRequest("only http URLs are forwarded; use CONNECT for https")
		}
		rest, absolute = h.target[i+3:], true
	}
	switch {
	case absolute:
		end := strings.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		written, path = rest[:end], rest[end:]
		if path == "" || path[0] == '?' {
			path = "/" + path
		}
		if e, err = parseHostPort(written, 80); err != nil {
			return e, "", written, err
		}
	case fixed != nil && strings.HasPrefix(rest, "/"):
		e, path = *fixed, rest
	default:
		return e, "", "", badRequest("the request's target is not a full http URL; use this proxy as a proxy")
	}
	if strings.ContainsRune(path, '#') {
		return e, "", "", badRequest("the request's target has a fragment")
	}
	if fixed != nil && e != *fixed {
		return e, "", written, mismatch(written, fixed.String())
	}
	// The name that is judged and the name the server hears are one (RFC 9112, 3.2.2).
	if len(hosts) == 1 {
		named, err := parseHostPort(hosts[0], 80)
		if err != nil {
			return e, "", hosts[0], err
		}
		if named != e {
			return e, "", hosts[0], mismatch(hosts[0], e.String())
		}
	}
	return e, path, written, nil
}

func mismatch(got, want string) *sandbox.Error {
	return invalid("its Host %s is not the %s that was asked for", quoteHost(got), want)
}

// hopFields are the fields that concern one connection only (RFC 9110 section
// 7.6.1), and those the proxy writes itself.
func hopField(name string) bool {
	switch lowerASCII(name) {
	case "connection", "proxy-connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
		"proxy-authorization", "proxy-authenticate", "proxy-authentication-info", "http2-settings":
		return true
	}
	return false
}
