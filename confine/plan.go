package confine

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"mcp-sandbox/sandbox"
)

// Support is whether the host lends one layer, and where not, why not and what
// changes that, one sentence each.
type Support struct {
	OK             bool
	Reason, Remedy string
}

// Capabilities is what Probe found on this host by trying. The zero value is a
// host that lends nothing.
type Capabilities struct {
	OS     string // GOOS
	Kernel string // release, as uname gives it
	// KernelVersion is the version of kernel.org it is made from, "" where
	// nothing tells: the numbers of many distributions do not.
	KernelVersion string
	UID           int // of the server

	// Namespaces: a child with all the namespaces of a session started and could
	// build its file system.
	Namespaces Support
	// FreshProc: a /proc of its own could be mounted there.
	FreshProc Support
	// LandlockABI is 0 where Landlock is missing or did not hold.
	LandlockABI int
	Landlock    Support
	// Seccomp: the filter could be installed and held.
	Seccomp Support
	// Cgroup says per controller (pids, memory, cpu), and for the equal share of
	// the processors, whether a group can be made.
	Cgroup map[string]Support
	// Seatbelt: macOS's sandbox-exec ran a program under a profile.
	Seatbelt Support
}

// Gap is a layer or a promise the plan does without.
type Gap struct{ Layer, Reason, Remedy string }

// Names of layers in gaps and reports.
const (
	layerNamespaces = "namespaces"
	layerProc       = "proc"
	layerLandlock   = "landlock"
	layerSeccomp    = "seccomp"
	layerNetwork    = "network"
	layerFiles      = "files"
	layerProcesses  = "processes"
	layerPids       = "cgroup-pids"
	layerMemory     = "cgroup-memory"
	layerCPU        = "cgroup-cpu"
	layerShare      = "cgroup-share"
	layerSeatbelt   = "seatbelt"
)

// cgroupShare names what a group of the cpu controller gives by itself: all
// processes of the session together weigh as much as those of any other.
const cgroupShare = "share"

// ProcMode is how /proc comes into a namespaces sandbox.
type ProcMode string

const (
	procFresh ProcMode = "fresh" // its own, the session's processes only
	procHost  ProcMode = "host"  // the host's, read-only: the host does not let a fresh one be made
	procNone  ProcMode = "none"  // no namespaces: the host's as far as Landlock opens it
)

// Plan is what Start does for a policy on a host.
type Plan struct {
	Level      sandbox.Level
	Namespaces bool // user, mount, pid, ipc, uts, cgroup, and net unless Network is host
	Proc       ProcMode
	// Network is the mode that is really in force; it is never wider than the
	// policy's.
	Network sandbox.Network
	// LandlockABI is the ABI to build the domain for, 0 for none.
	LandlockABI   int
	ScopeSignal   bool // the Landlock domain keeps signals inside
	ScopeAbstract bool // and abstract unix sockets
	DenyTCP       bool // Landlock refuses TCP, in addition to seccomp
	Seccomp       bool
	// Subreaper: without a pid namespace, init adopts orphans and kills in a loop.
	Subreaper bool
	// Cgroup lists the controllers to use.
	Cgroup []string
}

// levelRank orders the levels for MinLevel. Seatbelt and landlock share a rank:
// both leave the host's processes and names visible. An unknown level has none.
func levelRank(l sandbox.Level) (int, bool) {
	switch l {
	case sandbox.LevelNone:
		return 0, true
	case sandbox.LevelLandlock, sandbox.LevelSeatbelt:
		return 1, true
	case sandbox.LevelNamespacesNoProc:
		return 2, true
	case sandbox.LevelNamespaces:
		return 3, true
	}
	return 0, false
}

// CheckLevels refuses levels that no host of this system has, and a level below
// the minimum. Codes: invalid_argument.
func CheckLevels(want, least sandbox.Level) error {
	usable := func(l sandbox.Level) bool {
		_, ok := levelRank(l)
		return l == "" || l == sandbox.LevelAuto || ok && (l == sandbox.LevelNone || (l == sandbox.LevelSeatbelt) == (runtime.GOOS == "darwin"))
	}
	names := "auto, namespaces, namespaces-noproc, landlock or none"
	if runtime.GOOS == "darwin" {
		names = "auto, seatbelt or none"
	}
	switch {
	case !usable(want):
		return errorf("invalid_argument", nil, "--confine is %q; use %s", string(want), names)
	case !usable(least):
		return errorf("invalid_argument", nil, "--min-confinement is %q; use %s", string(least), names)
	}
	have, ok := levelRank(want)
	if need, bound := levelRank(least); ok && bound && have < need {
		return errorf("invalid_argument", nil, "--confine %s is below --min-confinement %s; ask for a stronger level or lower the minimum", want, least)
	}
	return nil
}

// plan decides the level and the steps for p on a host with c. It is pure. It
// never weakens silently: whatever of the strongest confinement is missing is
// in the gaps, and a level below p.MinLevel is an error. LevelNone is only ever
// the answer to LevelNone.
func plan(p sandbox.Policy, c Capabilities) (Plan, []Gap, error) {
	want, network := p.Level, p.Network
	if want == "" {
		want = sandbox.LevelAuto
	}
	if network == "" {
		network = sandbox.NetworkLoopback
	}
	if !slices.Contains([]sandbox.Network{sandbox.NetworkNone, sandbox.NetworkLoopback, sandbox.NetworkAllow, sandbox.NetworkHost}, network) {
		return Plan{}, nil, errorf("invalid_argument", nil, "unknown network mode %q; use none, loopback, allow or host", network)
	}
	if _, ok := levelRank(want); !ok && want != sandbox.LevelAuto {
		return Plan{}, nil, errorf("invalid_argument", nil,
			"unknown confinement level %q; use auto, namespaces, namespaces-noproc, landlock, seatbelt or none", want)
	}
	least := 0
	if p.MinLevel != "" && p.MinLevel != sandbox.LevelAuto {
		var ok bool
		if least, ok = levelRank(p.MinLevel); !ok {
			return Plan{}, nil, errorf("invalid_argument", nil,
				"unknown minimum confinement %q; use namespaces, namespaces-noproc, landlock, seatbelt or none", p.MinLevel)
		}
	}
	if rank, ok := levelRank(want); ok && rank < least {
		return Plan{}, nil, errorf("invalid_argument", nil,
			"confinement %q is below the minimum %q; ask for a stronger level or lower the minimum", want, p.MinLevel)
	}

	candidates := []sandbox.Level{want}
	if want == sandbox.LevelAuto {
		candidates = []sandbox.Level{sandbox.LevelNamespaces, sandbox.LevelNamespacesNoProc, sandbox.LevelLandlock, sandbox.LevelSeatbelt}
	}
	var obstacles []Gap
	for _, l := range candidates {
		if rank, _ := levelRank(l); rank < least {
			continue
		}
		missing, ok := c.lacks(l)
		if ok {
			for _, g := range missing {
				if !slices.Contains(obstacles, g) {
					obstacles = append(obstacles, g)
				}
			}
			continue
		}
		pl := planAt(l, network, c)
		return pl, gaps(pl, p, network, c), nil
	}
	return Plan{}, obstacles, refusal(want, p.MinLevel, obstacles)
}

// lacks lists what keeps a level from being used here; ok is false when nothing
// does.
func (c Capabilities) lacks(l sandbox.Level) (missing []Gap, ok bool) {
	need := func(layer string, s Support) {
		if !s.OK {
			missing = append(missing, Gap{layer, s.Reason, s.Remedy})
		}
	}
	switch l {
	case sandbox.LevelNone:
	case sandbox.LevelSeatbelt:
		if c.OS != "darwin" {
			need(layerSeatbelt, Support{Reason: "Seatbelt exists on macOS only"})
			break
		}
		need(layerSeatbelt, c.Seatbelt)
	case sandbox.LevelLandlock:
		if c.OS != "linux" {
			need(layerLandlock, Support{Reason: "Landlock exists on Linux only"})
			break
		}
		need(layerLandlock, c.landlock())
		need(layerSeccomp, c.Seccomp)
	default:
		if c.OS != "linux" {
			need(layerNamespaces, Support{Reason: "namespaces exist on Linux only"})
			break
		}
		need(layerNamespaces, c.Namespaces)
		if l == sandbox.LevelNamespaces && c.Namespaces.OK {
			need(layerProc, c.FreshProc)
		}
		// Without the filter vsock, raw kernel interfaces and terminal injection
		// stay open, and no other layer closes them.
		need(layerSeccomp, c.Seccomp)
	}
	return missing, len(missing) > 0
}

// remedyFell is for a level that fails where the doctor sees no reason.
const remedyFell = "run mcp-sandbox doctor where the server runs, with the same settings, and look at the server's log and the kernel's"

// without is what is known of a host after level l did not start there, and why.
// doctor is what [Probe] finds on it: where that sees why, its reasons
// count. The result always lacks l.
func (c Capabilities) without(l sandbox.Level, why Support, doctor Capabilities) Capabilities {
	if _, lacks := doctor.lacks(l); lacks {
		doctor.Cgroup = c.Cgroup
		// What has failed before does not come back.
		if !c.Namespaces.OK {
			doctor.Namespaces = c.Namespaces
		}
		return doctor
	}
	if l == sandbox.LevelLandlock {
		c.Landlock = why
	} else {
		c.Namespaces = why
	}
	return c
}

// landlock is the Landlock layer as one Support.
func (c Capabilities) landlock() Support {
	s := c.Landlock
	s.OK = s.OK && c.LandlockABI > 0
	return s
}

func planAt(l sandbox.Level, network sandbox.Network, c Capabilities) Plan {
	pl := Plan{Level: l, Network: network, Proc: procNone}
	switch l {
	case sandbox.LevelNone, sandbox.LevelSeatbelt:
		return pl
	case sandbox.LevelNamespaces:
		pl.Namespaces, pl.Proc = true, procFresh
	case sandbox.LevelNamespacesNoProc:
		pl.Namespaces, pl.Proc = true, procHost
	case sandbox.LevelLandlock:
		pl.Subreaper = true
		if network != sandbox.NetworkHost {
			// There is no private loopback, and the host's is not the session's.
			pl.Network = sandbox.NetworkNone
			pl.DenyTCP = c.LandlockABI >= 4
		}
	}
	pl.Seccomp = true
	if c.landlock().OK {
		pl.LandlockABI = c.LandlockABI
		pl.ScopeSignal = c.LandlockABI >= 6
		pl.ScopeAbstract = c.LandlockABI >= 6
	}
	for _, k := range []string{"pids", "memory", "cpu", cgroupShare} {
		if c.Cgroup[k].OK {
			pl.Cgroup = append(pl.Cgroup, k)
		}
	}
	return pl
}

// gaps lists what pl does without, measured against LevelNamespaces with all
// layers and the limits of p.
func gaps(pl Plan, p sandbox.Policy, asked sandbox.Network, c Capabilities) []Gap {
	var g []Gap
	add := func(layer, reason, remedy string) { g = append(g, Gap{layer, reason, remedy}) }
	switch pl.Level {
	case sandbox.LevelNone:
		add(layerNamespaces, "confinement is off by request: commands have all the rights of the server", "start without --confine none")
		return g
	case sandbox.LevelSeatbelt:
		add(layerNamespaces, "macOS has no namespaces: the number and names of the host's processes stay visible", "")
		if pl.Network == sandbox.NetworkLoopback || pl.Network == sandbox.NetworkAllow {
			add(layerNetwork, "macOS has one loopback for all: commands can listen on it and connect to nothing but the server's own listeners", "")
		}
		if p.Limits.Memory > 0 || p.Limits.CPU > 0 {
			add(layerMemory, "macOS enforces no memory or CPU limit for a session", "")
		}
		return g
	case sandbox.LevelNamespacesNoProc:
		add(layerProc, c.FreshProc.Reason, c.FreshProc.Remedy)
		add(layerProcesses, "the host's process list can be read, with its command lines, and process numbers in /proc are the host's", c.FreshProc.Remedy)
	case sandbox.LevelLandlock:
		if c.Namespaces.OK {
			add(layerNamespaces, "namespaces are not used, as asked for", "start without --confine landlock")
		} else {
			add(layerNamespaces, c.Namespaces.Reason, c.Namespaces.Remedy)
		}
		add(layerFiles, "names, sizes and times of files outside can be looked up, and mode, times and group of your own files outside can be changed; contents cannot be read or written", "")
		add(layerFiles, "/tmp is not private: temporary files go into a directory of the session", "")
		if pl.ScopeSignal {
			add(layerProcesses, "processes are not in a namespace of their own: the list of the host's, with their command lines, can be read; they cannot be signalled", "")
		} else {
			add(layerProcesses, "your other processes on this host can be signalled, and the command lines of all of them can be read", "use Linux 6.12 or newer")
		}
		if asked == sandbox.NetworkLoopback || asked == sandbox.NetworkAllow {
			add(layerNetwork, fmt.Sprintf("network %q needs namespaces: commands have no network at all", asked), "")
		}
		add(layerNetwork, "unix sockets cannot be made, only connected stream pairs, so none of the host can be reached", "")
	}
	if pl.LandlockABI == 0 {
		s := c.landlock()
		add(layerLandlock, cmp.Or(s.Reason, "Landlock is not available"), s.Remedy)
	} else {
		for _, lost := range landlockLost(pl.LandlockABI) {
			add(layerLandlock, lost, "use a newer kernel")
		}
	}
	if pl.Network == sandbox.NetworkHost {
		add(layerNetwork, "the host's network is shared by request, its loopback services included", "start with --network loopback")
		if !pl.ScopeAbstract {
			add(layerNetwork, "abstract unix sockets of the host (X11, D-Bus) can be reached", "start with --network loopback, or use Linux 6.12 or newer")
		}
	}
	for _, k := range []struct {
		wanted            bool
		controller, layer string
		reason            string
	}{
		{true, "pids", layerPids, limitAlone(pl)},
		{p.Limits.Memory > 0, "memory", layerMemory, "the memory limit is not enforced"},
		{p.Limits.CPU > 0, "cpu", layerCPU, "the CPU limit is not enforced"},
		{true, cgroupShare, layerShare, "CPU time is shared per process: a busy session slows the others"},
	} {
		s := c.Cgroup[k.controller]
		if k.wanted && !s.OK {
			add(k.layer, k.reason+because(s.Reason), s.Remedy)
		}
	}
	return g
}

// limitAlone is what bounds processes without a control group.
func limitAlone(pl Plan) string {
	if pl.Namespaces {
		return "processes are limited by RLIMIT_NPROC alone, which does not bind uid 0"
	}
	return "processes are limited by RLIMIT_NPROC alone, which counts all of the user's and does not bind uid 0"
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// refusal is the error when no level will do: what was asked, why not, and the
// first remedy there is.
func refusal(want, least sandbox.Level, obstacles []Gap) *sandbox.Error {
	asked := fmt.Sprintf("confinement %q", want)
	if want == sandbox.LevelAuto {
		asked = "confinement"
		if least != "" && least != sandbox.LevelAuto {
			asked = fmt.Sprintf("confinement of at least %q", least)
		}
	}
	var reasons []string
	remedy := ""
	for _, g := range obstacles {
		if g.Reason != "" {
			reasons = append(reasons, g.Reason)
		}
		if remedy == "" {
			remedy = g.Remedy
		}
	}
	if len(reasons) == 0 {
		reasons = []string{"this host lends none of the layers it needs"}
	}
	if remedy == "" {
		remedy = "run mcp-sandbox doctor to see every layer"
	}
	return errorf("confinement_unavailable", nil, "%s is not possible here: %s; %s", asked, strings.Join(reasons, "; "), remedy)
}
