package confine

import (
	"mcp-sandbox/sandbox"
	"os"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// commandIO is both ends of a command's standard files.
type commandIO struct {
	stdin, stdout, stderr *os.File
	theirs                [3]*os.File
	script                *os.File // their descriptor 3, nil without
	tty                   string
}

func (io *commandIO) files() []*os.File {
	if io.script == nil {
		return io.theirs[:]
	}
	return append(io.theirs[:], io.script)
}

// openScript feeds a pipe; whoever does not read it to its end ends the feeding.
func (io *commandIO) openScript(text string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	io.script = r
	go func() {
		_, _ = w.WriteString(text)
		_ = w.Close()
	}()
	return nil
}

func openCommandIO(c sandbox.Command) (_ *commandIO, err error) {
	io := &commandIO{}
	defer func() {
		if err != nil {
			io.closeTheirs()
			io.closeOurs()
		}
	}()
	if c.Script != "" {
		if err := io.openScript(c.Script); err != nil {
			return nil, err
		}
	}
	if c.TTY {
		return io, io.openTerminal(c)
	}
	if c.Stdin == sandbox.StdinPipe {
		if io.theirs[0], io.stdin, err = os.Pipe(); err != nil {
			return nil, err
		}
	} else if io.theirs[0], err = os.Open(os.DevNull); err != nil {
		return nil, err
	}
	if io.stdout, io.theirs[1], err = os.Pipe(); err != nil {
		return nil, err
	}
	io.theirs[2] = io.theirs[1]
	if c.SplitStderr {
		io.stderr, io.theirs[2], err = os.Pipe()
	}
	return io, err
}

// openTerminal makes the master nonblocking, which is what gives deadlines.
func (io *commandIO) openTerminal(c sandbox.Command) error {
	master, slave, err := pty.Open()
	if err != nil {
		return err
	}
	io.theirs = [3]*os.File{slave, slave, slave}
	io.tty = slave.Name()
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	master.Close()
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return err
	}
	io.stdin = os.NewFile(uintptr(fd), "terminal")
	io.stdout = io.stdin
	cols, rows := c.Cols, c.Rows
	if cols == 0 || rows == 0 {
		cols, rows = 80, 24
	}
	return setTerminalSize(io.stdin, cols, rows)
}

func (io *commandIO) closeTheirs() {
	for i, f := range io.theirs {
		if f != nil && (i == 0 || f != io.theirs[i-1]) {
			f.Close()
		}
	}
	io.theirs = [3]*os.File{}
	if io.script != nil {
		io.script.Close()
	}
}

func (io *commandIO) closeOurs() {
	for _, f := range []*os.File{io.stdin, io.stdout, io.stderr} {
		if f != nil {
			f.Close() // a terminal twice: the second close only fails
		}
	}
}
