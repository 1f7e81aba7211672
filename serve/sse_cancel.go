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
//
// Each is in flight until its response has been written: the POST that brought it is
// answered at once, and a client that does not read its stream would have any number of
// responses wait here.
type sseRequests struct {
	mu sync.Mutex
	// open are those of each id. A client may use one twice, though it must not.
	open  map[string][]sseRequest
	ended bool
}

type sseRequest struct {
	cancelled bool
	end       func() // of its use of the principal's quota
}

// saw records a message of the client, whose quota a request keeps until it has its
// response.
func (q *sseRequests) saw(msg message, quota *inFlight) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(msg.id) > 0 && msg.method != "" && !q.ended:
		if q.open == nil {
			q.open = map[string][]sseRequest{}
		}
		id := compactID(msg.id)
		q.open[id] = append(q.open[id], sseRequest{end: quota.handOver()})
	case msg.method == "notifications/cancelled":
		var p struct {
			RequestID json.RawMessage `json:"requestId"`
		}
		if json.Unmarshal(msg.params, &p) != nil {
			return
		}
		same := q.open[compactID(p.RequestID)]
		for i := range same {
			same[i].cancelled = true
		}
	}
}

// drops reports whether an event is the response of a cancelled request, and what to
// call when an event has been written or dropped.
func (q *sseRequests) drops(event []byte) (drop bool, after func()) {
	after = func() {}
	data, ok := bytes.CutPrefix(event, []byte("event: message\ndata: "))
	if !ok {
		return false, after
	}
	var response struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
	}
	if json.Unmarshal(data, &response) != nil || len(response.ID) == 0 || response.Method != "" {
		return false, after
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	id := compactID(response.ID)
	same := q.open[id]
	if len(same) == 0 {
		return false, after
	}
	if len(same) == 1 {
		delete(q.open, id)
	} else {
		q.open[id] = same[1:]
	}
	return same[0].cancelled, same[0].end
}

// end is that of the stream: nothing more is written to it.
func (q *sseRequests) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	for _, same := range q.open {
		for _, r := range same {
			r.end()
		}
	}
	q.open = nil
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
