package serve

import (
	"bufio"
	"bytes"
	"io"
	"net/http"

	"mcp-sandbox/tools"
)

// placedBody is the body of another server's response, of which more than a message's
// usual size is read when this server may hold a large answer, too.
type placedBody struct {
	io.ReadCloser
	small int
	place func() error
}

func (b *placedBody) Read(p []byte) (int, error) {
	if b.small <= 0 {
		if err := b.place(); err != nil {
			return 0, err
		}
	} else if len(p) > b.small {
		p = p[:b.small]
	}
	n, err := b.ReadCloser.Read(p)
	b.small -= n
	return n, err
}

// pass copies the response of another server to the client.
func (w *replyWriter) pass(resp *http.Response) tools.Forwarding {
	if resp.Header.Get("Content-Type") == "text/event-stream" {
		return w.passEvents(resp)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return tools.Broken
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.passed = true
	if w.started || w.ours || w.silent {
		return tools.Answered
	}
	w.started, w.wrap = true, true
	h := w.w.Header()
	for _, name := range []string{"Content-Type", "Mcp-Session-Id", "WWW-Authenticate", "Retry-After", "Allow"} {
		if v := resp.Header.Get(name); v != "" {
			h.Set(name, v)
		}
	}
	w.deadline()
	w.w.WriteHeader(resp.StatusCode)
	_, _ = w.w.Write(b)
	return tools.Answered
}

// passEvents copies a stream, one whole event at a time: comments of this server may
// come in between.
func (w *replyWriter) passEvents(resp *http.Response) tools.Forwarding {
	in := bufio.NewReader(resp.Body)
	var event bytes.Buffer
	for {
		line, err := in.ReadBytes('\n')
		event.Write(line)
		if err == io.EOF && event.Len() == 0 {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.open()
			w.passed = true
			return tools.Answered
		}
		if err != nil {
			return tools.Broken // the error of the call becomes the last event
		}
		if len(bytes.TrimRight(line, "\r\n")) > 0 {
			continue
		}
		w.mu.Lock()
		w.open()
		w.deadline()
		if !w.silent {
			_, _ = w.w.Write(event.Bytes())
			_ = w.rc.Flush()
		}
		w.mu.Unlock()
		event.Reset()
	}
}

// open begins an event stream unless an answer was begun. Callers hold mu.
func (w *replyWriter) open() {
	if w.started || w.ours {
		return
	}
	w.ours = true
	w.begin()
	w.status = http.StatusOK
	w.deadline()
	w.w.WriteHeader(http.StatusOK)
}
