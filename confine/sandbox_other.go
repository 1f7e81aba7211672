//go:build !linux && !darwin

package confine

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"time"

	"mcp-sandbox/sandbox"
)

// Other systems have no confinement: everything fails closed.

func errUnsupported() error {
	return errorf("confinement_unavailable", nil, "there is no confinement for %s; use Linux or macOS", runtime.GOOS)
}

// MaybeRunChild does nothing.
func MaybeRunChild() {}

// Probe finds nothing.
func Probe(context.Context) Capabilities {
	return Capabilities{OS: runtime.GOOS, Cgroup: map[string]Support{}}
}

// Sandbox cannot be made here.
type Sandbox struct{}

// start always fails with confinement_unavailable, also for LevelNone.
func start(context.Context, sandbox.Policy) (*Sandbox, error) { return nil, errUnsupported() }

func (s *Sandbox) Report() sandbox.Report { return sandbox.Report{} }
func (s *Sandbox) Environ() []string      { return nil }
func (s *Sandbox) Spawn(context.Context, sandbox.Command) (sandbox.Process, error) {
	return nil, errUnsupported()
}
func (s *Sandbox) Listen(string, string) (net.Listener, error)             { return nil, errUnsupported() }
func (s *Sandbox) DenyConn(context.Context, net.Addr, sandbox.Denial) bool { return false }
func (s *Sandbox) ExplainConns(func(netip.AddrPort) sandbox.Denial)        {}
func (s *Sandbox) SeesConns() bool                                         { return false }
func (s *Sandbox) GateIPv6() bool                                          { return false }
func (s *Sandbox) Gate() Gate                                              { return GateNone }
func (s *Sandbox) ListenGate(int) (net.Listener, error)                    { return nil, errUnsupported() }
func (s *Sandbox) ListenNames() (net.PacketConn, error)                    { return nil, errUnsupported() }
func (s *Sandbox) Dial(context.Context, int) (net.Conn, error)             { return nil, errUnsupported() }
func (s *Sandbox) Done() <-chan struct{}                                   { return nil }
func (s *Sandbox) Close() error                                            { return nil }

// Process cannot be made here.
type Process struct{}

func (p *Process) Pid() int                        { return 0 }
func (p *Process) Stdin() *os.File                 { return nil }
func (p *Process) Stdout() *os.File                { return nil }
func (p *Process) Stderr() *os.File                { return nil }
func (p *Process) Done() <-chan struct{}           { return nil }
func (p *Process) Wait() sandbox.ExitStatus        { return sandbox.ExitStatus{} }
func (p *Process) Ended() time.Time                { return time.Time{} }
func (p *Process) SignalTree(syscall.Signal) error { return errUnsupported() }
func (p *Process) TreeAlive() (int, error)         { return 0, errUnsupported() }
func (p *Process) Resize(uint16, uint16) error     { return errUnsupported() }

// CheckOwner has nothing to refuse where no sandbox starts.
func CheckOwner(sandbox.Policy) error { return nil }
