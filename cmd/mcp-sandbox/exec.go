package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"mcp-sandbox/confine"
	"mcp-sandbox/library"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/session"
)

func newExec() *cobra.Command {
	s := settings{records: true}
	var tty, pipes bool
	cmd := &cobra.Command{
		Use:   "exec [flags] [--] CMD...",
		Short: "Run one confined command and return its exit status",
		Long:  "Run one confined command in a fresh session, its output streamed as it comes, and\nreturn its exit status: 128+n for signal n, 2 for wrong usage, 125 when it could not\nbe run. Flags of exec end at the first word of the command. One argument is a shell\nline; several are quoted and joined.",
		Example: `  mcp-sandbox exec --root . go test ./...
  mcp-sandbox exec --root . --read-only --network allow --allow-host pypi.org -- 'pip download x 2>&1 | tail -3'
  mcp-sandbox exec -t bash`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return badSetting("a command is missing; write it after the flags, such as: mcp-sandbox exec -- 'id; ls'")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if tty && pipes {
				return badSetting("-t and -T contradict each other; give one of them")
			}
			if err := s.load(cmd.Flags()); err != nil {
				return err
			}
			tty = tty || !pipes && isTerminal(os.Stdin) && isTerminal(os.Stdout)
			return execOnce(cmd.Context(), &s, args, tty)
		},
	}
	s.register(cmd.Flags())
	completeValues(cmd)
	cmd.Flags().SetInterspersed(false)
	showOnly(cmd.Flags(), oneCommand...)
	show(cmd.Flags(), "key-file")
	cmd.Flags().BoolVarP(&tty, "tty", "t", false, "run on a terminal even if stdin or stdout is not one (default: if both are)")
	cmd.Flags().BoolVarP(&pipes, "no-tty", "T", false, "run on pipes even if stdin and stdout are terminals")
	return cmd
}

func execOnce(ctx context.Context, s *settings, args []string, tty bool) error {
	// It ends before what it would collect is worth the threads of a collector.
	debug.SetGCPercent(400)
	line := args[0]
	if len(args) > 1 {
		line = strings.Join(shellWords(args), " ")
	}
	if strings.TrimSpace(line) == "" {
		return badSetting("the command is empty; write one, such as: mcp-sandbox exec -- 'id; ls'")
	}
	// An interrupt ends the start; once the command runs, it is the command's.
	interrupts := make(chan os.Signal, 8)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	starting := ctx
	ctx, noTerm := signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGTERM)
	defer noTerm()
	ctx, stop := s.reloadOnSIGHUP(ctx)
	defer stop()
	starting, started := context.WithCancel(starting)
	defer started()
	defer context.AfterFunc(ctx, started)()
	launch := library.Launcher{Gateway: s.gateway, Warm: &confine.WarmInit{Once: true}}
	defer launch.Warm.Close()
	s.session.TellsStart = true
	m, err := session.NewManager(s.session, launch)
	if err != nil {
		return err
	}
	launch.Prepare(m.Config())
	sess, err := m.Get(starting, "exec")
	if err != nil {
		return errors.Join(err, m.Close())
	}
	change, err := sess.BeginChange(starting, session.Destroys, nil)
	if err != nil {
		return errors.Join(err, m.Close())
	}
	code, err := recorded(ctx, m, sess, line, func() (int, error) { return stream(ctx, sess, line, tty, interrupts) })
	change.End(ctx)
	for _, n := range sess.Notices() {
		fmt.Fprintln(operator(os.Stderr), "mcp-sandbox:", asCommands(n, sess.Root()))
	}
	// Closed before the exit status is passed on: os.Exit runs no deferred call.
	if err := errors.Join(err, m.Close()); err != nil {
		return err
	}
	if code != 0 {
		return exitStatus(code)
	}
	return nil
}

// asCommands words a sentence for the model, which names tools, for whoever runs
// commands.
func asCommands(notice, root string) string {
	return strings.NewReplacer(
		"snapshot_restore snapshot_id=", "mcp-sandbox snapshots restore --root "+typedWord(root)+" ",
		"snapshot_create", "mcp-sandbox snapshots create --root "+typedWord(root),
	).Replace(notice)
}

// recorded is what package tools does around a call, for the one of this
// command line.
func recorded(ctx context.Context, m *session.Manager, sess *session.Session, line string, run func() (int, error)) (int, error) {
	if m.Auditor() == nil {
		return run()
	}
	span, err := m.Auditor().Begin(ctx, sess.ID(), "exec", "exec", map[string]any{
		"cmd": map[string]any{"text": m.Redactor().Command(line), "bytes": len(line)},
	})
	if err != nil {
		return 0, err
	}
	code, err := run()
	failure := ""
	if err != nil {
		failure = cmp.Or(sandbox.CodeOf(err), "internal")
	}
	span.End(ctx, sess.ID(), failure, map[string]any{"exit_code": code})
	return code, err
}

// stream runs the line with its three streams passed through. The caller's own
// descriptors are never given to the command: with them it would hold a way to
// the caller's terminal (CVE-2017-5226).
func stream(ctx context.Context, sess *session.Session, line string, tty bool, interrupts <-chan os.Signal) (int, error) {
	env, err := sess.Environ(tty)
	if err != nil {
		return 0, err
	}
	cols, rows := windowSize()
	c := sandbox.Command{
		Env: env, Dir: sess.Root(),
		TTY: tty, Cols: cols, Rows: rows, Stdin: sandbox.StdinPipe, SplitStderr: true,
	}
	if err := sess.ShellProgram(&c, line); err != nil {
		return 0, err
	}
	p, err := sess.Sandbox().Spawn(ctx, c)
	if err != nil {
		return 0, err
	}
	defer sess.OnOverLimit(func() { _ = p.SignalTree(syscall.SIGKILL) })()
	if tty && isTerminal(os.Stdin) {
		defer rawTerminal(os.Stdin)()
	}
	go func() {
		var last lastByte
		_, _ = io.Copy(p.Stdin(), io.TeeReader(os.Stdin, &last))
		switch {
		case !tty:
			_ = p.Stdin().Close()
		case !isTerminal(os.Stdin):
			// What was piped in ends as it does by a person's Ctrl-D: within a line
			// the first one only sends that line (termios(3), VEOF).
			end := "\x04"
			if last != 0 && last != '\n' {
				end = "\x04\x04"
			}
			_, _ = io.WriteString(p.Stdin(), end)
		}
	}()
	defer passSignals(ctx, p, tty, interrupts)()

	var out sync.WaitGroup
	out.Go(func() { _, _ = io.Copy(os.Stdout, p.Stdout()) })
	if !tty {
		out.Go(func() { _, _ = io.Copy(os.Stderr, p.Stderr()) })
	}
	status := p.Wait()
	drain(&out, p)
	notes := sess.Explain(ctx, p, status)
	if s, ok := sess.Sandbox().(session.Noticer); ok {
		notes = append(notes, s.Notices()...)
	}
	for _, n := range notes {
		fmt.Fprintln(operator(os.Stderr), "mcp-sandbox:", n)
	}
	return status.Code, nil
}

// drainFor is how long output of processes left behind is waited for once the
// command has ended: what it wrote itself is in the pipe already.
const drainFor = 200 * time.Millisecond

func drain(out *sync.WaitGroup, p sandbox.Process) {
	deadline := time.Now().Add(drainFor)
	_ = p.Stdout().SetReadDeadline(deadline)
	if p.Stderr() != nil {
		_ = p.Stderr().SetReadDeadline(deadline)
	}
	out.Wait()
}

// lastByte remembers the last byte written to it.
type lastByte byte

func (l *lastByte) Write(p []byte) (int, error) {
	if len(p) > 0 {
		*l = lastByte(p[len(p)-1])
	}
	return len(p), nil
}

// patientInterrupts is how many the command gets; with one more it is killed.
const patientInterrupts = 3

// passSignals hands the caller's interrupt to the command and window changes to
// its terminal. The end of ctx (TERM) ends it.
func passSignals(ctx context.Context, p sandbox.Process, tty bool, interrupts <-chan os.Signal) (stop func()) {
	sig := make(chan os.Signal, 8)
	signal.Notify(sig, syscall.SIGWINCH)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		cancelled := ctx.Done()
		for n := 1; ; {
			select {
			case <-done:
				return
			case <-interrupts:
				if n > patientInterrupts {
					_ = p.SignalTree(syscall.SIGKILL)
				} else {
					_ = p.SignalTree(syscall.SIGINT)
				}
				n++
			case <-cancelled:
				_ = p.SignalTree(syscall.SIGTERM)
				cancelled = nil
				wg.Go(func() { killLater(p, done) })
			case <-sig:
				if tty {
					cols, rows := windowSize()
					_ = p.Resize(cols, rows)
				}
			}
		}
	})
	return func() {
		signal.Stop(sig)
		close(done)
		wg.Wait()
	}
}

func killLater(p sandbox.Process, done <-chan struct{}) {
	t := time.NewTimer(2 * time.Second)
	defer t.Stop()
	select {
	case <-t.C:
		_ = p.SignalTree(syscall.SIGKILL)
	case <-p.Done():
	case <-done:
	}
}

func windowSize() (cols, rows uint16) {
	ws, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	if err != nil || ws.Col == 0 {
		return 120, 30
	}
	return ws.Col, ws.Row
}

// rawTerminal passes every key on unchanged, as ssh -t does, and returns what
// undoes it.
func rawTerminal(f *os.File) (restore func()) {
	fd := int(f.Fd())
	old, err := unix.IoctlGetTermios(fd, ioctlGetTermios)
	if err != nil {
		return func() {}
	}
	raw := *old
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag &^= unix.CSIZE | unix.PARENB
	raw.Cflag |= unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if unix.IoctlSetTermios(fd, ioctlSetTermios, &raw) != nil {
		return func() {}
	}
	return func() { _ = unix.IoctlSetTermios(fd, ioctlSetTermios, old) }
}
