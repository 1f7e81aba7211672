package confine

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
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
	for i := range seccompTable {
		r := &seccompTable[i]
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
	for _, n := range []Network{"none", "loopback", "allow", "host"} {
		for _, ll := range []bool{false, true} {
			for _, p1 := range []bool{false, true} {
				for _, ns := range []bool{false, true} {
					out = append(out, seccompOptions{n, ll, p1, ns})
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
			prog, err := buildSeccomp(arch, seccompTable, o)
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
			rules, err := rulesFor(arch, seccompTable, o)
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
		{"kill everybody of the user", ll, "kill", []uint64{0xffffffff, 9}, e(unix.EPERM)},
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
				prog, err := buildSeccomp(arch, seccompTable, c.o)
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
	for i := range seccompTable {
		if r := &seccompTable[i]; r.name == name && arch.nr(r) >= 0 {
			return uint32(arch.nr(r)), true
		}
	}
	return 0, false
}

// AC-30: foreign entry points.
func TestSeccompEntryPoints(t *testing.T) {
	for _, arch := range []seccompArch{seccompAMD64, seccompARM64} {
		prog, err := buildSeccomp(arch, seccompTable, seccompOptions{Network: "host"})
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

// The numbers in the table are golang.org/x/sys's for both architectures.
func TestSeccompNumbers(t *testing.T) {
	// The table is the same for every user; one who cannot read the module cache
	// has nothing to compare it with.
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil || strings.TrimSpace(string(dir)) == "" {
		t.Skipf("no Go module cache to compare with: %v", err)
	}
	re := regexp.MustCompile(`(?m)^\s*SYS_(\w+)\s*=\s*(\d+)`)
	for _, arch := range []seccompArch{seccompAMD64, seccompARM64} {
		src, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_"+arch.name+".go"))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int{}
		for _, m := range re.FindAllStringSubmatch(string(src), -1) {
			want[strings.ToLower(m[1])], _ = strconv.Atoi(m[2])
		}
		for i := range seccompTable {
			r := &seccompTable[i]
			n, known := want[r.name]
			if !known {
				n = -1
			}
			if arch.nr(r) != n {
				t.Errorf("%s on %s: %d, want %d", r.name, arch.name, arch.nr(r), n)
			}
			if r.why == "" || r.source == "" || (r.clauses == nil) == (r.errno == 0) {
				t.Errorf("%s: incomplete line", r.name)
			}
		}
	}
}

type seccompChildArg struct {
	Options seccompOptions
	Calls   [][7]uint64
}

func restrictSeccomp(o seccompOptions) error {
	prog, err := seccompProgram(o)
	if err != nil {
		return err
	}
	if err := noNewPrivs(); err != nil {
		return err
	}
	return seccompInstall(prog)
}

// childSeccompTable tries every unconditional rule and returns the errno of each.
func childSeccompTable(raw json.RawMessage) (any, error) {
	var arg seccompChildArg
	if err := json.Unmarshal(raw, &arg); err != nil {
		return nil, err
	}
	arch, err := nativeSeccompArch()
	if err != nil {
		return nil, err
	}
	rules, err := rulesFor(arch, seccompTable, arg.Options)
	if err != nil {
		return nil, err
	}
	if err := restrictSeccomp(arg.Options); err != nil {
		return nil, err
	}
	got := map[string]int{}
	for _, r := range rules {
		if r.syscallRule.clauses == nil {
			_, _, e := unix.RawSyscall6(uintptr(r.nr), 0, 0, 0, 0, 0, 0)
			got[r.name] = int(e)
		}
	}
	return got, nil
}

// AC-24, AC-30: the running kernel answers every refused call as the table says.
func TestSeccompLiveTable(t *testing.T) {
	for _, o := range []seccompOptions{
		{Network: "loopback", ProtectPid1: true},
		{Network: "none", LandlockOnly: true},
	} {
		var got map[string]int
		runLayerChild(t, "seccomp-table", seccompChildArg{Options: o}, &got)
		if len(got) < 50 {
			t.Fatalf("only %d calls tried", len(got))
		}
		for i := range seccompTable {
			r := &seccompTable[i]
			if e, tried := got[r.name]; tried && unix.Errno(e) != r.errno {
				t.Errorf("%+v %s: %v, want %v", o, r.name, unix.Errno(e), r.errno)
			}
		}
	}
}

func childSeccompCalls(raw json.RawMessage) (any, error) {
	var arg seccompChildArg
	if err := json.Unmarshal(raw, &arg); err != nil {
		return nil, err
	}
	if err := restrictSeccomp(arg.Options); err != nil {
		return nil, err
	}
	var got []int
	for _, c := range arg.Calls {
		r, _, e := unix.RawSyscall6(uintptr(c[0]), uintptr(c[1]), uintptr(c[2]), uintptr(c[3]), uintptr(c[4]), uintptr(c[5]), uintptr(c[6]))
		if e == 0 && int(r) > 2 && (c[0] == unix.SYS_SOCKET) {
			unix.Close(int(r))
		}
		got = append(got, int(e))
	}
	return got, nil
}

// AC-25, AC-30, AC-36: argument rules on the running kernel.
func TestSeccompLiveArguments(t *testing.T) {
	for _, c := range []struct {
		name string
		o    seccompOptions
		call [7]uint64
		want unix.Errno
	}{
		{"vsock", seccompOptions{Network: "loopback"}, [7]uint64{unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EAFNOSUPPORT},
		{"tcp", seccompOptions{Network: "loopback"}, [7]uint64{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM}, 0},
		{"mptcp", seccompOptions{Network: "loopback"}, [7]uint64{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 262}, unix.EPROTONOSUPPORT},
		{"raw", seccompOptions{Network: "host"}, [7]uint64{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_RAW, 1}, unix.EPERM},
		{"netlink route", seccompOptions{Network: "loopback"}, [7]uint64{unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, 0}, 0},
		{"tcp, none", seccompOptions{Network: "none"}, [7]uint64{unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM}, unix.EAFNOSUPPORT},
		{"unix, none", seccompOptions{Network: "none"}, [7]uint64{unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM}, 0},
		{"unix, landlock", seccompOptions{Network: "none", LandlockOnly: true}, [7]uint64{unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM}, unix.EAFNOSUPPORT},
		{"TIOCSTI", seccompOptions{Network: "none"}, [7]uint64{unix.SYS_IOCTL, 0, unix.TIOCSTI}, unix.EPERM},
		{"TIOCSTI with high bits", seccompOptions{Network: "none"}, [7]uint64{unix.SYS_IOCTL, 0, unix.TIOCSTI | 1<<32}, unix.EPERM},
		{"unshare", seccompOptions{Network: "none"}, [7]uint64{unix.SYS_UNSHARE, unix.CLONE_NEWUSER}, unix.EPERM},
		{"signal pid 1", seccompOptions{Network: "none", ProtectPid1: true}, [7]uint64{unix.SYS_KILL, 1, 0}, unix.EPERM},
		{"x32", seccompOptions{Network: "none"}, [7]uint64{0x40000000 | 39}, unix.ENOSYS},
		{"a call from the future", seccompOptions{Network: "none"}, [7]uint64{lastKnownSyscall + 1}, unix.ENOSYS},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []int
			runLayerChild(t, "seccomp-calls", seccompChildArg{c.o, [][7]uint64{c.call}}, &got)
			if unix.Errno(got[0]) != c.want {
				t.Errorf("errno %v, want %v", unix.Errno(got[0]), c.want)
			}
		})
	}
}

type threadAnswer struct {
	Same, Other, Later int
	Child              string
}

// childSeccompThread restricts one thread and looks at the others.
func childSeccompThread(json.RawMessage) (any, error) {
	probe := func() int {
		_, _, e := unix.RawSyscall(unix.SYS_IOCTL, ^uintptr(0), unix.TIOCSTI, 0)
		return int(e)
	}
	ask, answer := make(chan bool), make(chan int)
	go func() { // on a thread of its own, which is there before the filter
		runtime.LockOSThread()
		answer <- 0
		<-ask
		answer <- probe()
	}()
	<-answer
	if err := restrictSeccomp(seccompOptions{Network: NetworkNone}); err != nil {
		return nil, err
	}
	ask <- true
	a := threadAnswer{Same: probe(), Other: <-answer}
	go func() { // and one the runtime makes or finds afterwards
		runtime.LockOSThread()
		answer <- probe()
	}()
	a.Later = <-answer
	// This goroutine still holds the restricted thread, so that is what forks.
	out, err := exec.Command("/bin/sh", "-c", "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status").Output()
	a.Child = string(out)
	return a, err
}

// AC-34: the filter is on the thread that asked for it and on all it starts, and
// on no other.
func TestSeccompIsPerThread(t *testing.T) {
	var got threadAnswer
	runLayerChild(t, "seccomp-thread", nil, &got)
	if unix.Errno(got.Same) != unix.EPERM || unix.Errno(got.Other) != unix.EBADF || unix.Errno(got.Later) != unix.EBADF {
		t.Errorf("same thread %v, an earlier one %v, a later one %v", unix.Errno(got.Same), unix.Errno(got.Other), unix.Errno(got.Later))
	}
	if got.Child != "NoNewPrivs:\t1\nSeccomp:\t2\n" {
		t.Errorf("a child has %q", got.Child)
	}
}

// childSeccompInt80 calls getpid through the 32-bit gate.
func childSeccompInt80(raw json.RawMessage) (any, error) {
	code, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, err
	}
	copy(code, []byte{0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3}) // mov eax,20; int 0x80; ret
	entry := unsafe.Pointer(unsafe.SliceData(code))
	pEntry := unsafe.Pointer(&entry)
	call := *(*func())(unsafe.Pointer(&pEntry))
	var restrict bool
	if err := json.Unmarshal(raw, &restrict); err != nil {
		return nil, err
	}
	if restrict {
		if err := restrictSeccomp(seccompOptions{Network: "none"}); err != nil {
			return nil, err
		}
	}
	call()
	return "lived", nil
}

// AC-30: the 32-bit gate of amd64.
func TestSeccompLiveInt80(t *testing.T) {
	if arch, _ := nativeSeccompArch(); arch.name != "amd64" {
		return // arm64 kernels have no such gate in a 64-bit process
	}
	// Without the filter the call must work, or its death would prove nothing;
	// a kernel without 32-bit emulation kills it with SIGSEGV instead.
	if _, st := runLayerChild(t, "seccomp-int80", false, nil); st.Signaled() && st.Signal() == syscall.SIGSEGV {
		return
	}
	if out, st := runLayerChild(t, "seccomp-int80", true, nil); !st.Signaled() || st.Signal() != syscall.SIGSYS {
		t.Errorf("status %#x, want death by SIGSYS\n%s", uint32(st), out)
	}
}

type confinedExecArg struct {
	Options seccompOptions
	Script  string
}

// childConfinedExec becomes a shell under the filter alone.
func childConfinedExec(raw json.RawMessage) (any, error) {
	var arg confinedExecArg
	if err := json.Unmarshal(raw, &arg); err != nil {
		return nil, err
	}
	if err := restrictSeccomp(arg.Options); err != nil {
		return nil, err
	}
	return nil, unix.Exec("/bin/sh", []string{"sh", "-euc", arg.Script}, os.Environ())
}

// AC-74: ordinary programs under the filter.
func TestSeccompOrdinaryWork(t *testing.T) {
	ns := seccompOptions{Network: "loopback", ProtectPid1: true}
	ll := seccompOptions{Network: "none", LandlockOnly: true}
	for _, c := range []struct {
		name   string
		o      seccompOptions
		tools  []string
		script string
	}{
		{"coreutils", ll, nil, `mkdir d; touch d/f; chmod 755 d/f; cp -a d e; mv e g; ln g/f h; ln -s h i; tar cf - d | (mkdir x; cd x; tar xpf -); mkfifo p; rm -r d g; test -x x/d/f`},
		{"git", ll, []string{"git"}, `git init -q .; git config user.email a@b; git config user.name a; echo x > f; git add f; git commit -qm m; git checkout -q -b z; git gc -q; git clone -q . ../c2; git status`},
		{"cc", ll, []string{"gcc", "make"}, `printf 'int main(){return 7;}\n' > a.c; printf 'all: a b\na b: a.c\n\tgcc -o $@ a.c\n' > Makefile; make -j2 -s; ./a && exit 1 || test $? = 7`},
		{"go", ll, []string{"go"}, `export GOFLAGS=-mod=mod GOTOOLCHAIN=local GOPATH=$PWD/p; printf 'module m\n' > go.mod; printf 'package main\nimport "os/exec"\nfunc main(){ if exec.Command("true").Run() != nil { panic(1) } }\n' > m.go; go run .`},
		{"go network", ns, []string{"go"}, `export GOTOOLCHAIN=local GOPATH=$PWD/p; printf 'module m\n' > go.mod; printf 'package main\nimport "net"\nfunc main(){ l,e:=net.Listen("tcp","127.0.0.1:0"); if e!=nil {panic(e)}; go func(){c,_:=net.Dial("tcp",l.Addr().String()); c.Write([]byte("x")); c.Close()}(); c,_:=l.Accept(); b:=make([]byte,1); if n,_:=c.Read(b); n!=1 {panic("read")}; if _,e:=net.Interfaces(); e!=nil {panic(e)} }\n' > m.go; go run .`},
		{"node", ll, []string{"node"}, `node -e 'const c=require("child_process");c.execFileSync("true");const p=c.fork("/dev/null");p.on("exit",()=>require("fs").promises.writeFile("o","x").then(()=>process.exit(0)))'; test -f o`},
		{"node network", ns, []string{"node"}, `node -e 'const h=require("http");require("os").networkInterfaces();const s=h.createServer((q,r)=>r.end("hi")).listen(0,"127.0.0.1",()=>h.get({port:s.address().port,host:"127.0.0.1"},r=>r.on("data",d=>{console.log(""+d);process.exit(0)})))'`},
		{"npm", ll, []string{"npm"}, `npm init -y >/dev/null; test -f package.json`},
		{"python", ll, []string{"python3"}, `python3 -c 'import multiprocessing as m, shutil, subprocess
p = m.get_context("fork").Pool(2); print(p.map(abs, [-1, 2])); p.close(); p.join()
open("a", "w").write("x"); shutil.copy2("a", "b"); subprocess.run(["true"], check=True)'`},
		{"strace of a child", ns, []string{"strace"}, `strace -f -o /dev/null sh -c 'true; true'`},
		{"gdb of a child", ns, []string{"gdb", "gcc"}, `printf 'int main(){return 7;}\n' > a.c; gcc -g a.c; gdb -batch -ex 'break main' -ex run -ex bt -ex c ./a.out 2>&1 | tee /dev/stderr | grep -q 'main ()'`},
		{"ps and threads", ns, []string{"ps"}, `ps -o pid,comm >/dev/null; setsid true; nice -n 5 true; timeout 5 true`},
	} {
		t.Run(c.name, func(t *testing.T) {
			needTools(t, c.tools...)
			if cache, err := exec.Command("go", "env", "GOCACHE").Output(); err == nil {
				t.Setenv("GOCACHE", strings.TrimSpace(string(cache))) // compiling the standard library anew takes a minute
			}
			t.Chdir(t.TempDir())
			t.Setenv("HOME", t.TempDir())
			out, st := runLayerChild(t, "confined-exec", confinedExecArg{c.o, c.script}, nil)
			if st != 0 {
				t.Errorf("status %#x\n%s", uint32(st), out)
			}
			if d, err := filepath.Abs("../c2"); err == nil {
				os.RemoveAll(d)
			}
		})
	}
}
