package confine

import (
	"fmt"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// seccompData is struct seccomp_data.
type seccompData struct {
	nr   uint32
	arch uint32
	args [6]uint64
}

func (d seccompData) word(offset uint32) (uint32, bool) {
	switch {
	case offset == 0:
		return d.nr, true
	case offset == 4:
		return d.arch, true
	case offset >= 16 && offset < 64 && offset%4 == 0:
		v := d.args[(offset-16)/8]
		if offset%8 == 4 {
			v >>= 32
		}
		return uint32(v), true
	}
	return 0, false
}

// runBPF is an interpreter of the instructions the assembler uses, as strict as
// the kernel's checker: a jump past the end or an unknown instruction fails.
func runBPF(prog []unix.SockFilter, d seccompData) (uint32, error) {
	var acc uint32
	for pc, steps := 0, 0; ; pc, steps = pc+1, steps+1 {
		if pc >= len(prog) {
			return 0, fmt.Errorf("ran past the end at %d", pc)
		}
		in := prog[pc]
		jump := func(cond bool) {
			if cond {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			v, ok := d.word(in.K)
			if !ok {
				return 0, fmt.Errorf("load at %d", in.K)
			}
			acc = v
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= in.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(acc == in.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump(acc > in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(acc >= in.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(acc&in.K != 0)
		case unix.BPF_RET | unix.BPF_K:
			return in.K, nil
		default:
			return 0, fmt.Errorf("instruction %#x at %d", in.Code, pc)
		}
	}
}

// evalRule says what the table means for a call, without going through BPF.
func evalRule(arch seccompArch, o seccompOptions, d seccompData) uint32 {
	if d.arch != arch.audit {
		return retKill
	}
	if d.nr == ^uint32(0) {
		return retAllow
	}
	if d.nr > lastKnownSyscall {
		return retErrno(unix.ENOSYS)
	}
	for i := range tableRules {
		r := &tableRules[i]
		if arch.nr(r) != int(d.nr) || !r.when.holds(o) {
			continue
		}
		if r.clauses == nil {
			return retErrno(r.errno)
		}
		for _, c := range r.clauses(o) {
			if c.holds(d) {
				if c.allow {
					return retAllow
				}
				return retErrno(c.errno)
			}
		}
	}
	return retAllow
}

func (c clause) holds(d seccompData) bool {
	for _, t := range c.tests {
		v := uint32(d.args[t.arg])
		ok := false
		switch t.op {
		case opEqual:
			ok = v == t.value
		case opNotEqual:
			ok = v != t.value
		case opMasked:
			ok = v&t.mask == t.value
		case opAnySet:
			ok = v&t.mask != 0
		}
		if !ok {
			return false
		}
	}
	return true
}

func allSeccompOptions() []seccompOptions {
	var out []seccompOptions
	for _, n := range []sandbox.Network{"none", "loopback", "allow", "host"} {
		for _, ll := range []bool{false, true} {
			for _, p1 := range []bool{false, true} {
				for _, ns := range []bool{false, true} {
					out = append(out, seccompOptions{Network: n, LandlockOnly: ll, ProtectPid1: p1, Supervised: p1 != ns, AllowUserNS: ns})
				}
			}
		}
	}
	return out
}

// interesting argument values: every constant any clause compares with, its
// neighbours, and the same with dirt in the high half.
func interesting(clauses []clause) []uint64 {
	seen := map[uint64]bool{0: true, 1: true, 0xffffffff: true}
	for _, c := range clauses {
		for _, t := range c.tests {
			for _, v := range []uint32{t.value, t.value - 1, t.value + 1, t.mask, t.mask & -t.mask, t.value | 0o2000000} {
				seen[uint64(v)] = true
			}
		}
	}
	var out []uint64
	for v := range seen {
		out = append(out, v, v|0xdead<<32)
	}
	return out
}

// AC-30: every number on both architectures, with every combination of options
// and every argument value a rule could stumble over, answers what the table
// says.
func TestSeccompProgramMeansTheTable(t *testing.T) {
	for _, arch := range []seccompArch{seccompAMD64, seccompARM64} {
		for _, o := range allSeccompOptions() {
			prog, err := buildSeccomp(arch, tableRules, o)
			if err != nil {
				t.Fatal(err)
			}
			check := func(d seccompData) {
				t.Helper()
				got, err := runBPF(prog, d)
				if err != nil {
					t.Fatalf("%s %+v %+v: %v", arch.name, o, d, err)
				}
				if want := evalRule(arch, o, d); got != want {
					t.Fatalf("%s %+v %+v: %#x, want %#x", arch.name, o, d, got, want)
				}
			}
			for nr := uint32(0); nr <= lastKnownSyscall+50; nr++ {
				check(seccompData{nr: nr, arch: arch.audit})
				check(seccompData{nr: nr | 0x40000000, arch: arch.audit})
				check(seccompData{nr: nr, arch: unix.AUDIT_ARCH_I386})
			}
			check(seccompData{nr: ^uint32(0), arch: arch.audit})
			rules, err := rulesFor(arch, tableRules, o)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rules {
				vals := interesting(r.clauses)
				if len(r.clauses) == 0 {
					vals = []uint64{0, 1}
				}
				for i, x := range vals {
					d := seccompData{nr: r.nr, arch: arch.audit}
					for j := range d.args {
						d.args[j] = x
					}
					check(d)
					for j := range d.args {
						d.args[j] = vals[(i*7+j*3+1)%len(vals)]
					}
					check(d)
					if o.ProtectPid1 && !o.AllowUserNS { // every pair, for one option set in four
						for _, y := range vals {
							d.args = [6]uint64{x, y, x, y, x, y}
							check(d)
						}
					}
				}
			}
		}
	}
}

// AC-30: what the options must come to, call by call.
func TestSeccompDecisions(t *testing.T) {
	ns := seccompOptions{Network: "loopback", ProtectPid1: true}
	one := seccompOptions{Network: "loopback", ProtectPid1: true, OneUser: true, UID: 1001, GID: 1002}
	none := seccompOptions{Network: "none", ProtectPid1: true}
	ll := seccompOptions{Network: "loopback", LandlockOnly: true}
	llHost := seccompOptions{Network: "host", LandlockOnly: true}
	nested := seccompOptions{Network: "loopback", AllowUserNS: true}
	ok := uint32(retAllow)
	e := retErrno
	const dirt = 0xbeef << 32
	cloexec := uint64(unix.SOCK_CLOEXEC)
	for _, c := range []struct {
		name string
		o    seccompOptions
		call string
		args []uint64
		want uint32
	}{
		{"fork", ns, "clone", []uint64{uint64(unix.SIGCHLD)}, ok},
		{"thread", ns, "clone", []uint64{0x3d0f00}, ok},
		{"user namespace", ns, "clone", []uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, e(unix.EPERM)},
		{"net namespace", ns, "clone", []uint64{unix.CLONE_NEWNET}, e(unix.EPERM)},
		{"clone3", ns, "clone3", nil, e(unix.ENOSYS)},
		{"clone3 nested", nested, "clone3", nil, ok},
		{"nested user namespace", nested, "clone", []uint64{unix.CLONE_NEWUSER}, ok},
		{"unshare files", ns, "unshare", []uint64{unix.CLONE_FILES}, ok},
		{"unshare user", ns, "unshare", []uint64{unix.CLONE_NEWUSER}, e(unix.EPERM)},
		{"unshare time", ns, "unshare", []uint64{unix.CLONE_NEWTIME}, e(unix.EPERM)},
		{"unix socket", ns, "socket", []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, ok},
		{"unix socket, no network", none, "socket", []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, ok},
		{"unix socket, landlock", ll, "socket", []uint64{unix.AF_UNIX, unix.SOCK_STREAM}, e(unix.EAFNOSUPPORT)},
		{"unix pair, landlock", ll, "socketpair", []uint64{unix.AF_UNIX, unix.SOCK_STREAM | cloexec}, ok},
		{"unix seqpacket pair, landlock", ll, "socketpair", []uint64{unix.AF_UNIX, unix.SOCK_SEQPACKET}, ok},
		{"AC-29 datagram pair, landlock", ll, "socketpair", []uint64{unix.AF_UNIX, unix.SOCK_DGRAM | cloexec}, e(unix.ESOCKTNOSUPPORT)},
		{"AC-29 raw pair, landlock", ll, "socketpair", []uint64{unix.AF_UNIX, unix.SOCK_RAW}, e(unix.ESOCKTNOSUPPORT)},
		{"datagram pair", ns, "socketpair", []uint64{unix.AF_UNIX, unix.SOCK_DGRAM}, ok},
		{"inet pair", ns, "socketpair", []uint64{unix.AF_INET, unix.SOCK_STREAM}, e(unix.EAFNOSUPPORT)},
		{"tcp", ns, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM | cloexec, unix.IPPROTO_TCP}, ok},
		{"tcp, high dirt", ns, "socket", []uint64{unix.AF_INET | dirt, unix.SOCK_STREAM | dirt, dirt}, ok},
		{"udp6", ns, "socket", []uint64{unix.AF_INET6, unix.SOCK_DGRAM, 0}, ok},
		{"tcp, no network", none, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM}, e(unix.EAFNOSUPPORT)},
		{"tcp, landlock", ll, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM}, e(unix.EAFNOSUPPORT)},
		{"tcp, landlock host", llHost, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM}, ok},
		{"unix, landlock host", llHost, "socket", []uint64{unix.AF_UNIX, unix.SOCK_DGRAM}, e(unix.EAFNOSUPPORT)},
		{"AC-36 raw", ns, "socket", []uint64{unix.AF_INET, unix.SOCK_RAW, 1}, e(unix.EPERM)},
		{"AC-36 packet type", ns, "socket", []uint64{unix.AF_INET, unix.SOCK_PACKET, 3}, e(unix.EPERM)},
		{"AC-36 mptcp", ns, "socket", []uint64{unix.AF_INET, unix.SOCK_STREAM, 262}, e(unix.EPROTONOSUPPORT)},
		{"AC-36 sctp", ns, "socket", []uint64{unix.AF_INET6, unix.SOCK_STREAM, 132}, e(unix.EPROTONOSUPPORT)},
		{"AC-36 smc", ns, "socket", []uint64{unix.AF_INET6, unix.SOCK_STREAM, 256}, e(unix.EPROTONOSUPPORT)},
		{"AC-36 vsock", ns, "socket", []uint64{unix.AF_VSOCK, unix.SOCK_STREAM}, e(unix.EAFNOSUPPORT)},
		{"AC-36 packet", ns, "socket", []uint64{unix.AF_PACKET, unix.SOCK_RAW}, e(unix.EAFNOSUPPORT)},
		{"AC-36 alg", ns, "socket", []uint64{unix.AF_ALG, unix.SOCK_SEQPACKET}, e(unix.EAFNOSUPPORT)},
		{"netlink route", ns, "socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, 0}, ok},
		{"AC-36 netlink netfilter", ns, "socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, e(unix.EPROTONOSUPPORT)},
		{"netlink, no network", none, "socket", []uint64{unix.AF_NETLINK, unix.SOCK_RAW, 0}, e(unix.EAFNOSUPPORT)},
		{"AC-25 TIOCSTI", ns, "ioctl", []uint64{0, unix.TIOCSTI}, e(unix.EPERM)},
		{"AC-25 TIOCSTI, high dirt", ns, "ioctl", []uint64{0, unix.TIOCSTI | dirt}, e(unix.EPERM)},
		{"AC-25 TIOCLINUX", ns, "ioctl", []uint64{0, tioclinux}, e(unix.EPERM)},
		{"AC-25 TIOCSETD", ns, "ioctl", []uint64{0, tiocsetd}, e(unix.EPERM)},
		{"window size", ns, "ioctl", []uint64{0, unix.TIOCGWINSZ}, ok},
		{"controlling terminal", ns, "ioctl", []uint64{0, unix.TIOCSCTTY}, ok},
		{"gdb's personality", ns, "personality", []uint64{addrNoRandomize}, ok},
		{"personality query", ns, "personality", []uint64{0xffffffff}, ok},
		{"READ_IMPLIES_EXEC", ns, "personality", []uint64{0x0400000}, e(unix.EPERM)},
		{"both personalities", ns, "personality", []uint64{0x0440000}, e(unix.EPERM)},
		{"kill pid 1", ns, "kill", []uint64{1, 9}, e(unix.EPERM)},
		{"kill pid 1, high dirt", ns, "kill", []uint64{1 | dirt, 9}, e(unix.EPERM)},
		{"kill other", ns, "kill", []uint64{17, 9}, ok},
		{"kill everybody in the namespace", ns, "kill", []uint64{0xffffffff, 15}, ok},
		{"kill the host's pid 1", ll, "kill", []uint64{1, 9}, e(unix.EPERM)},
		{"kill one's own group, landlock", ll, "kill", []uint64{0, 9}, ok},
		{"pidfd_open 1", ns, "pidfd_open", []uint64{1}, e(unix.EPERM)},
		{"tgkill 1", ns, "tgkill", []uint64{1, 1, 9}, e(unix.EPERM)},
		{"F_SETOWN 1", ns, "fcntl", []uint64{3, unix.F_SETOWN, 1}, e(unix.EPERM)},
		{"F_SETOWN self", ns, "fcntl", []uint64{3, unix.F_SETOWN, 44}, ok},
		{"F_GETFL", ns, "fcntl", []uint64{3, unix.F_GETFL, 1}, ok},
		{"own limits", ll, "prlimit64", []uint64{0, 7}, ok},
		{"others' limits", ll, "prlimit64", []uint64{4711, 7}, e(unix.EPERM)},
		{"init's limits", ns, "prlimit64", []uint64{1, 7}, e(unix.EPERM)},
		{"chmod", ns, "fchmodat", []uint64{0, 0, 0o755}, ok},
		{"AC-27 chmod u+s", ns, "fchmodat", []uint64{0, 0, 0o4755}, e(unix.EPERM)},
		{"AC-27 chmod g+s", ll, "fchmod", []uint64{0, 0o2755}, e(unix.EPERM)},
		{"chown to another user", one, "fchownat", []uint64{0, 0, 0, 1001}, e(unix.EPERM)},
		{"chown to another group", one, "fchown", []uint64{0, 1001, 1000}, e(unix.EPERM)},
		{"chown to root, high dirt", one, "fchown", []uint64{0, dirt, 1002 | dirt}, e(unix.EPERM)},
		{"chown to oneself", one, "fchownat", []uint64{0, 0, 1001, 1002}, ok},
		{"chgrp alone", one, "fchown", []uint64{0, 0xffffffff, 1002}, ok},
		{"chown of nothing", one, "fchown", []uint64{0, 0xffffffff, 0xffffffff}, ok},
		{"chgrp to another of the user's groups", ll, "fchown", []uint64{0, 0xffffffff, 4}, ok},
		{"sticky", ns, "fchmod", []uint64{0, 0o1777}, ok},
		{"AC-27 create set-id", ns, "openat", []uint64{0, 0, unix.O_CREAT | unix.O_WRONLY, 0o4755}, e(unix.EPERM)},
		{"AC-27 tmpfile set-id", ns, "openat", []uint64{0, 0, unix.O_TMPFILE | unix.O_WRONLY, 0o4755}, e(unix.EPERM)},
		{"open with dirt for a mode", ns, "openat", []uint64{0, 0, unix.O_DIRECTORY, 0o4755}, ok},
		{"fifo", ns, "mknodat", []uint64{0, 0, unix.S_IFIFO | 0o644}, ok},
		{"block device", ns, "mknodat", []uint64{0, 0, unix.S_IFBLK | 0o644}, e(unix.EPERM)},
		{"ptrace", ns, "ptrace", nil, ok},
		{"ptrace, landlock", ll, "ptrace", nil, e(unix.EPERM)},
		{"AC-35 truncate, landlock", ll, "truncate", nil, e(unix.EPERM)},
		{"AC-35 read and truncate, landlock", ll, "openat", []uint64{0, 0, unix.O_RDONLY | unix.O_TRUNC}, e(unix.EPERM)},
		{"write and truncate, landlock", ll, "openat", []uint64{0, 0, unix.O_WRONLY | unix.O_CREAT | unix.O_TRUNC, 0o644}, ok},
		{"AC-35 xattr, landlock", ll, "setxattr", nil, e(unix.EOPNOTSUPP)},
		{"shm, landlock", ll, "shmget", nil, e(unix.ENOSYS)},
		{"shm", ns, "shmget", nil, ok},
		{"read", ns, "read", nil, ok},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, arch := range []seccompArch{seccompAMD64, seccompARM64} {
				nr, found := seccompNumber(arch, c.call)
				if !found {
					t.Fatalf("%s is not in the table", c.call)
				}
				prog, err := buildSeccomp(arch, tableRules, c.o)
				if err != nil {
					t.Fatal(err)
				}
				d := seccompData{nr: nr, arch: arch.audit}
				copy(d.args[:], c.args)
				got, err := runBPF(prog, d)
				if err != nil || got != c.want {
					t.Errorf("%s: %#x (%v), want %#x", arch.name, got, err, c.want)
				}
			}
		})
	}
}

func seccompNumber(arch seccompArch, name string) (uint32, bool) {
	if name == "read" { // not in the table, and never to be
		return map[string]uint32{"amd64": 0, "arm64": 63}[arch.name], true
	}
	for i := range tableRules {
		if r := &tableRules[i]; r.name == name && arch.nr(r) >= 0 {
			return uint32(arch.nr(r)), true
		}
	}
	return 0, false
}

// AC-30: foreign entry points.
func TestSeccompEntryPoints(t *testing.T) {
	for _, arch := range []seccompArch{seccompAMD64, seccompARM64} {
		prog, err := buildSeccomp(arch, tableRules, seccompOptions{Network: "host"})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name string
			d    seccompData
			want uint32
		}{
			{"i386", seccompData{nr: 20, arch: unix.AUDIT_ARCH_I386}, retKill},
			{"arm", seccompData{nr: 20, arch: unix.AUDIT_ARCH_ARM}, retKill},
			{"unknown", seccompData{nr: 20, arch: 0x12345678}, retKill},
			{"x32 getpid", seccompData{nr: 39 | 0x40000000, arch: arch.audit}, retErrno(unix.ENOSYS)},
			{"x32 ioctl without the bit", seccompData{nr: 514, arch: arch.audit}, retErrno(unix.ENOSYS)},
			{"too new", seccompData{nr: lastKnownSyscall + 1, arch: arch.audit}, retErrno(unix.ENOSYS)},
			{"skipped by a tracer", seccompData{nr: ^uint32(0), arch: arch.audit}, retAllow},
		} {
			if got, err := runBPF(prog, c.d); err != nil || got != c.want {
				t.Errorf("%s %s: %#x (%v), want %#x", arch.name, c.name, got, err, c.want)
			}
		}
	}
}

// Jumps stay right when bodies and tables are larger than a byte can span.
func TestSeccompLongJumps(t *testing.T) {
	many := func(seccompOptions) []clause {
		var c []clause
		for v := range uint32(120) {
			c = append(c, deny(unix.Errno(1+v%100), equal(0, v), equal(1, v+1)))
		}
		return c
	}
	table := make([]syscallRule, 6)
	for i := range table {
		table[i] = syscallRule{name: "call" + strconv.Itoa(i), amd64: i * 3, arm64: i * 3, clauses: many}
	}
	prog, err := buildSeccomp(seccompAMD64, table, seccompOptions{Network: "none"})
	if err != nil {
		t.Fatal(err)
	}
	if len(prog) < 1000 {
		t.Fatalf("%d instructions do not test long jumps", len(prog))
	}
	for nr := range uint32(25) {
		for v := range uint64(121) {
			want := uint32(retAllow)
			if nr%3 == 0 && nr < 18 && v < 120 {
				want = retErrno(unix.Errno(1 + v%100))
			}
			d := seccompData{nr: nr, arch: seccompAMD64.audit, args: [6]uint64{v, v + 1}}
			if got, err := runBPF(prog, d); err != nil || got != want {
				t.Fatalf("call %d value %d: %#x (%v), want %#x", nr, v, got, err, want)
			}
		}
	}
	for i := range table {
		table[i].clauses = func(o seccompOptions) []clause {
			return append(append(append(many(o), many(o)...), many(o)...), many(o)...)
		}
	}
	if _, err := buildSeccomp(seccompAMD64, table, seccompOptions{Network: "none"}); err == nil {
		t.Error("a program longer than the kernel takes was built")
	}
}

func TestSeccompRefusesNonsense(t *testing.T) {
	if _, err := seccompProgram(seccompOptions{Network: "everything"}); err == nil {
		t.Error("unknown network mode accepted")
	}
	twice := []syscallRule{{name: "a", amd64: 1, arm64: 1, errno: unix.EPERM}, {name: "b", amd64: 1, arm64: 2, errno: unix.EPERM}}
	if _, err := buildSeccomp(seccompAMD64, twice, seccompOptions{Network: "none"}); err == nil {
		t.Error("two rules for one number accepted")
	}
	if err := seccompInstall(nil); err == nil {
		t.Error("an empty program was installed")
	}
}
