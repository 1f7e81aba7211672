package serve

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
)

// viaShortened decodes a message as the server does: short first, then with its
// large strings put back.
func viaShortened(t testing.TB, text string) (message, any, error) {
	t.Helper()
	msg, short, err := parseShortened([]byte(text))
	if err != nil {
		return msg, nil, err
	}
	var req mcp.CallToolRequest
	if err := json.Unmarshal(short, &req); err != nil {
		return msg, nil, err
	}
	_, err = giveLarge(func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		req = r
		return nil, nil
	})(withLarge(t.Context(), msg), req)
	return msg, req.Params.Arguments, err
}

func toolCall(arguments string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"write_file","arguments":` + arguments + `}}`
}

// TestLargeStrings: arguments are the same whether they were taken out of the
// message or not, and only those of a tool call are.
func TestLargeStrings(t *testing.T) {
	pad := strings.Repeat("x", largeString)
	for _, tc := range []struct {
		text  string
		taken int
	}{
		{toolCall(`{"path":"a","content":"@"}`), 1},
		{toolCall(`{"content":"@","path":"@é\n\t\"\\\/\b\f\r\u00e9\ud83d\ude00"}`), 2},
		{toolCall("{ \"content\" :\n \"\\\"@\\\\\" , \"n\": [1, \"@\", {\"content\": \"@\"}], \"path\": \"a\" }"), 1},
		{toolCall(`{"con\u0074ent":"@"}`), 1},
		{toolCall(`{"@":"@"}`), 1},
		{toolCall(`["@"]`), 0},
		{toolCall(`"@"`), 0},
		// What decoders have their own opinion about stays in the text.
		{toolCall(`{"content":"@` + "\xff" + `"}`), 0},
		{toolCall(`{"content":"@\ud83d"}`), 0},
		{toolCall(`{"content":"@\ude00\ud83d"}`), 0},
		{toolCall(`{"content":"@\ud83dx"}`), 0},
		{toolCall(`{"content":"@\u12G4"}`), 0},
		{toolCall(`{"content":"@\x"}`), 0},
		{toolCall(`{"content":"@` + "\n" + `"}`), 0},
		{toolCall(`{"content":"@\"}`), 0},
		{toolCall(`{"content":"@`), 0},
		{toolCall(`{"content":"@"`), 0},
		{toolCall(`{"content":"@" "path":"b"}`), 0},
		{strings.Replace(toolCall(`{"content":"@"}`), "tools/call", "prompts/get", 1), 0},
		{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"a":"@"},"name":"@","arguments":{"content":"@"}}}`, 1},
		{`{"params":{"arguments":{"content":"@"},"name":"x"},"x":{"arguments":{"a":"@"}},"method":"tools/call","id":"@","jsonrpc":"2.0"}`, 1},
		{`[` + toolCall(`{"content":"@"}`) + `]`, 0},
	} {
		text := strings.ReplaceAll(tc.text, "@", pad)
		msg, got, err := viaShortened(t, text)
		if len(msg.large) != tc.taken {
			t.Errorf("%s: %d strings were taken out, not %d", tc.text, len(msg.large), tc.taken)
		}
		sameAsDecoded(t, tc.text, text, got, err)
	}
	// A client cannot name a stand-in, and a short one stays what it is.
	if _, got, err := viaShortened(t, toolCall(`{"content":"large string AAAA 0","path":"`+pad+`"}`)); err != nil || got.(map[string]any)["content"] != "large string AAAA 0" {
		t.Errorf("%v %.100v", err, got)
	}
}

func sameAsDecoded(t testing.TB, name, text string, got any, err error) {
	t.Helper()
	_, plainErr := parseMessage([]byte(text))
	var want mcp.CallToolRequest
	if plainErr == nil {
		plainErr = json.Unmarshal([]byte(text), &want)
	}
	if (err == nil) != (plainErr == nil) || err == nil && !reflect.DeepEqual(got, want.Params.Arguments) {
		t.Errorf("%.200s: %v, %.200v; decoded at once %v, %.200v", name, err, got, plainErr, want.Params.Arguments)
	}
}

func FuzzLargeStrings(f *testing.F) {
	for _, s := range []string{`{"a":"@"}`, `{"a":"@\n\u0061\ud83d\ude00","b":["@"],"@":1}`, `{"a":"@\"}`, `"@"`, `{"a":"@"}},"params":{"arguments":{"b":"@"}`} {
		f.Add(s)
	}
	pad := strings.Repeat("y", largeString)
	f.Fuzz(func(t *testing.T, arguments string) {
		if strings.Count(arguments, "@") > 8 {
			return
		}
		text := strings.ReplaceAll(toolCall(arguments), "@", pad)
		_, got, err := viaShortened(t, text)
		sameAsDecoded(t, arguments, text, got, err)
	})
}

// BenchmarkLargeMessage is a write of 20 MB up to the tool, with and without its
// large string taken out of the way of the decoders.
func BenchmarkLargeMessage(b *testing.B) {
	text := []byte(toolCall(`{"path":"a","content":"` + strings.Repeat("QUJD", 7<<20) + `"}`))
	b.Run("shortened", func(b *testing.B) {
		for b.Loop() {
			_, _, err := viaShortened(b, string(text))
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decoded once", func(b *testing.B) {
		for b.Loop() {
			var req mcp.CallToolRequest
			if err := json.Unmarshal(text, &req); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestHalfPair: half of a surrogate pair is told, a whole one is not.
func TestHalfPair(t *testing.T) {
	for text, want := range map[string]bool{
		`{"a":"\ud83d\ude00"}`: false, `{"a":"\ud83d"}`: true, `{"a":"\ude00"}`: true, `{"a":"\ud83d x"}`: true, `{"a":"\ud83d\u0041"}`: true,
		`{"a":"\\ud83d"}`: false, `{"a":"\\\ud83d"}`: true, `{"a":"\n\"\u00e9"}`: false, `{"a":"\uD83D\uDE00\uD83D"}`: true, `{"a":"plain"}`: false, `{"a":"\`: false,
	} {
		if got := hasHalfPair([]byte(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
