package confine

import (
	"context"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// Probe runs a program under a small profile and checks that it is refused what
// the profile does not name.
func Probe(ctx context.Context) Capabilities {
	c := Capabilities{OS: runtime.GOOS, UID: os.Geteuid(), Cgroup: map[string]Support{}}
	c.Kernel, _ = unix.Sysctl("kern.osrelease")
	profile, params, err := seatbeltProfile(seatbeltSpec{Workspace: "/private/var/empty", Tmp: "/private/var/empty", Network: sandbox.NetworkNone})
	if err != nil {
		c.Seatbelt = Support{Reason: "the probing profile cannot be written", Remedy: "report this as a bug"}
		return c
	}
	run := func(argv ...string) error {
		args := seatbeltArgs(profile, params, argv)
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env, cmd.Dir = []string{"PATH=/usr/bin:/bin"}, "/"
		return cmd.Run()
	}
	switch {
	case run("/usr/bin/true") != nil:
		c.Seatbelt = Support{Reason: "sandbox-exec does not start a program under the profile", Remedy: "run the server outside of another sandbox, on a macOS that has /usr/bin/sandbox-exec"}
	case run("/bin/ls", "/Users") == nil:
		c.Seatbelt = Support{Reason: "sandbox-exec accepted a profile that does not hold", Remedy: "report this with the version of macOS"}
	default:
		c.Seatbelt = Support{OK: true}
	}
	return c
}
