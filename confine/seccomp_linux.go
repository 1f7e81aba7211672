package confine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// The seccomp layer is a deny list with a ceiling: system calls newer than the
// table knows answer ENOSYS, exactly as on the older kernel every program must
// cope with anyway, so a kernel update never opens a way that was not reviewed.
// Below the ceiling an unlisted call is allowed; the table in
// seccomp_table_linux.go says for each listed one what is refused and why.
//
// It is the last layer, not the only one: what it refuses is mostly refused
// already by missing capabilities, the private namespaces or Landlock. It
// stands alone only for the landlock level (sockets, System V IPC, ptrace).

// seccompOptions choose the rules that depend on the session.
type seccompOptions struct {
	// Network decides which socket families exist. "host" at the landlock level
	// means the real network, by the operator's word.
	Network sandbox.Network
	// LandlockOnly is set where no namespaces lie below: everything that reaches
	// beyond the session by a path or an id, and that Landlock cannot see, is
	// closed here.
	LandlockOnly bool
	// ProtectPid1 refuses signals to pid 1, the sandbox's own init.
	ProtectPid1 bool
	// Supervised is set where init makes files for the commands: they are made in
	// no Landlock domain but the session's, so programs may enter no other.
	Supervised bool
	// SocketsByInit is set where init refuses sockets of a network.
	SocketsByInit bool
	// OneUser is set where the user namespace knows UID and GID alone, so that no
	// file can be given to anybody else.
	OneUser  bool
	UID, GID int
	// AllowUserNS leaves clone, clone3 and unshare open for nested sandboxes.
	AllowUserNS bool
}

// syscallRule is one line of the table. A rule without clauses refuses the call
// whatever its arguments are.
type syscallRule struct {
	name  string
	amd64 int // system call number, -1 where the architecture has none
	arm64 int
	when  ruleScope
	errno unix.Errno // answer of an unconditional rule

	clauses func(seccompOptions) []clause // nil: unconditional

	why    string
	source string
}

// ruleScope says in which sessions a rule stands in the program.
type ruleScope uint8

const (
	always       ruleScope = iota
	landlockOnly           // no namespaces below
	guardPid1              // pid 1 is the sandbox's init, or the host's
	noNestedNS             // unless AllowUserNS
	supervised             // init makes files for the commands
)

// guardPid1: without a pid namespace pid 1 is the host's, which a session of uid
// 0 could signal.
func (o seccompOptions) guardPid1() bool { return o.ProtectPid1 || o.LandlockOnly }

func (s ruleScope) holds(o seccompOptions) bool {
	switch s {
	case landlockOnly:
		return o.LandlockOnly
	case guardPid1:
		return o.guardPid1()
	case noNestedNS:
		return !o.AllowUserNS
	case supervised:
		return o.Supervised
	}
	return true
}

// clause refuses a call when all its tests hold. The first clause that holds
// decides; a call no clause refuses is allowed.
type clause struct {
	tests []argTest
	// allow turns the clause into a permit, so "only these" reads as permits
	// followed by a refusal without tests.
	allow bool
	errno unix.Errno
}

// argTest compares the low 32 bits of one argument. The kernel itself looks at
// no more than those for every argument tested here (int, unsigned int, pid_t,
// mode_t); comparing all 64 is how TIOCSTI filters were dodged (CVE-2019-10063).
type argTest struct {
	arg   int // 0..5
	op    argOp
	mask  uint32 // opMasked: compare arg&mask
	value uint32
}

type argOp uint8

const (
	opEqual    argOp = iota // arg == value
	opNotEqual              // arg != value
	opMasked                // arg & mask == value
	opAnySet                // arg & mask != 0
)

func equal(arg int, v uint32) argTest    { return argTest{arg: arg, op: opEqual, value: v} }
func notEqual(arg int, v uint32) argTest { return argTest{arg: arg, op: opNotEqual, value: v} }
func masked(arg int, mask, v uint32) argTest {
	return argTest{arg: arg, op: opMasked, mask: mask, value: v}
}
func anySet(arg int, mask uint32) argTest { return argTest{arg: arg, op: opAnySet, mask: mask} }

func deny(e unix.Errno, tests ...argTest) clause { return clause{tests: tests, errno: e} }
func permit(tests ...argTest) clause             { return clause{tests: tests, allow: true} }

// seccompArch is what the program needs to know of an architecture.
type seccompArch struct {
	name  string
	audit uint32 // AUDIT_ARCH_*, what the kernel puts into seccomp_data.arch
	nr    func(*syscallRule) int
}

var (
	seccompAMD64 = seccompArch{"amd64", unix.AUDIT_ARCH_X86_64, func(r *syscallRule) int { return r.amd64 }}
	seccompARM64 = seccompArch{"arm64", unix.AUDIT_ARCH_AARCH64, func(r *syscallRule) int { return r.arm64 }}
)

// Offsets in struct seccomp_data (linux/seccomp.h); both supported
// architectures are little endian, so the low half of an argument comes first.
const (
	dataNr   = 0
	dataArch = 4
	dataArgs = 16
)

const (
	retAllow = unix.SECCOMP_RET_ALLOW
	retKill  = unix.SECCOMP_RET_KILL_PROCESS
)

func retErrno(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e)&unix.SECCOMP_RET_DATA }

// seccompProgram builds the filter of this machine's architecture. It is pure:
// the same options give the same program.
func seccompProgram(o seccompOptions) ([]unix.SockFilter, error) {
	arch, err := nativeSeccompArch()
	if err != nil {
		return nil, err
	}
	return buildSeccomp(arch, seccompTable(), o)
}

// buildSeccomp assembles the filter:
//
//	arch check -> ceiling -> binary search over the numbers -> one body per call
//
// A foreign architecture is killed rather than answered: its numbers mean other
// calls (int 0x80 on amd64, seccomp(2)), and a 32-bit program that gets
// ENOSYS for everything including exit ends in a loop instead of a clear
// SIGSYS. The x32 entry (bit 30 of the number) lies above the ceiling and gets
// the ENOSYS of a kernel built without it.
func buildSeccomp(arch seccompArch, table []syscallRule, o seccompOptions) ([]unix.SockFilter, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	rules, err := rulesFor(arch, table, o)
	if err != nil {
		return nil, err
	}
	a := &assembler{code: make([]bpfInstruction, 0, 12*len(rules)), labels: make([]int, 0, 12*len(rules))}
	native, foreign := a.newLabel(), a.newLabel()
	known, unknown, search, allow := a.newLabel(), a.newLabel(), a.newLabel(), a.newLabel()
	bodies := make([]bpfLabel, len(rules))
	for i := range bodies {
		bodies[i] = a.newLabel()
	}
	a.load(dataArch)
	a.branch(unix.BPF_JEQ, arch.audit, native, foreign)
	a.place(foreign)
	a.ret(retKill)
	a.place(native)
	a.load(dataNr)
	// -1 is how a tracer says "skip this call"; the kernel runs nothing for it.
	a.branch(unix.BPF_JEQ, ^uint32(0), allow, known)
	a.place(known)
	a.branch(unix.BPF_JGT, lastKnownSyscall, unknown, search)
	a.place(unknown)
	a.ret(retErrno(unix.ENOSYS))
	a.place(search)
	a.search(rules, bodies, allow)
	for i, r := range rules {
		a.place(bodies[i])
		a.body(r)
	}
	a.place(allow)
	a.ret(retAllow)
	return a.assemble()
}

func (o seccompOptions) check() error {
	switch o.Network {
	case "none", "loopback", "allow", "host":
		return nil
	}
	return fmt.Errorf("seccomp: unknown network mode %q", o.Network)
}

// numberedRule is a table line with its number on one architecture.
type numberedRule struct {
	nr uint32
	*syscallRule
	clauses []clause
}

func rulesFor(arch seccompArch, table []syscallRule, o seccompOptions) ([]numberedRule, error) {
	var out []numberedRule
	for i := range table {
		r := &table[i]
		nr := arch.nr(r)
		if nr < 0 || !r.when.holds(o) {
			continue
		}
		n := numberedRule{nr: uint32(nr), syscallRule: r}
		if r.clauses != nil {
			if n.clauses = r.clauses(o); len(n.clauses) == 0 {
				continue
			}
		}
		out = append(out, n)
	}
	slices.SortFunc(out, func(x, y numberedRule) int { return cmp.Compare(x.nr, y.nr) })
	for i := 1; i < len(out); i++ {
		if out[i].nr == out[i-1].nr {
			return nil, fmt.Errorf("seccomp: %s and %s share number %d on %s",
				out[i-1].name, out[i].name, out[i].nr, arch.name)
		}
	}
	return out, nil
}

// errNoSeccompArch is returned on architectures the table has no numbers for.
var errNoSeccompArch = errors.New("seccomp: this processor architecture is not in the table (amd64 and arm64 are)")

// seccompInstall puts prog on the calling thread alone, for good. The thread
// must have no_new_privs set. It does not allocate, so it is safe between the
// last set-up step and the first spawn.
func seccompInstall(prog []unix.SockFilter) error {
	if len(prog) == 0 || len(prog) > bpfMaxInstructions {
		return unix.EINVAL
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	// No TSYNC: init's other threads must stay able to mount and to signal. No
	// SPEC_ALLOW: whatever speculation mitigation the kernel couples to a filter
	// is kept.
	if _, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&fprog))); e != 0 {
		return e
	}
	return nil
}

// seccompSummary says in one line what the filter does, for reports.
func seccompSummary(o seccompOptions) string {
	arch, err := nativeSeccompArch()
	if err != nil {
		return err.Error()
	}
	rules, err := rulesFor(arch, seccompTable(), o)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d system calls refused or filtered on %s, unknown ones answer ENOSYS", len(rules), arch.name)
	return b.String()
}
