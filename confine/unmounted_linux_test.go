package confine

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// TestUnmountedIsFreed: a running session keeps nothing alive that the host
// unmounts, unless it was granted. That holds for the static program that releases
// and `make build` give. The kernel reports IN_UNMOUNT when the file
// system itself ends, not when one of its mounts does (inotify(7)).
func TestUnmountedIsFreed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts a file system: needs root")
	}
	// In a mount namespace of its own: the sessions of other servers, or of other
	// tests, copy the mounts of theirs.
	const inside = "MCP_SANDBOX_TEST_OWN_MOUNTS"
	if os.Getenv(inside) == "" {
		// The program must be static: a dynamic one has its libraries open from the
		// copy of the host's mounts it was started in, and so keeps all of them, as
		// mounts of another user namespace stay together (mount_namespaces(7)).
		static := filepath.Join(t.TempDir(), "static.test")
		build := exec.Command("go", "test", "-c", "-o", static, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		c := exec.Command(static, "-test.run=^TestUnmountedIsFreed$", "-test.v")
		c.Env = append(os.Environ(), inside+"=1")
		c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		out, err := c.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestUnmountedIsFreed")) {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	eachIdentity(t, func(t *testing.T, p sandbox.Policy) {
		for _, granted := range []bool{false, true} {
			name := "elsewhere"
			if granted {
				name = "granted"
			}
			t.Run(name, func(t *testing.T) {
				p, dir := p, t.TempDir()
				if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k,mode=755"); err != nil {
					t.Skip("a tmpfs cannot be mounted:", err)
				}
				defer unix.Unmount(dir, unix.MNT_DETACH)
				watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
				if err != nil {
					t.Fatal(err)
				}
				defer unix.Close(watch)
				if _, err := unix.InotifyAddWatch(watch, dir, unix.IN_OPEN); err != nil {
					t.Fatal(err)
				}
				if granted {
					p.Read = append(p.Read[:len(p.Read):len(p.Read)], dir)
				}
				s := start(t, p)
				if out, _ := sh(t, s, p.Workspace, "echo up"); out != "up\n" {
					t.Fatalf("%q", out)
				}
				if err := unix.Unmount(dir, 0); err != nil {
					t.Fatal(err)
				}
				if granted {
					// What the other case waits for does not come by itself.
					if freed(watch) {
						t.Error("a granted file system ended during the session")
					}
					s.Close()
				}
				eventually(t, "the file system ends", func() bool { return freed(watch) })
				if !granted {
					want(t, s, p.Workspace, "echo still", "still\n")
				}
			})
		}
	})
}

// freed says whether IN_UNMOUNT has come.
func freed(watch int) bool {
	b := make([]byte, 4096)
	n, _ := unix.Read(watch, b)
	for off := 0; off+unix.SizeofInotifyEvent <= n; {
		mask := uint32(b[off+4]) | uint32(b[off+5])<<8 | uint32(b[off+6])<<16 | uint32(b[off+7])<<24
		name := int(b[off+12]) | int(b[off+13])<<8
		if mask&unix.IN_UNMOUNT != 0 {
			return true
		}
		off += unix.SizeofInotifyEvent + name
	}
	return false
}
