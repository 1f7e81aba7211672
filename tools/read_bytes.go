package tools

import (
	"context"
	"encoding/base64"
	"fmt"

	"mcp-sandbox/session"
)

// readBase64 is read_file with encoding base64: bytes as they are, for programs
// and for models that pass a few on.
func readBase64(ctx context.Context, c *call) (*reply, error) {
	req := session.ByteRequest{
		Path:   c.required("path"),
		Offset: int64(c.integer("offset", 0, -1<<53, 1<<53)),
		Limit:  int64(c.integer("limit", 0, 0, 1<<53)),
	}
	tokens := c.maxTokens()
	// Whoever names the bytes gets them all, unless somebody set a limit.
	bounded := req.Limit == 0 || c.has("max_output_tokens") || c.server.options.MaxOutputTokens > 0 || c.from.most > 0
	if c.boolean("line_numbers", false) {
		c.fail("line_numbers does not go with the encoding base64; leave it out")
	}
	if c.err != nil {
		return nil, c.err
	}
	asked := req.Limit
	if bounded {
		// A token of base64 is hardly ever more than four characters.
		req.Limit = min(int64(tokens)*3, 8<<20)
		if asked > 0 {
			req.Limit = min(req.Limit, asked)
		}
	}
	f, err := c.readBytes(ctx, req)
	if err != nil {
		return nil, err
	}
	text := base64.StdEncoding.EncodeToString(f.Content)
	if bounded {
		text = c.fitBase64(text, tokens)
	}
	n := base64.StdEncoding.DecodedLen(len(text))
	for i := len(text) - 1; i >= 0 && text[i] == '='; i-- {
		n--
	}
	end := f.Offset + int64(n)
	head := fmt.Sprintf("bytes %d-%d of %d", f.Offset, end-1, f.Size)
	if n == 0 {
		head = fmt.Sprintf("no bytes (of %d)", f.Size)
	}
	cut := end < f.Size && (asked == 0 || int64(n) < asked)
	out := map[string]any{
		"text": text, "encoding": "base64", "offset": f.Offset, "bytes": n, "size": f.Size,
		"version": f.Version, "kind": f.Kind, "mime": f.MIME, "truncated": cut,
	}
	if cut {
		out["next_offset"] = end
		head += fmt.Sprintf(", go on with offset %d", end)
	}
	return &reply{text: fmt.Sprintf("%s, %s, version %s\n%s", head, f.MIME, f.Version, text), structured: out}, nil
}

// fitBase64 is the longest beginning of text, in whole groups, that fits tokens
// and what the client shows.
func (c *call) fitBase64(text string, tokens int) string {
	from := c.from
	if c.server.options.MaxOutputTokens > 0 {
		from = otherClient
	}
	for len(text) > 0 {
		over := max(from.excess(text), float64(c.server.encoding.Count(text))/float64(tokens))
		if over <= 1 {
			break
		}
		next := int(float64(len(text))/over) &^ 3
		if next >= len(text) {
			next = len(text) - 4
		}
		text = text[:max(next, 0)]
	}
	return text
}
