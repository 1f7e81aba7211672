package session

// reviewRequest is what a review asks of the server of a running session.
type reviewRequest struct {
	Op string `json:"op"`
	// Hunks are those of the one path, of the texts that Sum stands for; nil is all.
	Hunks  []int       `json:"hunks,omitempty"`
	Sum    string      `json:"sum,omitempty"`
	Text   *string     `json:"text,omitempty"` // that both sides get
	Paths  []string    `json:"paths"`
	Choice StageChoice `json:"choice"`
	// Seen are changes that were shown, instead of Paths.
	Seen map[string]string `json:"seen,omitempty"`
}

// with changes the paths, which JSON cannot tell as they are.
func (q reviewRequest) with(f func(string) string) reviewRequest {
	paths := make([]string, len(q.Paths))
	for i, p := range q.Paths {
		paths[i] = f(p)
	}
	q.Paths = paths
	if q.Seen != nil {
		seen := make(map[string]string, len(q.Seen))
		for p, id := range q.Seen {
			seen[f(p)] = id
		}
		q.Seen = seen
	}
	return q
}

type reviewAnswer struct {
	Result   StageResult `json:"result"`
	Snapshot string      `json:"snapshot,omitempty"`
	Code     string      `json:"code,omitempty"`
	Error    string      `json:"error,omitempty"`
}
