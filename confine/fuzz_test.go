//go:build linux

package confine

import (
	"reflect"
	"strings"
	"testing"

	"mcp-sandbox/sandbox"
)

// FuzzSpawnRequest: a payload that is taken says the same when it is written
// again, byte for byte, so nothing in it was overlooked or read twice.
func FuzzSpawnRequest(f *testing.F) {
	for _, q := range []spawnRequest{
		{},
		{1, sandbox.Command{Dir: "/w", Argv: []string{"sh", "-c", "x"}, Env: []string{"A=b", ""}, TTY: true, Cols: 3, Rows: 2}, false},
		{2, sandbox.Command{Stdin: sandbox.StdinPipe, SplitStderr: true}, true},
	} {
		e := q.encode()
		f.Add(e.b[frameHeader+1:])
	}
	f.Add([]byte{1, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, payload []byte) {
		q, err := decodeSpawn(&decoder{b: payload})
		if err != nil {
			return
		}
		size := len(q.Dir)
		for _, s := range append(q.Argv, q.Env...) {
			size += len(s)
		}
		if size > len(payload) {
			t.Fatalf("%d bytes of text out of %d", size, len(payload))
		}
		again, err := decodeSpawn(&decoder{b: q.encode().b[frameHeader+1:]})
		if err != nil || !reflect.DeepEqual(again, q) {
			t.Fatalf("%+v became %+v, %v", q, again, err)
		}
	})
}

// FuzzProbeAnswer: an answer that is taken was ended by its child.
func FuzzProbeAnswer(f *testing.F) {
	f.Add("userns 0\nmount 1\nend 0\n")
	f.Add("userns 0\n")
	f.Add("end")
	f.Fuzz(func(t *testing.T, text string) {
		steps, err := parseProbe(text)
		if err != nil {
			return
		}
		if _, ok := steps["end"]; ok || !strings.Contains(text, "end ") {
			t.Fatalf("%q was taken as %v", text, steps)
		}
		if len(steps) > strings.Count(text, "\n")+1 {
			t.Fatalf("%q has fewer lines than %v", text, steps)
		}
	})
}
