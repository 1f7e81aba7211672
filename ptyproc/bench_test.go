package ptyproc_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"mcp-sandbox/ptyproc"
	"mcp-sandbox/ptyproc/ptyproctest"
	"mcp-sandbox/sandbox"
)

// BenchmarkStart compares a whole command through the table with the same
// command by os/exec. "tree" is what the unconfined spawner spends on looking
// for descendants in /proc, which a confinement does otherwise.
func BenchmarkStart(b *testing.B) {
	b.Run("exec", func(b *testing.B) {
		for b.Loop() {
			if out, err := exec.Command("true").CombinedOutput(); err != nil || len(out) != 0 {
				b.Fatal(err)
			}
		}
	})
	for _, c := range []struct {
		name string
		sp   ptyproc.Spawner
		tty  bool
	}{{"pipe", treeless{}, false}, {"tty", treeless{}, true}, {"pipe+tree", ptyproctest.Unconfined{}, false}} {
		b.Run(c.name, func(b *testing.B) {
			table := ptyproc.NewTable(c.sp, ptyproc.Options{SpoolDir: b.TempDir()})
			defer table.Close()
			r := ptyproc.StartRequest{Command: sandbox.Command{Argv: []string{"true"}, Env: os.Environ(), Dir: "/", TTY: c.tty}, Yield: 10 * time.Second}
			b.ReportAllocs()
			for b.Loop() {
				if res, err := table.Start(context.Background(), r); err != nil || res.Exit == nil {
					b.Fatal(err, res)
				}
			}
		})
	}
}

// treeless leaves out the walk over /proc.
type treeless struct{ ptyproctest.Unconfined }

func (t treeless) Spawn(ctx context.Context, s sandbox.Command) (sandbox.Process, error) {
	c, err := t.Unconfined.Spawn(ctx, s)
	if err != nil {
		return nil, err
	}
	return leafChild{c}, nil
}

type leafChild struct{ sandbox.Process }

func (c leafChild) TreeAlive() (int, error) {
	select {
	case <-c.Done():
		return 0, nil
	default:
		return 1, nil
	}
}

// BenchmarkThroughput is output through the pump, the buffer and the screen.
func BenchmarkThroughput(b *testing.B) {
	const size = 64 << 20
	script := "head -c 67108864 /dev/zero | tr '\\0' 'x' | fold -w 79"
	for _, tty := range []bool{false, true} {
		name := "pipe"
		if tty {
			name = "tty"
		}
		b.Run(name, func(b *testing.B) {
			table := ptyproc.NewTable(treeless{}, ptyproc.Options{})
			defer table.Close()
			r := ptyproc.StartRequest{Command: sandbox.Command{Argv: []string{"sh", "-c", script}, Env: os.Environ(), Dir: "/", TTY: tty}, Yield: 45 * time.Second}
			b.SetBytes(size)
			for b.Loop() {
				if res, err := table.Start(context.Background(), r); err != nil || res.Exit == nil {
					b.Fatal(err, res.Running)
				}
			}
		})
	}
	b.Run("exec", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			cmd := exec.Command("sh", "-c", script)
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, out)
			if err := cmd.Wait(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
