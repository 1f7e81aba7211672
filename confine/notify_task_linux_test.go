package confine

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// A task that has gone leaves nothing to the one that gets its number: its
// working directory, umask and descriptors are looked up again.
func TestKeptTaskThatHasGone(t *testing.T) {
	fds, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds)
	sleeping := func(umask string) (pid int, dir string, end func()) {
		t.Helper()
		c := exec.Command("/bin/sh", "-c", "umask "+umask+"; echo; exec sleep 1000")
		c.Dir = t.TempDir()
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		return c.Process.Pid, c.Dir, func() { c.Process.Kill(); c.Wait() }
	}
	first, _, end := sleeping("077")
	defer end()
	second, dir, end2 := sleeping("027")
	defer end2()

	thread := &supervisorThread{notifySupervisor: &notifySupervisor{s: &initState{}, fds: fds}}
	k := &thread.tasks[0]
	*k = keptTask{tid: first, open: true}
	proc := "/proc/" + itoa(first)
	if k.dir, err = unix.Open(proc, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	if k.status, err = unix.Open(proc+"/status", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	if k.pidfd, err = unix.PidfdOpen(first, 0); err != nil {
		t.Fatal(err)
	}
	if c := (&caller{t: thread, tid: first, pidfd: none}); c.read() != nil || c.umask != 0o077 {
		t.Fatalf("umask of the first %o", c.umask)
	}
	end()
	for what, look := range map[string]func(c *caller) (int, error){
		"working directory": func(c *caller) (int, error) { return c.directory(unix.AT_FDCWD) },
		"descriptor":        func(c *caller) (int, error) { return c.descriptor(0) },
		"umask":             func(c *caller) (int, error) { return none, c.read() },
	} {
		// As if the second had been given the number of the first.
		old := *k
		for _, fd := range []*int{&k.dir, &k.status, &k.pidfd} {
			if *fd, err = unix.FcntlInt(uintptr(*fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
				t.Fatal(err)
			}
		}
		k.tid = second
		c := &caller{t: thread, tid: second, pidfd: none}
		fd, err := look(c)
		c.close()
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		switch what {
		case "working directory":
			if got, err := thread.pathOf(fd); got != dir {
				t.Errorf("%s %q, %v", what, got, err)
			}
		case "descriptor":
			if got, err := thread.pathOf(fd); got != os.DevNull {
				t.Errorf("%s %q, %v", what, got, err)
			}
		case "umask":
			if c.umask != 0o027 {
				t.Errorf("%s %o", what, c.umask)
			}
		}
		if fd >= 0 {
			unix.Close(fd)
		}
		for i := range thread.tasks {
			thread.tasks[i].close()
		}
		*k = old
	}
	k.close()
}
