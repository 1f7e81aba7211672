package confine

import "golang.org/x/sys/unix"

// lastKnownSyscall is the newest call the table was written with knowledge of
// (Linux 7.0, rseq_slice_yield). Later ones answer ENOSYS until somebody has
// looked at them. Numbers from 424 on are the same on all architectures.
const lastKnownSyscall = 471

// syscallGroup is what is refused for one reason and with one answer.
type syscallGroup struct {
	why, source string
	when        ruleScope
	errno       unix.Errno                    // answer whatever the arguments are
	clauses     func(seccompOptions) []clause // nil: errno
	calls       []syscallNumbers
}

// syscallNumbers is a call with its number on each architecture, -1 where there
// is none.
type syscallNumbers struct {
	name         string
	amd64, arm64 int
}

// seccompTable lists every call that is refused or looked at, one by one.
func seccompTable() []syscallRule {
	out := make([]syscallRule, 0, 160)
	for _, g := range seccompGroups {
		for _, c := range g.calls {
			out = append(out, syscallRule{
				name: c.name, amd64: c.amd64, arm64: c.arm64,
				when: g.when, errno: g.errno, clauses: g.clauses, why: g.why, source: g.source,
			})
		}
	}
	return out
}

// seccompGroups is the policy by subject; the program is built in order of
// numbers. Numbers come from the kernel's own tables (syscall_64.tbl,
// asm-generic/unistd.h) and a test compares them with golang.org/x/sys.
//
// All fields are constants or plain functions, so the linker lays the table
// out and starting the program does not execute it.
var seccompGroups = []syscallGroup{
	// Mounts: the session's view of the file system is final.
	{why: "changes the mount tree the confinement is made of", source: "mount_namespaces(7)",
		errno: unix.EPERM, calls: []syscallNumbers{{"mount", 165, 40}, {"umount2", 166, 39}, {"pivot_root", 155, 41}, {"chroot", 161, 51}}},
	{why: "the same through the mount API of Linux 5.2", source: "CVE-2022-0185 (fsconfig)",
		errno: unix.EPERM, calls: []syscallNumbers{
			{"open_tree", 428, 428}, {"open_tree_attr", 467, 467}, {"move_mount", 429, 429}, {"fsopen", 430, 430},
			{"fsconfig", 431, 431}, {"fsmount", 432, 432}, {"fspick", 433, 433}, {"mount_setattr", 442, 442},
		}},

	// Namespaces: no nested ones, they are the largest kernel attack surface an
	// ordinary process can reach.
	{why: "CLONE_NEW* makes a nested namespace", source: "CVE-2022-0185, CVE-2023-0386 and CVE-2024-1086 all start there",
		when: noNestedNS, clauses: cloneClauses, calls: []syscallNumbers{{"clone", 56, 220}}},
	{why: "its flags lie in memory a filter cannot read; libc falls back to clone", source: "Docker default profile",
		when: noNestedNS, errno: unix.ENOSYS, calls: []syscallNumbers{{"clone3", 435, 435}}},
	{why: "makes a nested namespace", source: "unshare(2)",
		when: noNestedNS, clauses: unshareClauses, calls: []syscallNumbers{{"unshare", 272, 97}}},
	{why: "enters another namespace", source: "setns(2)",
		errno: unix.EPERM, calls: []syscallNumbers{{"setns", 308, 268}}},

	// Kernel code, tracing and keys.
	{why: "loads kernel code", source: "init_module(2), kexec_load(2)",
		errno: unix.EPERM, calls: []syscallNumbers{
			{"init_module", 175, 105}, {"finit_module", 313, 273}, {"delete_module", 176, 106}, {"kexec_load", 246, 104},
			{"kexec_file_load", 320, 294},
		}},
	{why: "loads programs into the kernel", source: "CVE-2021-3490, CVE-2022-23222",
		errno: unix.EPERM, calls: []syscallNumbers{{"bpf", 321, 280}}},
	{why: "kernel profiling; large attack surface", source: "CVE-2023-5717",
		errno: unix.EPERM, calls: []syscallNumbers{{"perf_event_open", 298, 241}}},
	{why: "lets a program pause the kernel in mid-copy, a common exploit aid", source: "vm.unprivileged_userfaultfd",
		errno: unix.EPERM, calls: []syscallNumbers{{"userfaultfd", 323, 282}}},
	{why: "runs sockets and files past this filter; programs probe and fall back", source: "CVE-2022-29582, CVE-2023-2598",
		errno: unix.ENOSYS, calls: []syscallNumbers{{"io_uring_setup", 425, 425}, {"io_uring_enter", 426, 426}, {"io_uring_register", 427, 427}}},
	{why: "kernel keyrings are not in any namespace; keyctl undid Landlock", source: "CVE-2024-42318, CVE-2016-0728",
		errno: unix.EPERM, calls: []syscallNumbers{{"add_key", 248, 217}, {"request_key", 249, 218}, {"keyctl", 250, 219}}},
	{why: "profiling aid, removed in Linux 6.8", source: "Docker default profile",
		errno: unix.EPERM, calls: []syscallNumbers{{"lookup_dcookie", 212, 18}}},
	{why: "obsolete binary loader", source: "CVE-2004-1235",
		errno: unix.ENOSYS, calls: []syscallNumbers{{"uselib", 134, -1}}},
	{why: "obsolete, removed from the kernel", source: "Docker default profile",
		errno: unix.ENOSYS, calls: []syscallNumbers{{"_sysctl", 156, -1}, {"nfsservctl", 180, 42}}},
	{why: "16-bit segments, needed by DOS emulators alone", source: "CVE-2015-5157",
		errno: unix.ENOSYS, calls: []syscallNumbers{{"modify_ldt", 154, -1}}},
	{why: "READ_IMPLIES_EXEC and MMAP_PAGE_ZERO weaken memory protection", source: "Docker default profile",
		clauses: personalityClauses, calls: []syscallNumbers{{"personality", 135, 92}}},
	{why: "watches whole mounts", source: "Docker default profile",
		errno: unix.EPERM, calls: []syscallNumbers{{"fanotify_init", 300, 262}}},
	{why: "memory that init cannot read, so no name in it can be judged", source: "memfd_secret(2)",
		errno: unix.ENOSYS, calls: []syscallNumbers{{"memfd_secret", 447, 447}}},
	{why: "files are made by init, which is not in a program's own domain; programs take it for a kernel without Landlock", source: "landlock_create_ruleset(2)",
		when: supervised, errno: unix.EOPNOTSUPP, calls: []syscallNumbers{{"landlock_create_ruleset", 444, 444}}},

	// Other processes.
	{why: "reads and writes another process; debuggers fall back to ptrace", source: "process_vm_readv(2)",
		errno: unix.ENOSYS, calls: []syscallNumbers{{"process_vm_readv", 310, 270}, {"process_vm_writev", 311, 271}}},
	{why: "compares kernel pointers of two processes", source: "kcmp(2)",
		errno: unix.EPERM, calls: []syscallNumbers{{"kcmp", 312, 272}}},
	{why: "acts on a dying process", source: "Linux 5.15",
		errno: unix.EPERM, calls: []syscallNumbers{{"process_mrelease", 448, 448}}},
	{why: "no process namespace below; Landlock alone would stand between", source: "ptrace(2), pidfd_getfd(2), process_madvise(2)",
		when: landlockOnly, errno: unix.EPERM, calls: []syscallNumbers{{"ptrace", 101, 117}, {"pidfd_getfd", 438, 438}, {"process_madvise", 440, 440}}},
	{why: "pid 1 is the session's init; at the landlock level init refuses its own pid and -1, see initRules", source: "kill(2)",
		when: guardPid1, clauses: targetPid1Clauses, calls: []syscallNumbers{{"kill", 62, 129}}},
	{why: "pid 1 is the session's init; its death ends the session", source: "signal(7) on pid 1",
		when: guardPid1, clauses: targetPid1Clauses, calls: []syscallNumbers{
			{"tkill", 200, 130}, {"rt_sigqueueinfo", 129, 138}, {"tgkill", 234, 131}, {"rt_tgsigqueueinfo", 297, 240},
			{"pidfd_open", 434, 434},
		}},
	{why: "takes a /proc/1 descriptor; programs probe and fall back to kill", source: "pidfd_send_signal(2)",
		when: guardPid1, errno: unix.ENOSYS, calls: []syscallNumbers{{"pidfd_send_signal", 424, 424}}},
	{why: "F_SETOWN makes the kernel send a chosen signal to pid 1", source: "fcntl(2) F_SETSIG",
		when: guardPid1, clauses: fcntlClauses, calls: []syscallNumbers{{"fcntl", 72, 25}}},
	{why: "lowers the limits of init, or of the user's other processes", source: "prlimit(2)",
		clauses: prlimitClauses, calls: []syscallNumbers{{"prlimit64", 302, 261}}},

	// Files by handle, and modes that outlive the session.
	{why: "opens files by number, past every path rule", source: "open_by_handle_at(2), the shocker escape of 2014",
		errno: unix.EPERM, calls: []syscallNumbers{{"open_by_handle_at", 304, 265}, {"name_to_handle_at", 303, 264}}},
	{why: "a set-id file in the workspace would be one on the host, too", source: "systemd RestrictSUIDSGID",
		clauses: sxidArg1Clauses, calls: []syscallNumbers{{"chmod", 90, -1}, {"creat", 85, -1}, {"fchmod", 91, 52}}},
	{why: "a set-id file in the workspace would be one on the host, too", source: "systemd RestrictSUIDSGID",
		clauses: sxidArg2Clauses, calls: []syscallNumbers{{"fchmodat", 268, 53}, {"fchmodat2", 452, 452}}},
	{why: "a set-id file in the workspace would be one on the host, too", source: "systemd RestrictSUIDSGID",
		clauses: openClauses, calls: []syscallNumbers{{"open", 2, -1}}},
	{why: "a set-id file in the workspace would be one on the host, too", source: "systemd RestrictSUIDSGID",
		clauses: openatClauses, calls: []syscallNumbers{{"openat", 257, 56}}},
	{why: "its mode lies in memory a filter cannot read; programs fall back to openat", source: "systemd RestrictSUIDSGID",
		errno: unix.ENOSYS, calls: []syscallNumbers{{"openat2", 437, 437}}},
	{why: "nobody else exists in the user namespace: the kernel says EINVAL, programs expect EPERM", source: "chown(2), user_namespaces(7)",
		clauses: chownClauses, calls: []syscallNumbers{{"chown", 92, -1}, {"lchown", 94, -1}, {"fchown", 93, 55}}},
	{why: "nobody else exists in the user namespace: the kernel says EINVAL, programs expect EPERM", source: "chown(2), user_namespaces(7)",
		clauses: fchownatClauses, calls: []syscallNumbers{{"fchownat", 260, 54}}},
	{why: "devices and set-id files", source: "mknod(2)",
		clauses: mknodClauses, calls: []syscallNumbers{{"mknod", 133, -1}}},
	{why: "devices and set-id files", source: "mknod(2)",
		clauses: mknodatClauses, calls: []syscallNumbers{{"mknodat", 259, 33}}},
	{why: "changes inode flags by path, newer than Landlock's rights", source: "Linux 6.17",
		errno: unix.ENOSYS, calls: []syscallNumbers{{"file_setattr", 469, 469}}},
	{why: "Landlock does not cover attributes and ACLs; copying tools take this answer", source: "landlock(7), xattr(7)",
		when: landlockOnly, errno: unix.EOPNOTSUPP, calls: []syscallNumbers{
			{"setxattr", 188, 5}, {"lsetxattr", 189, 6}, {"removexattr", 197, 14}, {"lremovexattr", 198, 15},
			{"setxattrat", 463, 463}, {"removexattrat", 466, 466},
		}},

	// The machine.
	{why: "administers the machine", source: "reboot(2), swapon(2), acct(2), quotactl(2)",
		errno: unix.EPERM, calls: []syscallNumbers{
			{"reboot", 169, 142}, {"swapon", 167, 224}, {"swapoff", 168, 225}, {"acct", 163, 89}, {"quotactl", 179, 60},
			{"quotactl_fd", 443, 443},
		}},
	{why: "the clock is everybody's; a filter cannot tell reading it from setting it", source: "settimeofday(2), adjtimex(2)",
		errno: unix.EPERM, calls: []syscallNumbers{
			{"settimeofday", 164, 170}, {"clock_settime", 227, 112}, {"clock_adjtime", 305, 266}, {"adjtimex", 159, 171},
		}},
	{why: "names are part of the session's set-up", source: "uts_namespaces(7)",
		errno: unix.EPERM, calls: []syscallNumbers{{"sethostname", 170, 161}, {"setdomainname", 171, 162}}},
	{why: "kernel log", source: "syslog(2)",
		errno: unix.EPERM, calls: []syscallNumbers{{"syslog", 103, 116}}},
	{why: "hardware ports", source: "iopl(2), ioperm(2)",
		errno: unix.EPERM, calls: []syscallNumbers{{"iopl", 172, -1}, {"ioperm", 173, -1}}},
	{why: "hangs up terminals", source: "vhangup(2)",
		errno: unix.EPERM, calls: []syscallNumbers{{"vhangup", 153, 58}}},
	{why: "changes the security module's label", source: "lsm_set_self_attr(2)",
		errno: unix.EPERM, calls: []syscallNumbers{{"lsm_set_self_attr", 460, 460}}},
	{why: "lists namespaces of the whole machine", source: "Linux 6.19",
		errno: unix.ENOSYS, calls: []syscallNumbers{{"listns", 470, 470}}},

	// Terminals and sockets.
	{why: "TIOCSTI and TIOCLINUX type into a terminal, TIOCSETD loads line disciplines", source: "CVE-2017-5226, CVE-2019-10063, CVE-2023-1523",
		clauses: ioctlClauses, calls: []syscallNumbers{{"ioctl", 16, 29}}},
	{why: "families past the network namespace (vsock), raw and exotic protocols", source: "socket(2), vsock(7), network_namespaces(7)",
		clauses: socketClauses, calls: []syscallNumbers{{"socket", 41, 198}}},
	{why: "only local pairs; at the landlock level no datagram pair, which can be re-aimed at a path", source: "socketpair(2), unix(7)",
		clauses: socketpairClauses, calls: []syscallNumbers{{"socketpair", 53, 199}}},
	{why: "System V objects of the host, no IPC namespace below", source: "ipc_namespaces(7)",
		when: landlockOnly, errno: unix.ENOSYS, calls: []syscallNumbers{
			{"shmget", 29, 194}, {"shmat", 30, 196}, {"shmctl", 31, 195}, {"shmdt", 67, 197}, {"msgget", 68, 186},
			{"msgsnd", 69, 189}, {"msgrcv", 70, 188}, {"msgctl", 71, 187}, {"semget", 64, 190}, {"semop", 65, 193},
			{"semtimedop", 220, 192}, {"semctl", 66, 191},
		}},
	{why: "message queues of the host, no IPC namespace below", source: "ipc_namespaces(7)",
		when: landlockOnly, errno: unix.ENOSYS, calls: []syscallNumbers{{"mq_open", 240, 180}, {"mq_unlink", 241, 181}}},
	{why: "Landlock sees it from ABI 3 on only; programs use ftruncate", source: "landlock(7)",
		when: landlockOnly, errno: unix.EPERM, calls: []syscallNumbers{{"truncate", 76, 45}}},
	{why: "would slow other processes of the user", source: "setpriority(2)",
		when: landlockOnly, clauses: setpriorityClauses, calls: []syscallNumbers{{"setpriority", 141, 140}}},
	{why: "would bind other processes of the user to one processor", source: "sched_setaffinity(2)",
		when: landlockOnly, clauses: ownSchedulingClauses, calls: []syscallNumbers{{"sched_setaffinity", 203, 122}}},
	{why: "would slow other processes of the user", source: "sched_setscheduler(2), sched_setattr(2)",
		when: landlockOnly, clauses: ownSchedulingClauses, calls: []syscallNumbers{
			{"sched_setscheduler", 144, 119}, {"sched_setparam", 142, 118}, {"sched_setattr", 314, 274},
		}},
	{why: "would slow the disk for other processes of the user", source: "ioprio_set(2)",
		when: landlockOnly, clauses: ioprioClauses, calls: []syscallNumbers{{"ioprio_set", 251, 30}}},
	{why: "moves the memory of another process", source: "migrate_pages(2)",
		when: landlockOnly, errno: unix.EPERM, calls: []syscallNumbers{{"migrate_pages", 256, 238}}},
	{why: "moves the memory of another process, or tells where it is", source: "move_pages(2)",
		when: landlockOnly, clauses: ownSchedulingClauses, calls: []syscallNumbers{{"move_pages", 279, 239}}},
}
