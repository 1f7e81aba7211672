package confine

import (
	"crypto/rand"
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// The rules that only init can write, as they name what the server does not
// know: its own pid, and a key nobody else has.

// markFilter refuses commands to change their mark. Other architectures' entry
// points are killed by the main filter.
func (s *initState) markFilter() []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
	)
	if s.cfg.Namespaces {
		return []unix.SockFilter{
			{Code: load, K: dataNr},
			{Code: equal, K: unix.SYS_PRCTL, Jf: 3},
			{Code: load, K: dataArgs},
			{Code: equal, K: unix.PR_SET_TIMERSLACK, Jf: 1},
			{Code: ret, K: retErrno(unix.EPERM)},
			{Code: ret, K: retAllow},
		}
	}
	return []unix.SockFilter{
		{Code: load, K: dataNr},
		{Code: equal, K: unix.SYS_SETRLIMIT, Jt: 2},
		{Code: equal, K: unix.SYS_PRLIMIT64, Jt: 3},
		{Code: ret, K: retAllow},
		{Code: load, K: dataArgs}, // setrlimit(resource, limit)
		{Code: equal, K: unix.RLIMIT_MSGQUEUE, Jt: 6, Jf: 7},
		{Code: load, K: dataArgs + 8}, // prlimit64(pid, resource, new, old)
		{Code: equal, K: unix.RLIMIT_MSGQUEUE, Jf: 5},
		{Code: load, K: dataArgs + 16}, // a null pointer only asks
		{Code: equal, K: 0, Jf: 2},
		{Code: load, K: dataArgs + 20},
		{Code: equal, K: 0, Jt: 1},
		{Code: ret, K: retErrno(unix.EPERM)},
		{Code: ret, K: retAllow},
	}
}

// installOwnFilter puts them on the calling thread. Without a pid namespace init
// is an ordinary process in the domain of its commands, which could end it and so
// outlive the session, or stop it.
func (s *initState) installOwnFilter() error {
	if err := seccompInstall(s.markFilter()); err != nil || s.cfg.Namespaces {
		return err
	}
	var key [16]byte
	if _, err := rand.Read(key[:]); err != nil {
		return err
	}
	for i := range s.killKey {
		s.killKey[i] = binary.LittleEndian.Uint32(key[4*i:])
	}
	arch, err := nativeSeccompArch()
	if err != nil {
		return err
	}
	prog, err := buildSeccomp(arch, initRules(os.Getpid(), s.killKey), seccompOptions{Network: s.cfg.Network, LandlockOnly: true})
	if err != nil {
		return err
	}
	return seccompInstall(prog)
}

// initRules refuse signals to init, by its pid and as its group, and signals to
// everybody but with the key in the registers that kill(2) does not use. The
// kernel passes all six to a filter, and a filter cannot be read.
func initRules(pid int, key [4]uint32) []syscallRule {
	self, group, everybody := uint32(pid), uint32(-pid), ^uint32(0)
	target := func(seccompOptions) []clause { return []clause{deny(unix.EPERM, equal(0, self))} }
	return []syscallRule{
		{name: "kill", amd64: 62, arm64: 129, clauses: func(seccompOptions) []clause {
			return []clause{
				deny(unix.EPERM, equal(0, self)),
				deny(unix.EPERM, equal(0, group)),
				permit(equal(0, everybody), equal(2, key[0]), equal(3, key[1]), equal(4, key[2]), equal(5, key[3])),
				deny(unix.EPERM, equal(0, everybody)),
			}
		}},
		{name: "tkill", amd64: 200, arm64: 130, clauses: target},
		{name: "tgkill", amd64: 234, arm64: 131, clauses: target},
		{name: "rt_sigqueueinfo", amd64: 129, arm64: 138, clauses: target},
		{name: "rt_tgsigqueueinfo", amd64: 297, arm64: 240, clauses: target},
		{name: "pidfd_open", amd64: 434, arm64: 434, clauses: target},
		{name: "fcntl", amd64: 72, arm64: 25, clauses: func(seccompOptions) []clause {
			return []clause{
				deny(unix.EPERM, equal(1, unix.F_SETOWN), equal(2, self)),
				deny(unix.EPERM, equal(1, unix.F_SETOWN), equal(2, group)),
			}
		}},
	}
}
