package ptyproctest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"mcp-sandbox/ptyproc"
	"mcp-sandbox/sandbox"
)

// Unconfined starts commands as they are. It knows the tree of a command by a
// mark in the environment, which every descendant inherits; that is good enough
// for tests, whose programs do not hide.
type Unconfined struct{}

// NewUnconfined makes one.
func NewUnconfined(*testing.T) ptyproc.Spawner { return Unconfined{} }

// Spawn implements ptyproc.Spawner.
func (Unconfined) Spawn(_ context.Context, s sandbox.Command) (sandbox.Process, error) {
	c := &child{mark: "PTYPROC_TEST=" + rand.Text(), done: make(chan struct{})}
	cmd := exec.Command(s.Argv[0], s.Argv[1:]...)
	cmd.Dir, cmd.Env = s.Dir, append(append([]string{}, s.Env...), c.mark)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			_ = f.Close()
		}
	}()
	switch {
	case s.TTY:
		master, slave, err := openTerminal()
		if err != nil {
			return nil, err
		}
		theirs = append(theirs, slave)
		c.in, c.out = master, master
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		cmd.SysProcAttr.Setctty = true
		if err := c.Resize(s.Cols, s.Rows); err != nil {
			return nil, errors.Join(err, master.Close())
		}
	default:
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		theirs = append(theirs, w)
		c.out = r
		cmd.Stdout, cmd.Stderr = w, w
		if s.Stdin == sandbox.StdinPipe {
			r, w, err := os.Pipe()
			if err != nil {
				return nil, errors.Join(err, c.out.Close())
			}
			theirs = append(theirs, r)
			c.in, cmd.Stdin = w, r
		}
	}
	if err := cmd.Start(); err != nil {
		if c.in != nil && c.in != c.out {
			_ = c.in.Close()
		}
		_ = c.out.Close()
		return nil, err
	}
	c.cmd = cmd
	go c.reap()
	return c, nil
}

// openTerminal makes the master non-blocking, as Child asks: the pty package's
// own, and every Fd of it, block.
func openTerminal() (master, slave *os.File, err error) {
	blocking, slave, err := pty.Open()
	if err != nil {
		return nil, nil, err
	}
	fd, err := unix.FcntlInt(blocking.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	_ = blocking.Close()
	if err != nil {
		return nil, nil, errors.Join(err, slave.Close())
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fd), slave.Close())
	}
	return os.NewFile(uintptr(fd), "terminal"), slave, nil
}

type child struct {
	cmd     *exec.Cmd
	mark    string
	in, out *os.File
	done    chan struct{}
	status  sandbox.ExitStatus
	ended   time.Time
}

func (c *child) reap() {
	_ = c.cmd.Wait()
	ws := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	c.status = sandbox.ExitStatus{Code: ws.ExitStatus()}
	if ws.Signaled() {
		c.status = sandbox.ExitStatus{Code: 128 + int(ws.Signal()), Signal: ws.Signal()}
	}
	c.ended = time.Now()
	close(c.done)
}

func (c *child) Pid() int                 { return c.cmd.Process.Pid }
func (c *child) Stdin() *os.File          { return c.in }
func (c *child) Stdout() *os.File         { return c.out }
func (c *child) Stderr() *os.File         { return nil }
func (c *child) Done() <-chan struct{}    { return c.done }
func (c *child) Wait() sandbox.ExitStatus { <-c.done; return c.status }
func (c *child) Ended() time.Time         { <-c.done; return c.ended }

func (c *child) SignalTree(sig syscall.Signal) error {
	for _, pid := range c.tree() {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

func (c *child) TreeAlive() (int, error) { return len(c.tree()), nil }

// tree lists the living processes that carry the mark. A zombie has no
// environment any more, so it is not among them.
func (c *child) tree() []int {
	if runtime.GOOS != "linux" {
		return c.group()
	}
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	names, _ := dir.Readdirnames(-1)
	_ = dir.Close()
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile("/proc/" + name + "/environ")
		if err == nil && bytes.Contains(env, []byte(c.mark)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// group is the nearest to a tree that a system without /proc can tell.
func (c *child) group() []int {
	if syscall.Kill(-c.Pid(), 0) != nil {
		return nil
	}
	return []int{-c.Pid()}
}

func (c *child) Resize(cols, rows uint16) error {
	rc, err := c.out.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = rc.Control(func(fd uintptr) {
		set = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows})
	})
	return errors.Join(err, set)
}
