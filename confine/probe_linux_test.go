package confine

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// The probe tells what is so: on this host each answer is compared with a second
// way of finding out, and nothing is left behind.
func TestProbe(t *testing.T) {
	Probe(context.Background()) // the runtime opens its poller at the first pipe
	before := openFiles(t)
	c := Probe(context.Background())
	if c.OS != "linux" || c.Kernel == "" || c.UID != os.Geteuid() {
		t.Errorf("host: %+v", c)
	}
	if abi := landlockABI(); c.LandlockABI != abi || c.Landlock.OK != (abi > 0) {
		t.Errorf("Landlock ABI %d (%+v), the kernel says %d", c.LandlockABI, c.Landlock, abi)
	}
	if !c.Seccomp.OK {
		noSkip(t, "seccomp: %+v", c.Seccomp)
	}
	for name, s := range map[string]Support{"namespaces": c.Namespaces, "proc": c.FreshProc, "landlock": c.Landlock, "seccomp": c.Seccomp,
		"pids": c.Cgroup["pids"], "memory": c.Cgroup["memory"], "cpu": c.Cgroup["cpu"]} {
		if s.OK != (s.Reason == "") || s.OK != (s.Remedy == "") {
			t.Errorf("%s: %+v: a reason and a remedy belong to what is missing, and only there", name, s)
		}
	}
	if left := ourCgroups(t); len(left) > 0 {
		t.Errorf("cgroups left: %q", left)
	}
	allowed := 0
	if !c.Namespaces.OK {
		allowed = 2 // what syscall.ForkExec forgets, see failedClones
	}
	if after := openFiles(t); after < before || after > before+allowed {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

func TestProbeCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if c := Probe(ctx); c.Namespaces.OK || c.Landlock.OK || c.Seccomp.OK {
		t.Errorf("a cancelled probe found layers: %+v", c)
	}
}

func TestParseProbe(t *testing.T) {
	if got, err := parseProbe("mounts 0\nproc 1\nend 0\n"); err != nil || got[stepProc] != unix.EPERM || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "mounts 0\n", "PASS\n", "ok  \tconfine 0.1s\n", "mounts x\nend 0\n"} {
		if _, err := parseProbe(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

// AC-33, AC-73: each way a host refuses a layer has its own reason and remedy.
func TestJudge(t *testing.T) {
	fine := map[string]unix.Errno{stepMounts: 0, stepTree: 0, stepTerminal: 0, stepLoopback: 0, stepProc: 0, stepLandlock: 0, stepSeccomp: 0}
	with := func(kv ...any) map[string]unix.Errno {
		m := map[string]unix.Errno{}
		for k, v := range fine {
			m[k] = v
		}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i].(string)] = kv[i+1].(unix.Errno)
		}
		return m
	}
	plain := func(e unix.Errno) map[string]unix.Errno {
		return map[string]unix.Errno{stepClone: e, stepLandlock: 0, stepSeccomp: 0}
	}
	for _, c := range []struct {
		name           string
		steps          map[string]unix.Errno
		host           hostFacts
		layer          string
		reason, remedy string
	}{
		{"max_mnt_namespaces", plain(unix.ENOSPC), hostFacts{maxUserNamespaces: 9, zeroLimits: []string{"user.max_mnt_namespaces"}}, layerNamespaces, "user.max_mnt_namespaces is 0", "user.max_mnt_namespaces=15000"},
		{"no memory", plain(unix.ENOMEM), hostFacts{maxUserNamespaces: 9}, layerNamespaces, "could not be tried", "overcommit"},
		{"no memory for any child", map[string]unix.Errno{stepClone: unix.ENOMEM, stepChild: unix.ENOMEM}, hostFacts{maxUserNamespaces: 9}, layerLandlock, "did not start (cannot allocate memory)", "overcommit"},
		{"the same, seccomp", map[string]unix.Errno{stepClone: unix.ENOMEM, stepChild: unix.ENOMEM}, hostFacts{maxUserNamespaces: 9}, layerSeccomp, "did not start (cannot allocate memory)", "overcommit"},
		{"no /proc", map[string]unix.Errno{stepClone: unix.ENOENT, stepChild: unix.ENOENT}, hostFacts{maxUserNamespaces: -1, noProc: true}, layerNamespaces, "/proc is not mounted", "mount -t proc"},
		{"no /proc, Landlock", map[string]unix.Errno{stepClone: unix.ELOOP, stepChild: unix.ELOOP}, hostFacts{maxUserNamespaces: -1, noProc: true}, layerLandlock, "/proc is not mounted", "mount -t proc"},
		{"Linux 5.10", with(stepTree, unix.ENOSYS), hostFacts{maxUserNamespaces: 9, kernel: [3]int{5, 10, 223}}, layerNamespaces, "Linux 5.12 or newer is needed", "5.12"},
		{"Docker's AppArmor profile", plain(unix.EACCES), hostFacts{maxUserNamespaces: 9, filtered: true, container: true, profile: "docker-default"}, layerNamespaces, "AppArmor profile \"docker-default\"", "apparmor=unconfined"},
		{"the same at mount", with(stepMounts, unix.EACCES), hostFacts{maxUserNamespaces: 9, filtered: true, container: true, profile: "docker-default"}, layerNamespaces, "AppArmor profile \"docker-default\" around the server refuses a mount", "apparmor=unconfined"},
		{"both filters", plain(unix.EPERM), hostFacts{maxUserNamespaces: 9, filtered: true, cloneFiltered: true, container: true, profile: "docker-default"}, layerNamespaces, "seccomp filter", "docker.md"},
		{"root without capabilities", plain(unix.EPERM), hostFacts{maxUserNamespaces: 9, filtered: true, root: true, container: true, lacking: []string{"CAP_SETUID"}}, layerNamespaces, "root without CAP_SETUID", "--user"},
		{"a security module", plain(unix.EACCES), hostFacts{maxUserNamespaces: 9}, layerNamespaces, "a security module refuses", "kernel's log"},
		{"a filter of mounts", with(stepMounts, unix.EPERM), hostFacts{maxUserNamespaces: 9, filtered: true}, layerNamespaces, "seccomp filter around the server refuses a mount", "docker.md"},
		{"max_user_namespaces", plain(unix.ENOSPC), hostFacts{maxUserNamespaces: 0}, layerNamespaces, "max_user_namespaces is 0", "user.max_user_namespaces="},
		{"max_user_namespaces, another errno", plain(unix.EPERM), hostFacts{maxUserNamespaces: 0, filtered: true}, layerNamespaces, "max_user_namespaces is 0", "user.max_user_namespaces="},
		{"used up", plain(unix.ENOSPC), hostFacts{maxUserNamespaces: 10}, layerNamespaces, "used up", "user.max_user_namespaces="},
		{"nested", plain(unix.EUSERS), hostFacts{maxUserNamespaces: 10}, layerNamespaces, "nested", "outside"},
		{"Debian", plain(unix.EPERM), hostFacts{maxUserNamespaces: 9, cloneOff: true}, layerNamespaces, "unprivileged_userns_clone", "unprivileged_userns_clone=1"},
		{"Debian, root", plain(unix.EPERM), hostFacts{maxUserNamespaces: 9, cloneOff: true, filtered: true, cloneFiltered: true, root: true}, layerNamespaces, "seccomp filter", "docker.md"},
		{"Ubuntu at clone", plain(unix.EACCES), hostFacts{maxUserNamespaces: 9, appArmor: true}, layerNamespaces, "AppArmor", "packaging/apparmor"},
		{"Ubuntu at mount", with(stepMounts, unix.EACCES), hostFacts{maxUserNamespaces: 9, appArmor: true}, layerNamespaces, "AppArmor", "packaging/apparmor"},
		{"Docker", plain(unix.EPERM), hostFacts{maxUserNamespaces: 9, filtered: true, cloneFiltered: true, container: true}, layerNamespaces, "seccomp filter", "docker.md"},
		{"container without a filter", plain(unix.EPERM), hostFacts{maxUserNamespaces: 9, container: true}, layerNamespaces, "container", "docker.md"},
		{"unknown refusal", plain(unix.EPERM), hostFacts{maxUserNamespaces: 9}, layerNamespaces, "security module", "chroot"},
		{"no CONFIG_USER_NS", plain(unix.EINVAL), hostFacts{maxUserNamespaces: -1}, layerNamespaces, "lacks", "CONFIG_USER_NS"},
		{"no mount API", with(stepTree, unix.ENOSYS), hostFacts{maxUserNamespaces: 9}, layerNamespaces, "copy of the file tree", "5.12"},
		{"masked /proc", with(stepProc, unix.EPERM), hostFacts{maxUserNamespaces: 9}, layerProc, "masked", "systempaths=unconfined"},
		{"no namespaces, no /proc", plain(unix.ENOSPC), hostFacts{}, layerProc, "needs namespaces", "user.max_user_namespaces="},
		{"Landlock not built", with(stepLandlock, unix.ENOSYS), hostFacts{}, layerLandlock, "has no Landlock", "5.13"},
		{"Landlock hidden", with(stepLandlock, unix.ENOSYS), hostFacts{lsm: "capability,landlock,yama"}, layerLandlock, "hides Landlock", "docker.md"},
		{"Landlock off", with(stepLandlock, unix.EOPNOTSUPP), hostFacts{}, layerLandlock, "not turned on", "lsm="},
		{"Landlock filtered", with(stepLandlock, unix.EPERM), hostFacts{}, layerLandlock, "refuses Landlock", "docker.md"},
		{"Landlock without effect", with(stepLandlock, errNotEnforced), hostFacts{}, layerLandlock, "does not hold", "kernel"},
		{"no seccomp", with(stepSeccomp, unix.EINVAL), hostFacts{}, layerSeccomp, "no seccomp filters", "CONFIG_SECCOMP_FILTER"},
		{"seccomp filtered", with(stepSeccomp, unix.EPERM), hostFacts{}, layerSeccomp, "refuses seccomp", "docker.md"},
		{"seccomp without effect", with(stepSeccomp, errNotEnforced), hostFacts{}, layerSeccomp, "does not hold", "kernel"},
		{"no table for the processor", with(stepSeccomp, unix.ENOTSUP), hostFacts{}, layerSeccomp, "architecture", "amd64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got Capabilities
			got.judge(c.steps, c.host)
			s := map[string]Support{layerNamespaces: got.Namespaces, layerProc: got.FreshProc, layerLandlock: got.Landlock, layerSeccomp: got.Seccomp}[c.layer]
			if s.OK || !strings.Contains(s.Reason, c.reason) || !strings.Contains(s.Remedy, c.remedy) {
				t.Errorf("%+v, want %q and %q", s, c.reason, c.remedy)
			}
			if strings.ContainsAny(s.Remedy, "\n") || strings.Contains(s.Remedy, ". ") {
				t.Errorf("the remedy is more than one sentence: %q", s.Remedy)
			}
		})
	}
	var good Capabilities
	good.judge(fine, hostFacts{maxUserNamespaces: 9, appArmor: true, cloneOff: true})
	if !good.Namespaces.OK || !good.FreshProc.OK || !good.Landlock.OK || !good.Seccomp.OK {
		t.Errorf("a host where all works: %+v", good)
	}
}

// degradedHost is what a test takes away from the host around the probe.
type degradedHost struct {
	Filter    []unix.SockFilter
	NoUserNS  bool // user.max_user_namespaces = 0, in a namespace of the test
	MaskProc  bool // something mounted over a part of /proc and /proc/sys read-only, as containers do
	Namespace bool // the child stands in namespaces of its own
}

// degrade takes it away from this process and all it starts. The filter must
// stand on every thread, since children may be forked from any.
func (d degradedHost) degrade() error {
	if d.NoUserNS {
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
			return err
		}
	}
	if d.MaskProc {
		if err := unix.Mount("none", "/proc/tty", "tmpfs", unix.MS_RDONLY, ""); err != nil {
			return err
		}
		if err := unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""); err != nil {
			return err
		}
		if err := unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return err
		}
	}
	if len(d.Filter) == 0 {
		return nil
	}
	if err := noNewPrivs(); err != nil {
		return err
	}
	fprog := unix.SockFprog{Len: uint16(len(d.Filter)), Filter: &d.Filter[0]}
	if _, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog))); e != 0 {
		return e
	}
	return nil
}

// childProbe probes on a degraded host.
func childProbe(raw json.RawMessage) (any, error) {
	var d degradedHost
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	if err := d.degrade(); err != nil {
		return nil, err
	}
	return Probe(context.Background()), nil
}

// hostCapabilities probes the host of the test, which must have namespaces to
// take them away from.
func hostCapabilities(t *testing.T) Capabilities {
	t.Helper()
	c := Probe(context.Background())
	if !c.Namespaces.OK {
		noSkip(t, "needs a host with namespaces: %s", c.Namespaces.Reason)
	}
	return c
}

// AC-73: hosts that refuse, made with an outer filter and a masked /proc around
// the probe, are told apart for real.
func TestProbeDegradedHosts(t *testing.T) {
	hostCapabilities(t)
	denied := func(e unix.Errno, names ...string) []syscallRule {
		var rules []syscallRule
		for _, r := range []syscallRule{
			{name: "landlock_create_ruleset", amd64: 444, arm64: 444},
			{name: "unshare", amd64: 272, arm64: 97},
			{name: "mount", amd64: 165, arm64: 40},
			{name: "clone", amd64: 56, arm64: 220, clauses: func(seccompOptions) []clause {
				return []clause{deny(unix.EPERM, anySet(0, cloneNewFlags))}
			}},
		} {
			if slices.Contains(names, r.name) {
				if r.clauses == nil {
					r.errno = e
				}
				rules = append(rules, r)
			}
		}
		return rules
	}
	for _, c := range []struct {
		name     string
		rules    []syscallRule
		host     degradedHost
		check    func(Capabilities) bool
		level    sandbox.Level
		gapWords string
	}{
		{"Docker's default filter", denied(unix.EPERM, "unshare", "mount", "clone"), degradedHost{},
			func(c Capabilities) bool {
				return !c.Namespaces.OK && strings.Contains(c.Namespaces.Reason, "filter") && c.Landlock.OK && c.Seccomp.OK
			}, sandbox.LevelLandlock, "as the default profile of Docker"},
		{"Landlock denied", denied(unix.EPERM, "landlock_create_ruleset"), degradedHost{},
			func(c Capabilities) bool { return c.Namespaces.OK && !c.Landlock.OK && c.Seccomp.OK }, sandbox.LevelNamespaces, "refuses Landlock"},
		{"Landlock not built in", denied(unix.ENOSYS, "landlock_create_ruleset"), degradedHost{},
			func(c Capabilities) bool { return c.Namespaces.OK && !c.Landlock.OK && c.LandlockABI == 0 }, sandbox.LevelNamespaces, "Landlock"},
		{"both denied", denied(unix.EPERM, "clone", "landlock_create_ruleset"), degradedHost{},
			func(c Capabilities) bool { return !c.Namespaces.OK && !c.Landlock.OK }, "", "refuses user namespaces"},
		{"max_user_namespaces is 0", nil, degradedHost{Namespace: true, NoUserNS: true},
			func(c Capabilities) bool {
				return !c.Namespaces.OK && strings.Contains(c.Namespaces.Remedy, "max_user_namespaces") && c.Landlock.OK
			}, sandbox.LevelLandlock, "max_user_namespaces is 0"},
		{"masked /proc", nil, degradedHost{Namespace: true, MaskProc: true},
			func(c Capabilities) bool { return c.Namespaces.OK && !c.FreshProc.OK && c.Landlock.OK }, sandbox.LevelNamespacesNoProc, "masked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			arch, err := nativeSeccompArch()
			if err != nil {
				t.Fatal(err)
			}
			prog, err := buildSeccomp(arch, c.rules, seccompOptions{Network: sandbox.NetworkHost})
			if err != nil {
				t.Fatal(err)
			}
			if len(c.rules) > 0 {
				c.host.Filter = prog
			}
			var got Capabilities
			runLayerChildAs(t, c.host.attr(), "probe", c.host, &got)
			if !c.check(got) {
				t.Errorf("%+v", got)
			}
			pl, gaps, err := plan(sandbox.Policy{}, got)
			if pl.Level != c.level || (err != nil) != (c.level == "") {
				t.Errorf("level %q (%v), want %q", pl.Level, err, c.level)
			}
			if !slices.ContainsFunc(gaps, func(g Gap) bool { return strings.Contains(g.Reason, c.gapWords) }) {
				t.Errorf("no gap says %q: %+v", c.gapWords, gaps)
			}
			layers := diagnose(sandbox.Policy{}, got)
			outcome := layers[len(layers)-1]
			if outcome.Name != "level" || (outcome.State == sandbox.StateOn) != (c.level != "") {
				t.Errorf("doctor ends with %+v", outcome)
			}
		})
	}
}

func TestReadWord(t *testing.T) {
	f := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(f, []byte(" 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := readWord(f); got != "1" {
		t.Errorf("%q", got)
	}
	if got := readWord(f + "x"); got != "" {
		t.Errorf("%q of a missing file", got)
	}
}
