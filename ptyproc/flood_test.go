package ptyproc_test

import (
	"context"
	"os"
	"runtime"
	"testing"
	"time"

	"mcp-sandbox/ptyproc"
	"mcp-sandbox/ptyproc/ptyproctest"
	"mcp-sandbox/sandbox"
)

// TestFlood is the output part of AC-47: a process that writes without end
// takes no more memory than the buffer, and never stops for want of a reader.
func TestFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("writes for seconds")
	}
	for _, tty := range []bool{false, true} {
		table := ptyproc.NewTable(ptyproctest.NewUnconfined(t), ptyproc.Options{
			SpoolDir: t.TempDir(), SpoolLimit: 1 << 20, OnCancel: "leave",
		})
		var most uint64
		var written int64
		ctx, enough := context.WithCancel(context.Background())
		_, err := table.Start(ctx, ptyproc.StartRequest{
			Command: sandbox.Command{Argv: []string{"yes"}, Env: os.Environ(), Dir: "/", TTY: tty},
			Yield:   45 * time.Second,
			Progress: func(p ptyproc.Progress) {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most, written = max(most, m.HeapInuse+m.StackInuse), p.Bytes
				if written > 4<<20 && p.Elapsed > 2*time.Second {
					enough()
				}
			},
		})
		enough()
		rows := table.List()
		if err == nil || len(rows) != 1 || rows[0].State != ptyproc.StateRunning {
			t.Fatalf("%v %+v", err, rows)
		}
		t.Logf("tty %v: %d MiB written, %d MiB in use", tty, written>>20, most>>20)
		if most > 32<<20 {
			t.Errorf("tty %v: %d bytes in use after %d were written", tty, most, written)
		}
		k, err := table.Kill(context.Background(), rows[0].ID, 0)
		if err != nil || k.Exit == nil {
			t.Errorf("tty %v: %v %+v", tty, err, k)
		}
		if len(k.Output) != 1<<20 || k.Cut != 512<<10 || k.Dropped+int64(len(k.Output)) < written {
			t.Errorf("tty %v: %d bytes kept, %d dropped at %d, %d written", tty, len(k.Output), k.Dropped, k.Cut, written)
		}
		table.Close()
	}
}
