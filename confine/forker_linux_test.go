package confine

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestProgramAboveFiles: the program of init is open above the descriptors that a
// child gets. At one of their numbers it is another file when it is executed.
func TestProgramAboveFiles(t *testing.T) {
	exe, err := selfExe()
	if err != nil {
		t.Fatal(err)
	}
	if exe < lowestExe {
		t.Errorf("the program is open at %d, below %d", exe, lowestExe)
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	files := make([]uintptr, exe+1)
	for i := range files {
		files[i] = uintptr(null)
	}
	if pid, err := syscall.ForkExec(fdPath(exe), []string{initName}, &syscall.ProcAttr{Dir: "/", Files: files}); err == nil {
		_, _ = syscall.Wait4(pid, nil, 0, nil)
		t.Error("a program is executed whose descriptor was replaced: lowestExe is not needed")
	} else if err != syscall.EACCES {
		t.Errorf("%v, want EACCES", err)
	}
}
