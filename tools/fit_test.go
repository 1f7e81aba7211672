package tools

import (
	"strings"
	"testing"

	"mcp-sandbox/tokens"
)

// TestFit: what a client would cut again is cut here, whatever a token weighs.
func TestFit(t *testing.T) {
	encoding, err := tokens.Get("o200k_base")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{
		"words":   strings.Repeat("internationalization responsibilities ", 5000),
		"blanks":  strings.Repeat(strings.Repeat(" ", 100)+"x\n", 3000),
		"numbers": strings.Repeat("1234567\n", 30_000),
		"rules":   strings.Repeat(strings.Repeat("=", 200)+"\n", 2000),
		"short":   "as it is\n",
	}
	for _, from := range append(clients, otherClient) {
		c := &call{server: &Server{encoding: encoding}, from: from}
		for name, text := range texts {
			got := c.truncate(text, from.tokens, func(int, int) string { return "[... MARK ...]" })
			if over := from.excess(got.Text); over > 1 {
				t.Errorf("%s, %s: %d bytes in %d lines", from.name, name, len(got.Text), strings.Count(got.Text, "\n"))
			}
			if got.Truncated && !strings.Contains(got.Text, "MARK") || name == "short" && got.Text != text {
				t.Errorf("%s, %s: %.60q", from.name, name, got.Text)
			}
			if n := encoding.Count(got.Text); n > from.tokens {
				t.Errorf("%s, %s: %d tokens", from.name, name, n)
			}
		}
		c.server.options.MaxOutputTokens = 100_000
		if got := c.truncate(texts["words"], 100_000, nil); got.Truncated {
			t.Errorf("%s: the operator's bound does not stand for its own", from.name)
		}
	}
}
