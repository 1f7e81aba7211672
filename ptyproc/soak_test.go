package ptyproc_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mcp-sandbox/ptyproc"
	"mcp-sandbox/ptyproc/ptyproctest"
	"mcp-sandbox/sandbox"
)

var soak = flag.Duration("soak", 2*time.Second, "how long TestSoak runs; 10m before a release")

// TestSoak does everything at once to one table for a while. What it takes of
// the machine must not grow with what it has done.
func TestSoak(t *testing.T) {
	table := ptyproc.NewTable(ptyproctest.NewUnconfined(t), ptyproc.Options{
		SpoolDir: t.TempDir(), HeadBytes: 16 << 10, TailBytes: 16 << 10, SpoolLimit: 256 << 10, SpoolTotal: 4 << 20,
		KillGrace: 200 * time.Millisecond,
	})
	defer table.Close()
	end := time.Now().Add(*soak)
	var calls, rounds int
	var early, late usage
	for time.Now().Before(end) {
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() { work(t, table, worker) })
		}
		wg.Wait()
		calls += 8 * len(scripts())
		rounds++
		for _, p := range table.List() {
			if p.Exit == nil || p.BackgroundChildren > 0 {
				if _, err := table.Kill(context.Background(), p.ID, 0); err != nil {
					t.Fatalf("left over %+v: %v", p, err)
				}
			}
		}
		u := used()
		if time.Until(end) > *soak/2 {
			early = early.most(u)
		} else {
			late = late.most(u)
		}
	}
	t.Logf("%d commands in %d rounds; first half %+v, second half %+v", calls, rounds, early, late)
	if rounds < 4 {
		return
	}
	if late.files > early.files+2 || late.goroutines > early.goroutines+4 || late.heap > early.heap*3/2+(8<<20) {
		t.Errorf("grows: first half %+v, second half %+v", early, late)
	}
}

type usage struct {
	files, goroutines int
	heap              uint64
}

func (u usage) most(v usage) usage {
	return usage{max(u.files, v.files), max(u.goroutines, v.goroutines), max(u.heap, v.heap)}
}

func used() usage {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, _ := os.ReadDir("/proc/self/fd")
	return usage{len(files), runtime.NumGoroutine(), m.HeapInuse}
}

func scripts() []string {
	return []string{
		"echo hi", "exit 3", "sleep 5", "sleep 5 & echo bye", "kill -9 $$", "cat; echo over",
		"i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done", "printf '\\033[2J\\033[Hscreen'; sleep 5",
	}
}

// work runs each script once and then does something to it.
func work(t *testing.T, table *ptyproc.Table, worker int) {
	random := rand.New(rand.NewPCG(uint64(worker), 7))
	for i, script := range scripts() {
		tty := random.IntN(3) == 0
		r := ptyproc.StartRequest{
			Command:   sandbox.Command{Argv: []string{"sh", "-c", script}, Env: os.Environ(), Dir: "/", TTY: tty},
			KeepStdin: true, Yield: 250 * time.Millisecond, Progress: func(ptyproc.Progress) {},
		}
		if !tty {
			r.Stdin = sandbox.StdinPipe
		}
		if random.IntN(4) == 0 {
			r.Timeout = 100 * time.Millisecond
		}
		ctx, cancel := context.WithCancel(context.Background())
		if random.IntN(5) == 0 {
			time.AfterFunc(time.Duration(random.IntN(50))*time.Millisecond, cancel)
		}
		res, err := table.Start(ctx, r)
		switch c := errorCode(err); {
		case c == "cancelled" && ctx.Err() != nil:
		case err != nil:
			t.Errorf("%q: %v", script, err)
		case res.ID != 0:
			if err := poke(table, res.ID, random.IntN(6)); err != nil && errorCode(err) == "" {
				t.Errorf("worker %d, script %d: %v", worker, i, err)
			}
			if _, err := table.Kill(context.Background(), res.ID, 0); err != nil {
				t.Errorf("%q: %v", script, err)
			}
		case res.OutputID != "":
			if c, err := table.ReadOutput(res.OutputID, -1, 1, ""); err == nil && !strings.HasPrefix(c.Lines[0].Text, "line ") {
				t.Errorf("%q: kept %+v", script, c)
			}
		}
		cancel()
	}
}

func poke(table *ptyproc.Table, id, what int) error {
	var err error
	switch what {
	case 0:
		_, err = table.Write(context.Background(), ptyproc.WriteRequest{ID: id, Chars: []byte("text\n")})
	case 1:
		_, err = table.Write(context.Background(), ptyproc.WriteRequest{ID: id, Close: true})
	case 2:
		_, err = table.Kill(context.Background(), id, syscall.SIGUSR1)
	case 3:
		var s ptyproc.Screen
		if s, err = table.Screen(id); err == nil {
			_, err = s.PNG()
		}
	case 4:
		err = table.Resize(id, uint16(20+id%80), uint16(5+id%30))
	case 5:
		if rows := table.List(); len(rows) == 0 {
			err = fmt.Errorf("process %d is not listed", id)
		}
	}
	return err
}

func errorCode(err error) string {
	return sandbox.CodeOf(err)
}
