package serve

import (
	"net/http"
	"strconv"
	"testing"

	"mcp-sandbox/session"
)

// TestNumberCountsOnce: of a sender's requests each number counts once, in whatever order
// they come, and what is too far behind to be known does not.
func TestNumberCountsOnce(t *testing.T) {
	var p replays
	for i, c := range []struct {
		number uint64
		first  bool
	}{
		{0, false}, {1, true}, {1, false}, {3, true}, {2, true}, {2, false}, {3, false},
		{numbersKept, true}, {numbersKept + 1, true}, {1, false}, {4, true}, {numbersKept + 2, true}, {2, false},
		{3 * numbersKept, true}, {numbersKept + 3, false}, {2*numbersKept + 1, true}, {2*numbersKept + 1, false}, {2 * numbersKept, false},
	} {
		if p.first("one", c.number) != c.first {
			t.Errorf("%d: %d first: %v", i, c.number, !c.first)
		}
	}
	if !p.first("two", 1) {
		t.Error("another sender's number")
	}
	for i := range 2 * maxSenders {
		p.first(strconv.Itoa(i), 1)
	}
	if len(p.senders) > maxSenders {
		t.Errorf("%d senders", len(p.senders))
	}
}

// TestNoHostInPath: whatever a client writes in its request line, what is sent on is a
// path of the other server.
func TestNoHostInPath(t *testing.T) {
	for line, want := range map[string]string{
		"/mcp/name?a=b":                "/mcp/name?a=b",
		"http://here.example/mcp?a":    "/mcp?a",
		"z.evil.com://here/mcp":        "/mcp",
		".evil.com://here/mcp":         "",
		"evil:.evil.com/mcp":           ".evil.com/mcp",
		"//evil.com/mcp":               "//evil.com/mcp",
		"/mcp/%2e%2e/@evil.com/mcp?@x": "/mcp/%2e%2e/@evil.com/mcp?@x",
	} {
		p := passingOf(&http.Request{RequestURI: line, Header: http.Header{}}, "ann", nil)
		if p.uri != want {
			t.Errorf("%s: %q", line, p.uri)
		}
	}
	f := &forwarder{client: http.DefaultClient}
	if _, _, err := f.send(t.Context(), session.Holder{ID: "1", URL: "http://node1.example"}, &passing{method: "POST", uri: ".evil.com/mcp", header: http.Header{}}, nil); err != errNoPath {
		t.Errorf("%v", err)
	}
}
