//go:build linux || darwin

package confine

import (
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// longest is the longest string of a command and its name for a person.
func longest(c sandbox.Command) (name string, size int) {
	for i, v := range c.Argv {
		if len(v) > size {
			name, size = fmt.Sprintf("argument %d of the command", i), len(v)
		}
	}
	for _, kv := range c.Env {
		if len(kv) > size {
			k, _, _ := strings.Cut(kv, "=")
			name, size = fmt.Sprintf("the environment variable %s (name and value)", k), len(kv)
		}
	}
	return name, size
}

// errTooLong is for arguments and environment that are too long together.
func errTooLong(c sandbox.Command) error {
	total := 0
	for _, ss := range [][]string{c.Argv, c.Env} {
		for _, v := range ss {
			total += len(v) + 1
		}
	}
	name, size := longest(c)
	return errorf("too_large", unix.E2BIG, "the arguments and environment have %d bytes together, more than the kernel takes (about %d), the longest is %s with %d; pass the data by stdin or in a file",
		total, totalLimit(), name, size)
}

// totalLimit is a quarter of the stack limit on Linux, but between 128 KiB and
// 6 MiB, execve(2); on macOS it is ARG_MAX.
func totalLimit() uint64 {
	var r unix.Rlimit
	if runtime.GOOS != "linux" || unix.Getrlimit(unix.RLIMIT_STACK, &r) != nil {
		return 1 << 20
	}
	return min(max(r.Cur/4, 128<<10), 6<<20)
}
