package serve

import (
	"context"
	"io"
	"strings"
	"testing"

	"mcp-sandbox/tools"
)

// TestPlacedBody: of another server's answer no more than a small one's size is held here
// without a place for a large one.
func TestPlacedBody(t *testing.T) {
	h, _ := startHTTP(t, Options{})
	over, cancel := context.WithCancel(t.Context())
	cancel() // so that nothing waits
	body := func(ctx context.Context, size int) (*placedBody, func()) {
		take, release := h.largeAnswer("ann")
		return &placedBody{io.NopCloser(strings.NewReader(strings.Repeat("x", size))), tools.LargeReply, func() error { return take(ctx) }}, release
	}
	places := h.quota("ann").answers
	for range cap(places) {
		places <- struct{}{}
	}
	small, release := body(over, tools.LargeReply)
	defer release()
	if _, err := io.ReadFull(small, make([]byte, tools.LargeReply)); err != nil {
		t.Error("a small one:", err)
	}
	large, releaseLarge := body(over, 4*tools.LargeReply)
	defer releaseLarge()
	if b, err := io.ReadAll(large); err == nil || len(b) != tools.LargeReply {
		t.Errorf("%d bytes of a large one, %v", len(b), err)
	}
	<-places
	large, releaseLarge = body(t.Context(), 4*tools.LargeReply)
	if b, err := io.ReadAll(large); err != nil || len(b) != 4*tools.LargeReply || len(places) != cap(places) {
		t.Errorf("%d bytes with a place, %v, %d places taken", len(b), err, len(places))
	}
	releaseLarge()
	if len(places) != cap(places)-1 {
		t.Errorf("%d places are left taken", len(places))
	}
}
