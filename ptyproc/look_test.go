package ptyproc

import (
	"context"
	"io"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
)

// asked is a puppet that says what each look finds.
type asked struct {
	*puppet
	look func(n int) sandbox.InputState
	n    int
}

func (a *asked) AwaitsInput(context.Context) sandbox.InputState {
	a.n++
	return a.look(a.n)
}

// TestTypedMeanwhile: what was typed after the look is what the child waited
// for, whoever typed it. The call goes on until the child waits again.
func TestTypedMeanwhile(t *testing.T) {
	start := func(t *testing.T, r StartRequest, look func(p *puppet, table *Table, n int) sandbox.InputState) (Result, int) {
		p := newPuppet(t)
		child := &asked{puppet: p}
		var table *Table
		child.look = func(n int) sandbox.InputState { return look(p, table, n) }
		table = NewTable(spawnFunc(func(context.Context, sandbox.Command) (sandbox.Process, error) { return child, nil }), Options{})
		t.Cleanup(table.Close)
		r.Yield = time.Minute
		res, err := table.Start(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return res, child.n
	}
	terminal := StartRequest{Command: sandbox.Command{Argv: []string{"x"}, TTY: true, Cols: 80, Rows: 24}}

	t.Run("the terminal's reply", func(t *testing.T) {
		res, looks := start(t, terminal, func(p *puppet, _ *Table, n int) sandbox.InputState {
			switch n {
			case 1:
				_, _ = io.WriteString(p.write, "\x1b[6n")
				if got := make([]byte, 6); readFull(t, p, got) != "\x1b[1;1R" {
					t.Errorf("reply %q", got)
				}
			case 2:
				_, _ = io.WriteString(p.write, "done")
			}
			return sandbox.InputWaits
		})
		if string(res.Output) != "\x1b[6ndone" || !res.AwaitingInput || looks < 2 {
			t.Errorf("%q after %d looks, awaiting %v", res.Output, looks, res.AwaitingInput)
		}
	})
	t.Run("another call", func(t *testing.T) {
		res, looks := start(t, terminal, func(p *puppet, table *Table, n int) sandbox.InputState {
			switch n {
			case 1:
				proc, _, err := table.lookup(table.List()[0].ID)
				if err != nil {
					t.Error(err)
					return sandbox.InputWaits
				}
				if _, err := proc.write(t.Context(), WriteRequest{Chars: []byte("y\n")}, time.Minute); err != nil {
					t.Error(err)
				}
				readFull(t, p, make([]byte, 2))
			case 2:
				_, _ = io.WriteString(p.write, "done")
			}
			return sandbox.InputWaits
		})
		if string(res.Output) != "done" || !res.AwaitingInput || looks < 2 {
			t.Errorf("%q after %d looks, awaiting %v", res.Output, looks, res.AwaitingInput)
		}
	})
	t.Run("the text of the start", func(t *testing.T) {
		r := StartRequest{Command: sandbox.Command{Argv: []string{"x"}, Stdin: sandbox.StdinPipe}, KeepStdin: true}
		// More than a pipe takes: it is written while the call waits.
		r.StdinText = string(make([]byte, 1<<20))
		res, _ := start(t, r, func(p *puppet, _ *Table, n int) sandbox.InputState {
			if n == 2 {
				readFull(t, p, make([]byte, 1<<20))
				_, _ = io.WriteString(p.write, "done")
			}
			return sandbox.InputWaits
		})
		if string(res.Output) != "done" || !res.AwaitingInput {
			t.Errorf("%q, awaiting %v", res.Output, res.AwaitingInput)
		}
	})
}

func readFull(t *testing.T, p *puppet, b []byte) string {
	t.Helper()
	if _, err := io.ReadFull(p.read, b); err != nil {
		t.Error(err)
	}
	return string(b)
}
