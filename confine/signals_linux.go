package confine

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// kernelSigaction is the kernel's struct sigaction of amd64 and arm64
// (linux/signal.h); libc's differs.
type kernelSigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const (
	sigDfl = 0
	sigIgn = 1
)

func rtSigaction(sig int, new, old *kernelSigaction) error {
	_, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(new)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// resetIgnored undoes what the server's parent ignored (nohup ignores SIGHUP):
// an ignored signal stays ignored across execve, so commands would inherit it.
func resetIgnored() {
	for sig := 1; sig <= 64; sig++ {
		var old kernelSigaction
		if rtSigaction(sig, nil, &old) == nil && old.handler == sigIgn {
			rtSigaction(sig, &kernelSigaction{handler: sigDfl}, nil)
		}
	}
}

// reservedSignals are the ones the Go runtime leaves to libc and which Notify
// therefore cannot take; a burst of them killed init.
var reservedSignals = [...]int{32, 34}

// catchReservedSignals gives them a handler that does nothing. Ignoring them
// would do for init, but commands would inherit that; a handler is reset by
// execve.
func catchReservedSignals() error {
	for _, sig := range reservedSignals {
		sa := kernelSigaction{handler: noopHandlerAddr(), flags: saOnStack | saRestart | saRestorer, restorer: restorerAddr(), mask: ^uint64(0)}
		if err := rtSigaction(sig, &sa, nil); err != nil {
			return err
		}
	}
	return nil
}

const (
	saRestart = 0x10000000
	saOnStack = 0x08000000
)
