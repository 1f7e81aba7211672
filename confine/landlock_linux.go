package confine

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// landlockAccess is what a rule lets the session do beneath a path; values are
// added together.
type landlockAccess uint8

const (
	laReadNoExec landlockAccess = 1 << iota // read files, list directories
	laExec                                  // run programs
	// laWrite is everything one does with one's own files: read, run, write,
	// truncate, make, remove, rename and link. Making device nodes and device
	// ioctls stay out.
	laWrite
	laDevice // read and write a device, and its ioctls (terminals)

	laRead = laReadNoExec | laExec
)

// landlockRule opens one tree. Path, when set, is opened by this call (links
// followed); otherwise FD is an O_PATH descriptor, which stays the caller's.
type landlockRule struct {
	FD       int
	Path     string
	Access   landlockAccess
	Optional bool // a missing Path is skipped, not an error
}

// landlockDomain is a complete Landlock restriction.
type landlockDomain struct {
	Rules         []landlockRule
	ScopeSignal   bool // no signals to processes outside the domain
	ScopeAbstract bool // no abstract unix sockets of processes outside it
	DenyTCP       bool // no TCP bind or connect at all
}

// landlockMaxABI is the newest Landlock ABI this file knows rights of.
const landlockMaxABI = 9

// Rights by the ABI that brought them (landlock(7), linux/landlock.h).
const (
	llRead    = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	llExecute = unix.LANDLOCK_ACCESS_FS_EXECUTE
	llChange  = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR |
		unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		// Sockets in writable trees may belong to a command of an earlier domain
		// of the same session.
		unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	llNodes = unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK
	llIoctl = unix.LANDLOCK_ACCESS_FS_IOCTL_DEV

	// llOnFiles are the rights a rule on something other than a directory may
	// carry; the kernel answers EINVAL to others.
	llOnFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_IOCTL_DEV | unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
)

// landlockMasks is what a kernel of one ABI can be asked to handle.
type landlockMasks struct{ fs, net, scope uint64 }

// landlockHandled gives the masks of an ABI; those of an ABI newer than this
// file are the newest it knows. 0 and less handle nothing.
func landlockHandled(abi int) landlockMasks {
	var m landlockMasks
	if abi >= 1 {
		m.fs = (llRead | llExecute | llChange | llNodes) &^
			(unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX)
	}
	if abi >= 2 {
		m.fs |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		m.fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 4 {
		m.net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= 5 {
		m.fs |= llIoctl
	}
	if abi >= 6 {
		m.scope = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	if abi >= 9 {
		m.fs |= unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	}
	return m
}

// rights turns an access into kernel rights an ABI handles.
func (a landlockAccess) rights(handled uint64, directory bool) uint64 {
	var r uint64
	if a&laReadNoExec != 0 {
		r |= llRead
	}
	if a&laExec != 0 {
		r |= llExecute
	}
	if a&laWrite != 0 {
		r |= llRead | llExecute | llChange
	}
	if a&laDevice != 0 {
		r |= llRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | llIoctl
	}
	if !directory {
		r &= llOnFiles
	}
	return r & handled
}

// landlockABI is the running kernel's Landlock ABI, 0 where there is none.
func landlockABI() int {
	abi, _ := landlockVersion()
	return abi
}

// landlockVersion is landlockABI with the reason for a 0: ENOSYS when the
// kernel is built without it, EOPNOTSUPP when it is not in the lsm= list, EPERM
// when a seccomp filter around us refuses the question.
func landlockVersion() (int, error) {
	v, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 {
		return 0, e
	}
	return int(v), nil
}

// landlockErrata is the bit set of fixed errata (landlock(7), "Landlock
// errata"), 0 where the kernel does not tell.
func landlockErrata() int {
	v, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_ERRATA)
	if e != 0 {
		return 0
	}
	return int(v)
}

// landlockRestrict puts the calling thread, and all it starts, into a new
// Landlock domain in which only rules are open. The thread must have
// no_new_privs. Rights and scopes the ABI lacks are left out; plan reports
// them. It fails, with nothing changed, for ABI 0 and for a rule whose path
// cannot be opened and is not Optional.
func landlockRestrict(abi int, rules []landlockRule, scopeSignal, scopeAbstract bool) error {
	return landlockDomain{Rules: rules, ScopeSignal: scopeSignal, ScopeAbstract: scopeAbstract}.restrict(abi)
}

// restrict enforces d on the calling thread, see landlockRestrict.
func (d landlockDomain) restrict(abi int) error {
	handled := landlockHandled(abi)
	if handled.fs == 0 {
		return errors.New("landlock: not available on this kernel")
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled.fs}
	if d.DenyTCP {
		attr.Handled_access_net = handled.net
	}
	if d.ScopeSignal {
		attr.Scoped |= unix.LANDLOCK_SCOPE_SIGNAL & handled.scope
	}
	if d.ScopeAbstract {
		attr.Scoped |= unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET & handled.scope
	}
	fd, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_CREATE_RULESET,
		uintptr(unsafe.Pointer(&attr)), landlockAttrSize(abi), 0)
	if e != 0 {
		return fmt.Errorf("landlock: create ruleset: %w", e)
	}
	ruleset := int(fd)
	defer unix.Close(ruleset)
	for _, r := range d.Rules {
		if err := r.add(ruleset, handled.fs); err != nil {
			return err
		}
	}
	if _, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); e != 0 {
		return fmt.Errorf("landlock: restrict: %w", e)
	}
	return nil
}

// landlockAttrSize is the size of struct landlock_ruleset_attr as the ABI knows
// it. Kernels take a longer one when the rest is zero, but only a size of their
// own age is certain to be understood.
func landlockAttrSize(abi int) uintptr {
	var attr unix.LandlockRulesetAttr
	switch {
	case abi < 4:
		return unsafe.Offsetof(attr.Handled_access_net)
	case abi < 6:
		return unsafe.Offsetof(attr.Scoped)
	default:
		return unsafe.Offsetof(attr.Quiet_access_fs)
	}
}

func (r landlockRule) add(ruleset int, handled uint64) error {
	fd := r.FD
	if r.Path != "" {
		var err error
		fd, err = unix.Open(r.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			if r.Optional && (err == unix.ENOENT || err == unix.ENOTDIR) {
				return nil
			}
			return fmt.Errorf("landlock: open a path of the policy: %w", &pathError{r.Path, err})
		}
		defer unix.Close(fd)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("landlock: look at a path of the policy: %w", err)
	}
	rights := r.Access.rights(handled, st.Mode&unix.S_IFMT == unix.S_IFDIR)
	if rights == 0 {
		return nil // nothing this object can be granted; the kernel refuses an empty rule
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	if _, _, e := unix.RawSyscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset),
		unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0); e != 0 {
		return fmt.Errorf("landlock: add a rule: %w", e)
	}
	return nil
}

// pathError keeps the path for logs and out of the message.
type pathError struct {
	path string
	err  error
}

func (e *pathError) Error() string { return e.err.Error() }
func (e *pathError) Unwrap() error { return e.err }

func hostLandlockABI() int { return landlockABI() }
