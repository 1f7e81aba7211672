package confine

import (
	"strings"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// longestString is the longest argument or variable: MAX_ARG_STRLEN of execve(2),
// 32 pages, less the final NUL.
var longestString = 32*unix.Getpagesize() - 1

// checkCommand refuses what no kernel would take, before anything is made.
func checkCommand(c sandbox.Command) error {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return errorf("invalid_argument", nil, "the command is empty; name a program")
	}
	for _, ss := range [][]string{c.Argv, c.Env, {c.Dir}} {
		for _, v := range ss {
			if strings.IndexByte(v, 0) >= 0 {
				return errorf("invalid_argument", nil, "the command, its environment or its directory holds a NUL byte; remove it")
			}
		}
	}
	if !strings.HasPrefix(c.Dir, "/") {
		return errorf("invalid_argument", nil, "the working directory is not absolute; give its whole path")
	}
	if name, size := longest(c); size > longestString {
		return errorf("too_large", unix.E2BIG, "%s has %d bytes, and the kernel takes at most %d of one; pass the data by stdin or in a file", name, size, longestString)
	}
	return nil
}
