package serve

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// JSON leaves open what an object with a key twice means, and Go's decoder takes
// "Name" for "name" and adds a second "params" to the first. A gateway in front that
// reads a message otherwise would judge another call than the one that is made, so
// such messages are refused.

var (
	messageKeys = []string{"jsonrpc", "id", "method", "params", "result", "error"}
	paramKeys   = []string{"name", "arguments", "_meta", "uri", "requestId", "protocolVersion", "capabilities", "clientInfo", "cursor"}
)

// respelled says what is wrong with a key that differs from a known one in its case
// alone, "" if it does not.
func respelled(key string, known []string) string {
	for _, k := range known {
		if key != k && strings.EqualFold(key, k) {
			return fmt.Sprintf("the key %.200q is not %s; write it like that", key, k)
		}
	}
	return ""
}

// repeatedKey finds a key that stands twice in one object of text, which is JSON. top
// says that this object is the message itself.
func repeatedKey(text []byte) (key string, top, found bool) {
	type level struct {
		object bool
		seen   []string // of small objects; all moves to more
		more   map[string]bool
	}
	var open []level
	isKey := false // a string that begins here is a key
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '{', '[':
			open = append(open, level{object: c == '{'})
			isKey = c == '{'
		case '}', ']':
			open = open[:len(open)-1]
		case ',':
			isKey = open[len(open)-1].object
		case '"':
			end := endOfString(text, i+1)
			if end < 0 {
				return "", false, false
			}
			raw := text[i+1 : end]
			i = end
			if !isKey {
				continue
			}
			isKey = false
			key, ok := unquoteJSON(raw)
			if !ok {
				_ = json.Unmarshal(text[end-len(raw)-1:end+1], &key)
			}
			l := &open[len(open)-1]
			if l.more[key] || slices.Contains(l.seen, key) {
				return key, len(open) == 1, true
			}
			if len(l.seen) < 16 {
				l.seen = append(l.seen, key)
				continue
			}
			if l.more == nil {
				l.more = map[string]bool{}
			}
			l.more[key] = true
		}
	}
	return "", false, false
}

// largestID is the largest integer that every reader of JSON keeps (RFC 8259,
// section 6).
const largestID = 1<<53 - 1

// isExact says whether a number stays what it is when it is read as a float64, as
// the library and most clients do. The answer to any other id would carry another one,
// and its client would wait for ever.
func isExact(id []byte) bool {
	f, err := strconv.ParseFloat(string(id), 64)
	if err != nil || math.Abs(f) > largestID {
		return false
	}
	mantissa, _, _ := strings.Cut(strings.ToLower(string(id)), "e")
	if f == 0 {
		return strings.Trim(mantissa, "-0.") == ""
	}
	return f == math.Trunc(f) || strconv.FormatFloat(f, 'f', -1, 64) == string(id)
}
