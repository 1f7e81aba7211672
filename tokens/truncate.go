package tokens

// Cut is a text cut to a budget.
type Cut struct {
	Text           string
	OriginalTokens int
	Truncated      bool
	RemovedTokens  int
	RemovedLines   int
}

// Mark makes the line that stands where text is missing.
type Mark func(removedTokens, removedLines int) string
