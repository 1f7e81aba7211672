package serve

import "testing"

func TestParseMessage(t *testing.T) {
	for _, tc := range []struct {
		text string
		code int
	}{
		{`{"jsonrpc":"2.0","id":1,"method":"ping"}`, 0},
		{`{"jsonrpc":"2.0","id":"a","method":"ping","params":{}}`, 0},
		{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, 0},
		{`{"jsonrpc":"2.0","id":1,"result":{}}`, 0},
		{`nonsense`, -32700},
		{`[]`, -32600},
		{`5`, -32600},
		{`{"jsonrpc":"2.0","id":[1],"method":"ping"}`, -32600},
		{`{"jsonrpc":"2.0","id":true,"method":"ping"}`, -32600},
		{`{"jsonrpc":"2.0","id":null,"method":"ping"}`, -32600},
		{`{"jsonrpc":"2.0","id":1,"method":5}`, -32600},
		{`{"id":1,"method":"ping"}`, -32600},
		{`{"jsonrpc":"2.0","id":1}`, -32600},
		{`{"jsonrpc":"2.0","id":1,"METHOD":"ping","method":"ping"}`, -32600},
	} {
		_, err := parseMessage([]byte(tc.text))
		code := 0
		if err != nil {
			code = err.(*protocolError).code
		}
		if code != tc.code {
			t.Errorf("%s: %d, want %d", tc.text, code, tc.code)
		}
	}
}
