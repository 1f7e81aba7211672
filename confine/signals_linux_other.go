//go:build linux && !amd64 && !arm64

package confine

import "golang.org/x/sys/unix"

// The system call filter has no table for these architectures, so no sandbox
// starts on them and the addresses are never used.
const saRestorer = 0

func noopHandlerAddr() uintptr { panic(unix.ENOSYS) }
func restorerAddr() uintptr    { return 0 }
