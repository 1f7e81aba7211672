package confine

import (
	"fmt"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	"mcp-sandbox/sandbox"
)

// The Seatbelt level runs each command under sandbox-exec(1) with a profile made
// here from the same Policy. The text is pure, so it is tested on any machine.
//
// A profile denies by default and lists what is allowed; among rules that match,
// the last one wins, which is why the order below is the order of strength:
// system, grants from the outside in, then what must hold whatever was granted.
// No path ever stands in the text: paths are parameters (-D NAME=PATH), so a
// name with a quote or a parenthesis cannot become a rule.

// seatbeltSpec is everything the profile of one command depends on. Paths are
// absolute and free of symbolic links: the kernel compares resolved ones, so
// /tmp means nothing and /private/tmp does.
type seatbeltSpec struct {
	Workspace string
	ReadOnly  bool   // of Workspace
	Home, Tmp string // of the session, writable
	// Toolchains, Read and Write are further trees; a deeper one is stronger
	// than the tree around it, so a read-only grant inside a writable one holds.
	Toolchains, Read, Write []string
	// DenyRead and StateDirs can be neither read nor written, whatever is granted.
	DenyRead, StateDirs []string
	// Protect are absolute paths in the workspace that cannot be made, changed
	// or swapped.
	Protect []string
	Network sandbox.Network
	// Ports are those of listeners the server made for the session (the proxy);
	// the only ones commands may connect to on this host.
	Ports []int
	// TTY is the command's own terminal, "" without one.
	TTY string
}

// seatbeltParam is one -D NAME=VALUE of sandbox-exec.
type seatbeltParam struct{ Name, Value string }

// seatbeltSystem are the trees of the system that programs need and that hold
// no secrets. /usr/local is not among them: it opens through PATH alone.
var seatbeltSystem = []string{
	"/System", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec", "/usr/share", "/bin", "/sbin",
	"/Library/Apple", "/Library/Developer/CommandLineTools", "/private/var/db/dyld", "/private/var/db/timezone",
	"/private/var/select", "/private/etc/ssl",
}

// seatbeltFiles are single files of the system.
var seatbeltFiles = []string{
	"/private/etc/passwd", "/private/etc/group", "/private/etc/hosts", "/private/etc/services", "/private/etc/protocols",
	"/private/etc/resolv.conf", "/private/etc/shells", "/private/etc/localtime", "/private/etc/profile",
	"/private/etc/bashrc", "/private/etc/zshrc", "/private/etc/zprofile", "/private/etc/zshenv", "/private/etc/paths",
	"/private/var/db/xcode_select_link", "/private/var/run/resolv.conf",
}

// seatbeltAncestors are links and directories on the way to the system's trees;
// their names may be looked up, not listed.
var seatbeltAncestors = []string{
	"/etc", "/tmp", "/var", "/private", "/private/etc", "/private/var", "/private/var/db", "/private/var/run", "/private/tmp",
	"/usr", "/Library", "/Library/Developer", "/dev",
}

// seatbeltSysctls are the names that tell of the machine. Not among them is
// kern.procargs2, which reads the environment of the user's other processes.
var seatbeltSysctls = []string{
	"kern.argmax", "kern.hostname", "kern.iossupportversion", "kern.maxfilesperproc", "kern.maxproc", "kern.ngroups",
	"kern.osproductversion", "kern.osrelease", "kern.ostype", "kern.osvariant_status", "kern.osversion",
	"kern.secure_kernel", "kern.usrstack64", "kern.version", "sysctl.proc_cputype", "vm.loadavg", "vm.pagesize",
}

// seatbeltServices are the Mach services without which ordinary programs hang
// or cannot tell who they run as.
var seatbeltServices = []string{
	"com.apple.bsd.dirhelper", "com.apple.logd", "com.apple.system.logger", "com.apple.system.notification_center",
	"com.apple.system.opendirectoryd.libinfo", "com.apple.system.opendirectoryd.membership",
}

// seatbeltNetServices answer names and certificates, with network host only.
var seatbeltNetServices = []string{
	"com.apple.SystemConfiguration.DNSConfiguration", "com.apple.SystemConfiguration.configd", "com.apple.trustd.agent",
}

// seatbeltProfile writes the profile and its parameters. It fails for a path
// that is not absolute and clean, which could mean something else to the kernel.
func seatbeltProfile(s seatbeltSpec) (string, []seatbeltParam, error) {
	w := &seatbeltWriter{}
	w.line("(version 1)")
	w.line("(deny default)")

	w.section("Processes: run and signal the session's own, look at no others.")
	w.line("(allow process-exec* process-fork)")
	w.line("(allow process-info* (target same-sandbox))")
	w.line("(allow signal (target same-sandbox))")

	w.section("The machine: named facts, no arguments or environment of other processes.")
	w.rule("allow sysctl-read", append([]string{`(sysctl-name-prefix "hw.")`, `(sysctl-name-prefix "machdep.cpu.")`}, quoted("sysctl-name", seatbeltSysctls)...))
	w.rule("allow mach-lookup", quoted("global-name", seatbeltServices))
	w.line(`(allow ipc-posix-shm-read* (ipc-posix-name "apple.shm.notification_center"))`)
	w.line(`(allow ipc-posix-sem (ipc-posix-name-regex #"^/?(mp-|loky-)"))`)
	w.line(`(allow ipc-posix-shm (ipc-posix-name-regex #"^/?(psm_|mp-)"))`)

	w.section("The system, read-only.")
	w.line(`(allow file-read* file-test-existence (literal "/"))`)
	w.rule("allow file-read-metadata file-test-existence", quoted("literal", seatbeltAncestors))
	w.rule("allow file-read* file-test-existence file-map-executable", quoted("subpath", seatbeltSystem))
	w.rule("allow file-read* file-test-existence", quoted("literal", seatbeltFiles))

	w.section("Devices.")
	w.rule("allow file-read* file-test-existence file-ioctl", quoted("literal", []string{"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/dtracehelper", "/dev/autofs_nowait"}))
	w.rule("allow file-read* file-test-existence", []string{`(subpath "/dev/fd")`, `(literal "/dev/stdin")`, `(literal "/dev/stdout")`, `(literal "/dev/stderr")`})
	w.rule("allow file-write-data", append(quoted("literal", []string{"/dev/null", "/dev/zero", "/dev/tty", "/dev/ptmx", "/dev/dtracehelper", "/dev/stdout", "/dev/stderr"}), `(subpath "/dev/fd")`))

	w.section("Terminals: those a program of the session opened itself, and its own.")
	w.line("(allow pseudo-tty)")
	w.line(`(allow file-read* file-write* file-ioctl (require-all (regex #"^/dev/ttys[0-9]+$") (extension "com.apple.sandbox.pty")))`)
	if s.TTY != "" {
		w.line("(allow file-read* file-write-data file-ioctl (literal " + w.param("TTY", s.TTY) + "))")
	}

	w.grants(s)
	w.network(s)

	w.section("Set-id files would outlive the session.")
	w.line("(deny file-write-setugid)")

	w.section("Never, whatever is granted above.")
	for i, d := range s.StateDirs {
		w.line("(deny file-read* file-write* file-test-existence (subpath " + w.param("STATE_"+strconv.Itoa(i), d) + "))")
	}
	for i, d := range s.DenyRead {
		w.line("(deny file-read* file-write* (subpath " + w.param("HIDDEN_"+strconv.Itoa(i), d) + "))")
	}
	w.protect(s)
	if w.err != nil {
		return "", nil, w.err
	}
	return w.text.String(), w.params, nil
}

// grant is one tree and whether it is writable; rank breaks ties of the same
// path, the later winning: a read-only grant beats a writable one of the same
// path, and nothing takes the session's own directories from it.
type seatbeltGrant struct {
	path  string
	write bool
	rank  int
}

func (w *seatbeltWriter) grants(s seatbeltSpec) {
	var all []seatbeltGrant
	add := func(write bool, rank int, paths ...string) {
		for _, p := range paths {
			if p != "" {
				all = append(all, seatbeltGrant{p, write, rank})
			}
		}
	}
	add(false, 0, s.Toolchains...)
	add(true, 1, s.Write...)
	add(false, 2, s.Read...)
	add(!s.ReadOnly, 3, s.Workspace)
	add(true, 3, s.Home, s.Tmp)
	// Outer trees first, so that what lies deeper is written later and wins.
	sort.SliceStable(all, func(i, j int) bool {
		a, b := all[i], all[j]
		if d, e := strings.Count(a.path, "/"), strings.Count(b.path, "/"); d != e {
			return d < e
		}
		if a.path != b.path {
			return a.path < b.path
		}
		return a.rank < b.rank
	})
	w.section("Granted trees, from the outside in.")
	for i, g := range all {
		if g.path == "/" {
			w.fail("the whole file system cannot be granted; name a directory")
			return
		}
		p := w.param("TREE_"+strconv.Itoa(i), g.path)
		if !g.write {
			w.line("(allow file-read* file-test-existence file-map-executable (subpath " + p + "))")
			w.line("(deny file-write* (subpath " + p + "))")
			continue
		}
		w.line("(allow file-read* file-write* file-test-existence file-map-executable file-ioctl (subpath " + p + "))")
		// The tree itself stays where it is.
		w.line("(deny file-write-unlink (literal " + p + "))")
	}
	w.section("The way to them: names can be looked up, directories not listed.")
	seen := map[string]bool{"/": true}
	var ways []string
	for _, g := range all {
		for d := path.Dir(g.path); !seen[d] && d != "."; d = path.Dir(d) {
			seen[d] = true
			ways = append(ways, d)
		}
	}
	sort.Strings(ways)
	for i, d := range ways {
		w.line("(allow file-read-metadata file-test-existence (literal " + w.param("WAY_"+strconv.Itoa(i), d) + "))")
	}
}

func (w *seatbeltWriter) network(s seatbeltSpec) {
	w.section("Network: " + string(s.Network) + ".")
	// Sockets with a path, where the session may write anyway.
	for _, dir := range []string{s.Workspace, s.Home, s.Tmp} {
		if dir == "" || dir == s.Workspace && s.ReadOnly {
			continue
		}
		p := w.again(dir)
		w.line("(allow network-bind network-inbound (local unix-socket (subpath " + p + ")))")
		w.line("(allow network-outbound (remote unix-socket (subpath " + p + ")))")
	}
	w.line("(allow system-socket (socket-domain AF_UNIX))")
	switch s.Network {
	case sandbox.NetworkNone:
	case sandbox.NetworkLoopback, sandbox.NetworkAllow:
		// macOS has one loopback for all: listening is harmless, but connecting
		// would reach every service of the host, so only named ports are open.
		w.line(`(allow network-bind network-inbound (local ip "localhost:*"))`)
		for _, port := range s.Ports {
			if port < 1 || port > 65535 {
				w.fail(fmt.Sprintf("port %d is not one; use 1 to 65535", port))
			}
			w.line(`(allow network-outbound (remote ip "localhost:` + strconv.Itoa(port) + `"))`)
		}
	case sandbox.NetworkHost:
		w.line("(allow network-bind network-inbound (local ip))")
		w.line("(allow network-outbound (remote ip))")
		w.line(`(allow network-outbound (literal "/private/var/run/mDNSResponder"))`)
		w.line(`(allow sysctl-read (sysctl-name-prefix "net.routetable."))`)
		w.rule("allow mach-lookup", quoted("global-name", seatbeltNetServices))
	default:
		w.fail(fmt.Sprintf("unknown network mode %q; use none, loopback, allow or host", s.Network))
	}
}

// protect refuses every change of the protected paths, and moving or replacing
// a directory on the way to one, which would swap what the path means.
func (w *seatbeltWriter) protect(s seatbeltSpec) {
	ways := map[string]bool{}
	for i, p := range s.Protect {
		if !within(p, s.Workspace) || p == s.Workspace {
			w.fail("a protected path lies outside the workspace; give it relative to the workspace")
			return
		}
		w.line("(deny file-write* (subpath " + w.param("PROTECT_"+strconv.Itoa(i), p) + "))")
		for d := path.Dir(p); d != s.Workspace && len(d) > 1; d = path.Dir(d) {
			ways[d] = true
		}
	}
	var sorted []string
	for d := range ways {
		sorted = append(sorted, d)
	}
	sort.Strings(sorted)
	for i, d := range sorted {
		w.line("(deny file-write-unlink file-write-create (literal " + w.param("KEEP_"+strconv.Itoa(i), d) + "))")
	}
}

// seatbeltWriter collects text and parameters.
type seatbeltWriter struct {
	text   strings.Builder
	params []seatbeltParam
	err    error
}

func (w *seatbeltWriter) line(s string) { w.text.WriteString(s + "\n") }

func (w *seatbeltWriter) section(s string) { w.text.WriteString("\n; " + s + "\n") }

// rule writes one rule with many filters, one a line.
func (w *seatbeltWriter) rule(head string, filters []string) {
	w.line("(" + head + "\n\t" + strings.Join(filters, "\n\t") + ")")
}

func (w *seatbeltWriter) fail(text string) {
	if w.err == nil {
		w.err = errorf("invalid_argument", nil, "%s", text)
	}
}

// param defines a parameter and returns the reference to it.
func (w *seatbeltWriter) param(name, value string) string {
	if !strings.HasPrefix(value, "/") || path.Clean(value) != value || strings.ContainsAny(value, "\x00\n") {
		w.fail("a path of the policy is not absolute and plain; give the whole path without links, dots or line ends")
	}
	w.params = append(w.params, seatbeltParam{name, value})
	return `(param "` + name + `")`
}

// again refers to a parameter that was defined for the same path.
func (w *seatbeltWriter) again(value string) string {
	i := slices.IndexFunc(w.params, func(p seatbeltParam) bool { return p.Value == value })
	if i < 0 {
		w.fail("internal: no parameter for a directory of the session")
		return ""
	}
	return `(param "` + w.params[i].Name + `")`
}

func quoted(filter string, values []string) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = "(" + filter + ` "` + v + `")`
	}
	return out
}

// systemToolchains are macOS's places for programs in addition to those toolchainDirs
// knows: /usr/local, which is not part of the system there, and the developer
// tools behind the shims of /usr/bin.
func systemToolchains(h hostView, searchPath string) []string {
	var out []string
	for dir := range strings.SplitSeq(searchPath, ":") {
		dir = path.Clean(dir)
		if r, ok := h.Resolve(dir); ok && h.IsDir(r) && within(dir, "/usr/local") && !slices.Contains(out, "/usr/local") {
			out = append(out, "/usr/local")
		}
	}
	if r, ok := h.Resolve("/private/var/db/xcode_select_link"); ok && h.IsDir(r) && within(r, "/Applications", "/Library/Developer") {
		out = append(out, r)
	}
	return out
}

// seatbeltArgs is the command line of sandbox-exec for argv.
func seatbeltArgs(profile string, params []seatbeltParam, argv []string) []string {
	args := []string{"/usr/bin/sandbox-exec", "-p", profile}
	for _, p := range params {
		args = append(args, "-D", p.Name+"="+p.Value)
	}
	return append(append(args, "--"), argv...)
}
