package egress

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// FuzzHead compares the reader of requests with net/http's, which the far side
// may well be: what is taken here means the same there, so that no request is
// read in two ways (request smuggling, RFC 9112 section 11.2).
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked \r\n\r\n",
		"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", "GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
		"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := readHead(bufio.NewReaderSize(bytes.NewReader(in), maxHead))
		if err != nil {
			var fault httpFault
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &fault) {
				t.Fatalf("%q: %v", in, err)
			}
			return
		}
		for _, v := range h.fields {
			if !isToken(v.name) || strings.ContainsAny(v.value, "\r\n\x00") {
				t.Fatalf("%q: the field %q: %q", in, v.name, v.value)
			}
		}
		body, err := h.framing()
		if err != nil {
			return
		}
		std, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(in)))
		if err != nil {
			// net/http reads the target as well, which is judged elsewhere here.
			return
		}
		if std.Method != h.method || std.RequestURI != h.target || std.ProtoMinor != h.minor {
			t.Fatalf("%q: %q %q 1.%d, net/http reads %q %q 1.%d", in, h.method, h.target, h.minor, std.Method, std.RequestURI, std.ProtoMinor)
		}
		if chunked := slices.Contains(std.TransferEncoding, "chunked"); chunked != body.chunked || !chunked && std.ContentLength != body.length {
			t.Fatalf("%q: %+v, net/http reads chunked %v, length %d", in, body, chunked, std.ContentLength)
		}
	})
}
