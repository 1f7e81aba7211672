package serve

import (
	"bytes"
	"encoding/json"
	"sync"
	"time"
)

// sseRequests are the requests of one stream that have no response yet. A
// cancelled one gets none (MCP, "Cancellation"), but the library queues its
// response all the same, so the stream drops it.
type sseRequests struct {
	mu sync.Mutex
	// open maps an id, as JSON, to whether it was cancelled.
	open map[string]bool
}

// saw records a message of the client.
func (q *sseRequests) saw(msg message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(msg.id) > 0 && msg.method != "":
		if q.open == nil {
			q.open = map[string]bool{}
		}
		q.open[compactID(msg.id)] = false
	case msg.method == "notifications/cancelled":
		var p struct {
			RequestID json.RawMessage `json:"requestId"`
		}
		if json.Unmarshal(msg.params, &p) != nil {
			return
		}
		id := compactID(p.RequestID)
		if _, ok := q.open[id]; ok {
			q.open[id] = true
		}
	}
}

// drops reports whether an event is the response of a cancelled request.
func (q *sseRequests) drops(event []byte) bool {
	data, ok := bytes.CutPrefix(event, []byte("event: message\ndata: "))
	if !ok {
		return false
	}
	var response struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
	}
	if json.Unmarshal(data, &response) != nil || len(response.ID) == 0 || response.Method != "" {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	id := compactID(response.ID)
	cancelled := q.open[id]
	delete(q.open, id)
	return cancelled
}

// stopAnswers bounds the wait for the answers of calls that the stop cut short.
const stopAnswers = 2 * time.Second

// answered waits until every request has its response, or within is over.
func (q *sseRequests) answered(within time.Duration) {
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		q.mu.Lock()
		left := len(q.open)
		q.mu.Unlock()
		if left == 0 {
			return
		}
	}
}

// compactID is an id in one spelling: "\u0061" and "a" are the same.
func compactID(id json.RawMessage) string {
	var s string
	if json.Unmarshal(id, &s) == nil {
		return "s" + s
	}
	return "n" + string(bytes.TrimSpace(id))
}
