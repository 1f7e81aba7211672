package serve

import (
	"bytes"
	"context"
	"crypto/rand"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"mcp-sandbox/tools"
)

// A message is decoded here and then several times by the library, each time in full. So the large strings among the arguments of a
// call are decoded once and taken out of the text first; short stand-ins pass
// through the decoders and are replaced again before a tool is called.

// largeString is the length in bytes from which a string is taken out.
const largeString = 32 << 10

// standIn begins every stand-in. It is random, so that no argument can look like
// one.
var standIn = sync.OnceValue(func() string { return "large string " + rand.Text() + " " })

// takeLarge takes the large strings of params.arguments out of a message. What
// it does not take, or what is not JSON, is left for the decoders to judge.
func takeLarge(text []byte) (short []byte, large []string) {
	if len(text) < largeString {
		return text, nil
	}
	var (
		depth             int
		params, arguments bool // the last key at depth 1, at depth 2
		value             bool // a colon was the last token
		kept              int  // text up to here is in short or left out
	)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case ' ', '\t', '\r', '\n':
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			end := endOfString(text, i+1)
			if end < 0 {
				return append(short, text[kept:]...), large
			}
			raw := text[i+1 : end]
			switch {
			case value && depth == 3 && params && arguments && len(raw) >= largeString:
				if s, ok := unquoteJSON(raw); ok {
					short = append(append(short, text[kept:i+1]...), standIn()...)
					short = strconv.AppendInt(short, int64(len(large)), 10)
					large, kept = append(large, s), end
				}
			case !value && depth == 1:
				params, arguments = string(raw) == "params", false
			case !value && depth == 2:
				arguments = string(raw) == "arguments"
			}
			i = end
		case ':':
			value = true
			continue
		}
		value = false
	}
	if large == nil {
		return text, nil
	}
	return append(short, text[kept:]...), large
}

// endOfString is where the string that begins at from is closed; -1 if it is not.
func endOfString(text []byte, from int) int {
	for at := from; ; at++ {
		n := bytes.IndexByte(text[at:], '"')
		if n < 0 {
			return -1
		}
		at += n
		first := at
		for first > from && text[first-1] == '\\' {
			first--
		}
		if (at-first)%2 == 0 {
			return at
		}
	}
}

// unquoteJSON decodes what stands between the quotes of a JSON string. It is not
// ok where decoders differ or refuse: invalid UTF-8, half a surrogate pair,
// control characters, unknown escapes.
func unquoteJSON(raw []byte) (_ string, ok bool) {
	if !utf8.Valid(raw) {
		return "", false
	}
	for _, c := range raw {
		if c < ' ' {
			return "", false
		}
	}
	var out strings.Builder
	out.Grow(len(raw))
	for {
		n := bytes.IndexByte(raw, '\\')
		if n < 0 {
			out.Write(raw)
			return out.String(), true
		}
		out.Write(raw[:n])
		raw = raw[n+1:]
		if len(raw) == 0 {
			return "", false
		}
		c := raw[0]
		raw = raw[1:]
		switch c {
		case '"', '\\', '/':
			out.WriteByte(c)
		case 'b':
			out.WriteByte('\b')
		case 'f':
			out.WriteByte('\f')
		case 'n':
			out.WriteByte('\n')
		case 'r':
			out.WriteByte('\r')
		case 't':
			out.WriteByte('\t')
		case 'u':
			r, ok := fourHex(raw)
			if !ok {
				return "", false
			}
			raw = raw[4:]
			if r >= 0xD800 && r < 0xE000 {
				if r >= 0xDC00 || !bytes.HasPrefix(raw, []byte(`\u`)) {
					return "", false
				}
				low, ok := fourHex(raw[2:])
				if !ok || low < 0xDC00 || low > 0xDFFF {
					return "", false
				}
				raw = raw[6:]
				r = (r-0xD800)<<10 | (low - 0xDC00) + 0x10000
			}
			out.WriteRune(r)
		default:
			return "", false
		}
	}
}

func fourHex(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[:4]), 16, 16)
	return rune(n), err == nil
}

type largeKey struct{}

// hasHalfPair says whether some string holds half of a surrogate pair, which the
// decoder replaces by U+FFFD without saying so.
func hasHalfPair(text []byte) bool {
	for i := 0; ; {
		n := bytes.IndexByte(text[i:], '\\')
		if n < 0 || i+n+1 >= len(text) {
			return false
		}
		i += n + 2 // past the escaped character
		if text[i-1] != 'u' {
			continue
		}
		r, ok := fourHex(text[i:])
		if !ok || r < 0xD800 || r > 0xDFFF {
			continue
		}
		if i += 4; r >= 0xDC00 || !bytes.HasPrefix(text[i:], []byte(`\u`)) {
			return true
		}
		if low, ok := fourHex(text[i+2:]); !ok || low < 0xDC00 || low > 0xDFFF {
			return true
		}
		i += 6
	}
}

// withLarge carries to the call of the tool what its message was read without.
func withLarge(ctx context.Context, msg message) context.Context {
	var notes []string
	if msg.halved {
		notes = append(notes, `the arguments held half of a surrogate pair (\ud800 to \udfff alone), which became U+FFFD`)
	}
	if msg.broken {
		notes = append(notes, "the arguments held bytes that are not UTF-8, which became U+FFFD; send bytes as base64 where the tool takes it")
	}
	if notes != nil {
		ctx = from(ctx, func(c *tools.Caller) { c.Notes = notes })
	}
	if msg.large == nil {
		return ctx
	}
	return context.WithValue(ctx, largeKey{}, msg.large)
}

// giveLarge puts the large strings back among the arguments of a call.
func giveLarge(next server.ToolHandlerFunc) server.ToolHandlerFunc {
	return func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		large, _ := ctx.Value(largeKey{}).([]string)
		if fields, ok := req.Params.Arguments.(map[string]any); ok && large != nil {
			for name, v := range fields {
				s, _ := v.(string)
				number, ok := strings.CutPrefix(s, standIn())
				if n, err := strconv.Atoi(number); ok && err == nil && n >= 0 && n < len(large) {
					fields[name] = large[n]
				}
			}
		}
		return next(ctx, req)
	}
}
