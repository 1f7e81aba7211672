package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mcp-sandbox/bench/internal/stdio"
)

// wrapper is the session of a program that confines one command: every command
// starts it again, and its output comes to the client as it is.
type wrapper struct {
	command  func(command string) *exec.Cmd
	received atomic.Int64

	mu      sync.Mutex
	running []*exec.Cmd
}

func newWrapper(command func(string) *exec.Cmd) *wrapper { return &wrapper{command: command} }

func (w *wrapper) start(command string) (*exec.Cmd, *stdio.Tail, error) {
	cmd := w.command(command)
	var stderr stdio.Tail
	cmd.Stdout = countTo{&w.received}
	cmd.Stderr = &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// What outlives the wrapper may hold its pipes.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	w.mu.Lock()
	w.running = append(w.running, cmd)
	w.mu.Unlock()
	return cmd, &stderr, nil
}

func (w *wrapper) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, c := range w.running {
		if c == cmd {
			w.running = append(w.running[:i], w.running[i+1:]...)
			break
		}
	}
	return err
}

func (w *wrapper) Run(ctx context.Context, command string) error {
	cmd, stderr, err := w.start(command)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := w.wait(cmd); err != nil {
		return fmt.Errorf("%w: %s", err, stdio.FirstLine(stderr.LastLine()))
	}
	return nil
}

func (w *wrapper) Launch(_ context.Context, command string) (func(context.Context) error, error) {
	cmd, _, err := w.start(command)
	if err != nil {
		return nil, err
	}
	// Waited for at once, so that a killed wrapper is not a zombie that looks alive.
	go func() { _ = w.wait(cmd) }()
	return func(context.Context) error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return nil
	}, nil
}

func (*wrapper) Terminal(context.Context) (func(context.Context, string) error, func(), error) {
	return nil, nil, onlyWraps
}
func (*wrapper) Read(context.Context, file) error                      { return onlyWraps }
func (*wrapper) SearchText(context.Context, string, string, int) error { return onlyWraps }
func (*wrapper) FindNames(context.Context, string, string, int) error  { return onlyWraps }
func (*wrapper) Tools(context.Context) (json.RawMessage, error)        { return nil, onlyWraps }
func (w *wrapper) Received() int64                                     { return w.received.Load() }

func (w *wrapper) PIDs() []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	var pids []int
	for _, c := range w.running {
		pids = append(pids, c.Process.Pid)
	}
	return pids
}

func (w *wrapper) Close() {
	for _, pid := range w.PIDs() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// countTo counts what it is given, as a client that reads and drops it.
type countTo struct{ n *atomic.Int64 }

func (c countTo) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

var _ io.Writer = countTo{}
