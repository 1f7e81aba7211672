package tools

import (
	"strings"

	"mcp-sandbox/tokens"
)

// excess is the size of text relative to what the client shows its model uncut; above
// 1 the client cuts. Tokens tell little of bytes and lines: 2,500 tokens are
// 3 kB of numbers or 20 kB of long words.
func (c Client) excess(text string) float64 {
	over := 0.0
	if c.bytes > 0 {
		over = float64(len(text)) / float64(c.bytes)
	}
	if c.lines > 0 {
		over = max(over, float64(strings.Count(text, "\n")+1)/float64(c.lines))
	}
	return over
}

// fit lowers the limit until the client will not cut again:
// its own mark would stand where the text tells what is missing. parts is how many
// texts share what it shows.
func (c *call) fit(limit, parts int, cut func(limit int) tokens.Truncation) tokens.Truncation {
	from := c.from
	if c.server.options.MaxOutputTokens > 0 {
		from = otherClient // the operator's limit replaces the client's
	}
	for {
		t := cut(limit)
		over := from.excess(t.Text) * float64(parts)
		next := int(float64(limit) / over)
		if over <= 1 || next < 1 {
			return t
		}
		limit = min(next, limit-1)
	}
}

// truncate cuts a result to limit tokens and to what the client shows.
func (c *call) truncate(text string, limit int, mark tokens.Placeholder) tokens.Truncation {
	return c.fit(limit, 1, func(limit int) tokens.Truncation {
		return c.server.encoding.Truncate(text, limit, mark)
	})
}
