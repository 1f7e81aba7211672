package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// noOpenat2Env has this test binary, and the servers it starts, run behind a
// filter that answers openat2(2) with ENOSYS, as systemd's RestrictSUIDSGID= and
// older container runtimes do.
const noOpenat2Env = envPrefix + "TEST_NO_OPENAT2"

// noGateEnv does the same with a filter that leaves a session without the second
// network namespace.
const noGateEnv = envPrefix + "TEST_NO_GATE"

func init() {
	var filter []unix.SockFilter
	switch {
	case os.Getenv(noOpenat2Env) != "":
		filter = []unix.SockFilter{
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_OPENAT2},
			{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
			{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		}
	case os.Getenv(noGateEnv) != "":
		filter = []unix.SockFilter{
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: unix.SYS_UNSHARE},
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 16}, // its flags
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.CLONE_NEWNET},
			{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSPC)},
			{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		}
	default:
		return
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err == nil {
		if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); e != 0 {
			err = e
		}
	}
	if err != nil {
		panic("the filter cannot be installed: " + err.Error())
	}
	if _, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH}); err != unix.ENOSYS && os.Getenv(noOpenat2Env) != "" {
		panic("the filter does not hold")
	}
}

// TestServerWithoutOpenat2: the server, its init and its file tools work behind
// that filter, at the level they have without it.
func TestServerWithoutOpenat2(t *testing.T) {
	if os.Getenv(noOpenat2Env) != "" {
		return // this is the test behind the filter
	}
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run", "^(TestLevelBehindFilter|TestFileTools|TestSnapshotTools|TestFileWords|TestUndoUnderPolicy)$")
	cmd.Env = append(os.Environ(), noOpenat2Env+"=1", envPrefix+"TEST_BIN="+binary)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestLevelBehindFilter") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestLevelBehindFilter(t *testing.T) {
	if os.Getenv(noOpenat2Env) == "" {
		return // an ordinary run: there is nothing to test here
	}
	args := []string{"exec", "--state-dir", t.TempDir()}
	if os.Getenv(envPrefix+"TEST_LEVEL") == "" {
		args = append(args, "--min-confinement", "namespaces")
	}
	if out, err := exec.Command(binary, append(args, "--", "echo $((40+2)) > f; cat f")...).Output(); err != nil || string(out) != "42\n" {
		t.Errorf("%v\n%s", err, out)
	}
}
