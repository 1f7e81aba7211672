package ptyproc

import (
	"context"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
)

// TestPruneSparesAwaited: a process that has ended while a call waits for it is not
// pruned, however long ago it was used; the call would lose its result.
func TestPruneSparesAwaited(t *testing.T) {
	p := newPuppet(t)
	table := puppetTable(t, p, Options{MinYield: time.Millisecond})
	r := someCommand
	r.Yield = time.Millisecond
	res := start(t, table, r)
	proc, _, err := table.lookup(res.ID)
	if err != nil {
		t.Fatal(err)
	}
	leave := proc.enter() // as a call does before it waits
	_ = p.write.Close()
	p.die(sandbox.ExitStatus{Code: 3})
	prune := func() bool {
		table.mu.Lock()
		order := table.byLastUse()
		table.mu.Unlock()
		return table.pruneOne(order)
	}
	if !proc.finished() || prune() {
		t.Fatal("a process a call waits for was pruned")
	}
	leave()
	if !prune() {
		t.Fatal("a process nobody waits for was not pruned")
	}
	if _, err := table.Write(context.Background(), WriteRequest{ID: res.ID}); sandbox.CodeOf(err) != "process_not_found" {
		t.Error(err)
	}
}
