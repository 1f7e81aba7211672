package egress

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// innerAddr is where the proxy listens inside a session's network.
const innerAddr = "127.0.0.1:3128"

// helperEnv marks the test binary's second start, inside a network namespace.
const helperEnv = "MCP_SANDBOX_EGRESS_TEST_HELPER"

func init() {
	if os.Getenv(helperEnv) != "" {
		fmt.Fprintln(os.Stderr, "helper:", helper())
		os.Exit(125)
	}
}

// helper does what the sandbox's init does: it brings loopback up, opens the
// listener, hands it out, and becomes the command.
func helper() error {
	os.Unsetenv(helperEnv)
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	l, err := net.Listen("tcp", innerAddr)
	if err != nil {
		return err
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(3, []byte{1}, unix.UnixRights(int(f.Fd())), nil, 0); err != nil {
		return err
	}
	unix.CloseOnExec(3)
	return syscall.Exec("/bin/sh", []string{"sh", "-euc", os.Args[1]}, os.Environ())
}

// inside runs a shell script in a network namespace of its own, which holds
// nothing but loopback and the proxy's listener, and gives its output.
func inside(t *testing.T, p *Proxy, env []string, script string) (string, error) {
	t.Helper()
	if os.Getenv("MCP_SANDBOX_TEST_LEVEL") == "landlock" {
		// Not even tried: a clone that fails leaks descriptors in package syscall.
		t.Skip("this run is about a host without user namespaces")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "helper")
	defer unix.Close(pair[0])
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, exe, script)
	cmd.Env = append(env, helperEnv+"=1")
	cmd.Dir = t.TempDir()
	cmd.ExtraFiles = []*os.File{theirs}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 5 * time.Second
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	cmd.SysProcAttr = attr
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		noNamespaces(t, err)
	}
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(pair[0], make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n == 0 {
		err := cmd.Wait()
		noNamespaces(t, fmt.Errorf("%w: %s", err, out.String()))
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "listener")
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(l) }()
	err = cmd.Wait()
	l.Close() // an open listener keeps the namespace alive
	<-served
	return out.String(), err
}

// noNamespaces ends a test that could not have its namespace: as a failure where
// the host is meant to have them.
func noNamespaces(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("MCP_SANDBOX_TEST_NOSKIP") == "1" && os.Getenv("MCP_SANDBOX_TEST_LEVEL") != "landlock" {
		t.Fatalf("no network namespace: %v", err)
	}
	t.Skipf("no network namespace: %v", err)
}
