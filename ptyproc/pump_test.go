package ptyproc_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"mcp-sandbox/ptyproc"
	"mcp-sandbox/ptyproc/ptyproctest"
	"mcp-sandbox/sandbox"
)

// TestFloodIsWhole: of a flood, which is read in larger pieces from a wider pipe, every
// byte is kept.
func TestFloodIsWhole(t *testing.T) {
	table := ptyproc.NewTable(ptyproctest.NewUnconfined(t), ptyproc.Options{SpoolDir: t.TempDir()})
	defer table.Close()
	const lines = 300_000
	res, err := table.Start(context.Background(), ptyproc.StartRequest{
		Command: sandbox.Command{
			Argv: []string{"sh", "-c", fmt.Sprintf("seq %d; printf end", lines)},
			Env:  os.Environ(), Dir: "/",
		},
		Yield: 45 * time.Second,
	})
	if err != nil || res.Exit == nil {
		t.Fatal(err, res.Exit)
	}
	var want bytes.Buffer
	for i := 1; i <= lines; i++ {
		fmt.Fprintln(&want, i)
	}
	want.WriteString("end")
	r, err := table.OpenOutput(res.OutputID)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes were kept of %d, %v", len(got), want.Len(), err)
	}
	if !bytes.HasSuffix(res.Output, []byte("\n300000\nend")) || res.Dropped+int64(len(res.Output)) != int64(want.Len()) {
		t.Errorf("the reply has %d bytes and %d dropped, and ends with %.20q", len(res.Output), res.Dropped, res.Output[max(0, len(res.Output)-20):])
	}
}
