package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// openListener opens what --listen names: HOST:PORT, unix:/PATH, or systemd: for
// the socket that a supervisor opened (sd_listen_fds(3)).
func openListener(addr string) (net.Listener, error) {
	switch path, isUnix := strings.CutPrefix(addr, "unix:"); {
	case isUnix:
		return listenUnix(path)
	case addr == "systemd:":
		return inherited()
	}
	var c net.ListenConfig
	c.SetMultipathTCP(false) // such a listener takes no filter, see serve.refuseNew
	l, err := c.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, badSetting("listen %s cannot be opened (%v); name a free port of this machine", addr, errors.Unwrap(err))
	}
	return l, nil
}

// listenUnix makes a socket that only our user and root can connect to: by its
// mode, and by asking the kernel who connects, because a mode set after bind(2)
// comes late and not every system looks at it.
func listenUnix(path string) (net.Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, badSetting("listen is unix:%s; write an absolute path", path)
	}
	// Who may rename in the directory may put a socket of his own in our place.
	if fi, err := os.Stat(filepath.Dir(path)); err != nil || fi.Mode().Perm()&0o022 != 0 && fi.Mode()&fs.ModeSticky == 0 {
		return nil, badSetting("the directory of %s is missing or open to others; name one with mode 0700", path)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The umask is the process's: nothing else runs yet that makes files.
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, badSetting("the socket %s cannot be made (%v); name a directory that is yours", path, errors.Unwrap(err))
	}
	return &peerListener{UnixListener: l.(*net.UnixListener)}, nil
}

// removeStale takes away the socket of a server that is gone. Anything else at
// the path, and the socket of one that lives, stays.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	switch {
	case os.IsNotExist(err):
		return nil
	case err != nil:
		return badSetting("the socket %s cannot be examined (%v); check the rights of its directory", path, err)
	case fi.Mode().Type() != fs.ModeSocket:
		return badSetting("%s exists and is not a socket; name another path", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return badSetting("a server listens on %s already; end it or name another path", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return badSetting("the socket %s belongs to somebody (%v); name another path", path, err)
	}
	if err := os.Remove(path); err != nil {
		return badSetting("the old socket %s cannot be removed (%v); remove it or name another path", path, err)
	}
	return nil
}

// peerListener gives only connections of our own user and of root.
type peerListener struct{ *net.UnixListener }

func (l *peerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peerUID(c); err == nil && (uid == 0 || uid == os.Geteuid()) {
			return c, nil
		}
		c.Close()
	}
}

// firstInherited is SD_LISTEN_FDS_START.
const firstInherited = 3

// inherited takes the one socket that a supervisor passed. The variables are
// unset, so that no child takes them for its own.
func inherited() (net.Listener, error) {
	pid, n := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	if pid != strconv.Itoa(os.Getpid()) || n != "1" {
		return nil, badSetting("listen is systemd: and this process was not given exactly one socket; start it from a socket unit")
	}
	unix.CloseOnExec(firstInherited)
	f := os.NewFile(firstInherited, "inherited socket")
	defer f.Close() // FileListener has a copy
	l, err := net.FileListener(f)
	if err != nil {
		return nil, badSetting("the socket that was passed cannot be listened on (%v); use ListenStream in the socket unit", err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the supervisor's
		return handedOver{&peerListener{UnixListener: u}}, nil
	}
	return handedOver{l}, nil
}

// handedOver is a listener whose socket the supervisor keeps: nothing of it may be
// changed for the server's stop, and who waits there is served by the next one.
type handedOver struct{ net.Listener }

// notifySupervisor tells systemd how the server is (sd_notify(3)); without a
// supervisor that asked it does nothing.
func notifySupervisor(state string) {
	addr := os.Getenv("NOTIFY_SOCKET")
	if addr == "" {
		return
	}
	if addr[0] == '@' {
		addr = "\x00" + addr[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprintln(c, state)
}

// supervised says once that the server is ready, and at its end that it stops.
func supervised() (ready, stopping func()) {
	return sync.OnceFunc(func() { notifySupervisor("READY=1") }), func() { notifySupervisor("STOPPING=1") }
}
