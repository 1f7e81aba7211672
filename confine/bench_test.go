//go:build linux

package confine

import (
	"context"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
)

// One run compares a confined command with the same command unconfined:
//
//	go test -run '^$' -bench . ./confine/
//
// The difference, not the absolute, is what the sandbox costs.

var benchArgv = map[string][]string{
	"true":    {"/bin/true"},
	"sh-true": {"/bin/sh", "-c", "true"},
}

func BenchmarkPlainExec(b *testing.B) {
	for name, argv := range benchArgv {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBubblewrap is the same command under bwrap, which builds its sandbox
// anew each time: a read-only system, a private /tmp, /dev and /proc, all
// namespaces.
func BenchmarkBubblewrap(b *testing.B) {
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		b.Skip("bubblewrap is not installed")
	}
	for name, argv := range benchArgv {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			args := append([]string{"--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr",
				"--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64",
				"--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--bind", dir, dir, "--chdir", dir, "--"}, argv...)
			for b.Loop() {
				if out, err := exec.Command(bwrap, args...).CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
			}
		})
	}
}

func BenchmarkConfinedExec(b *testing.B) {
	for name, argv := range benchArgv {
		for _, tty := range []bool{false, true} {
			kind := "/pipe"
			if tty {
				kind = "/tty"
			}
			b.Run(name+kind, func(b *testing.B) {
				p := testPolicy(b)
				s := start(b, p)
				c := sandbox.Command{Argv: argv, Env: s.Environ(), Dir: p.Workspace, TTY: tty}
				for b.Loop() {
					proc, err := s.Spawn(context.Background(), c)
					if err != nil {
						b.Fatal(err)
					}
					io.Copy(io.Discard, proc.Stdout())
					if st := proc.Wait(); st.Code != 0 {
						b.Fatal(st)
					}
					proc.Stdout().Close()
				}
			})
		}
	}
}

func BenchmarkParallelConfinedExec(b *testing.B) {
	p := testPolicy(b)
	s := start(b, p)
	c := sandbox.Command{Argv: benchArgv["true"], Env: s.Environ(), Dir: p.Workspace}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			proc, err := s.Spawn(context.Background(), c)
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, proc.Stdout())
			proc.Wait()
			proc.Stdout().Close()
		}
	})
}

// BenchmarkSessionStart is from the policy to a sandbox that takes commands, with
// an init that is booted when it is asked for ("cold") and with one that waits
// ("standby"), both also with a gate; the close is not counted. The median is what to look at: one start
// while the machine is busy weighs in the mean like ten others.
func BenchmarkSessionStart(b *testing.B) {
	for _, name := range []string{"cold", "standby", "cold-gate", "standby-gate"} {
		b.Run(name, func(b *testing.B) {
			p := testPolicy(b)
			name, gated := strings.CutSuffix(name, "-gate")
			if gated {
				p.Network = sandbox.NetworkAllow
			}
			var warm *WarmInit
			if name == "standby" {
				warm = &WarmInit{}
				defer warm.Close()
			}
			var took []time.Duration
			for b.Loop() {
				if name == "standby" {
					b.StopTimer()
					warm.Prepare(p)
					warm.wait()
					b.StartTimer()
				}
				began := time.Now()
				s, err := warm.Start(context.Background(), p)
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
				b.StopTimer()
				s.Close()
				b.StartTimer()
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-us")
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds()), "p95-us")
		})
	}
}

func BenchmarkSessionStartAndClose(b *testing.B) {
	p := testPolicy(b)
	for b.Loop() {
		s, err := Start(context.Background(), p)
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

// BenchmarkCreateFiles is what the guard of missing protected paths costs: 1000
// files made by one command, with and without it.
func BenchmarkCreateFiles(b *testing.B) {
	for _, c := range []struct {
		name    string
		protect []string
	}{{"unguarded", nil}, {"guarded", []string{".vscode"}}} {
		b.Run(c.name, func(b *testing.B) {
			p := testPolicy(b)
			p.Protect = c.protect
			s := start(b, p)
			for b.Loop() {
				if _, st := sh(b, s, p.Workspace, "i=0; while [ $i -lt 1000 ]; do : > f$i; i=$((i+1)); done"); st.Code != 0 {
					b.Fatal(st)
				}
			}
		})
	}
}
