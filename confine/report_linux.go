package confine

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"mcp-sandbox/sandbox"
)

func (l *layout) environ() []string {
	home := l.cfg.Home
	if l.p.Home != "" {
		home = l.p.Home
	}
	env := []string{"PATH=" + l.path, "HOME=" + home, "USER=" + l.id.name, "LOGNAME=" + l.id.name, "SHELL=" + l.id.shell, "TMPDIR=" + l.tmp, "TMPPREFIX=" + l.tmp + "/zsh"}
	if l.cache != "" {
		env = append(env, cacheEnviron(l.cache)...)
	}
	return slices.Concat(env, l.toolEnv, l.gitEnv)
}

// rootWarning says whose uid 0 the commands have.
func rootWarning() string {
	if realRoot() {
		return "commands run as uid 0, the real root, as --allow-root asks for; give the workspace to an ordinary user"
	}
	return "commands run as uid 0 of the server's user namespace: files of that user are theirs to change"
}

// probed is what the host lends, asked only when a session got less than all.
var probed = sync.OnceValue(func() Capabilities { return Probe(context.Background()) })

// assumed is the host that a start reckons with first: it lends all that only a
// start can tell, as trying it costs what a start does.
func assumed() Capabilities {
	yes := Support{OK: true}
	c := Capabilities{OS: "linux", UID: os.Geteuid(), Namespaces: yes, FreshProc: yes, Seccomp: yes, LandlockABI: landlockABI(), Landlock: yes}
	if c.LandlockABI == 0 {
		c.Landlock = probed().Landlock
	}
	return c
}

// answered is c with what init could not do at the level that was asked for, and the
// control groups it got.
func (c Capabilities) answered(asked sandbox.Level, gaps []string, cg *cgroup) Capabilities {
	if why, masked := gapsByName(gaps)[gapProc]; masked {
		c.FreshProc = probed().FreshProc
		switch {
		case c.FreshProc.OK && asked == sandbox.LevelNamespacesNoProc:
			c.FreshProc = Support{Reason: "the host's /proc is shown, as asked for", Remedy: "start without --confine namespaces-noproc"}
		case c.FreshProc.OK || c.FreshProc.Reason == "":
			c.FreshProc = Support{Reason: "a /proc of its own could not be mounted: " + why, Remedy: remedyFell}
		}
	}
	c.Cgroup = map[string]Support{}
	for _, k := range []string{"pids", "memory", "cpu", cgroupShare} {
		c.Cgroup[k] = Support{OK: cg.Has(k), Reason: "no control group with it is writable", Remedy: "run the server in a delegated systemd scope or slice"}
	}
	return c
}

// gapsByName splits what init answered into names and reasons.
func gapsByName(answered []string) map[string]string {
	missing := map[string]string{}
	for _, g := range answered {
		k, v, _ := strings.Cut(g, "=")
		missing[k] = v
	}
	return missing
}

// report says which layers hold, from the plan that was made with what init and
// the control groups answered.
func (l *layout) report(pl Plan, c Capabilities, answered ...string) sandbox.Report {
	missing, level := gapsByName(answered), pl.Level
	r := sandbox.Report{Level: level}
	if level == sandbox.LevelLandlock && c.Namespaces.OK {
		c.Namespaces = probed().Namespaces // asked for, and perhaps all that this host gives
	}
	on := func(name, format string, args ...any) {
		r.Layers = append(r.Layers, sandbox.Layer{Name: name, State: sandbox.StateOn, Detail: fmt.Sprintf(format, args...)})
	}
	if pl.Namespaces {
		kinds := "user, mount, pid, ipc, uts, cgroup"
		if l.p.Network != sandbox.NetworkHost {
			kinds += ", net"
		}
		on(layerNamespaces, "%s", kinds)
		if pl.Proc == procFresh {
			on(layerProc, "the session's own processes only, read-only")
		}
		writable := "the workspace, /tmp and the home are"
		if l.p.ReadOnly {
			writable = "/tmp and the home are"
		}
		on(layerFiles, "a read-only root with the system's programs; %s writable", writable)
	}
	if pl.LandlockABI > 0 {
		on(layerLandlock, "%s", landlockDetail(pl.LandlockABI))
	}
	if pl.Seccomp {
		on(layerSeccomp, "%s", seccompSummary(l.seccomp()))
		shown := ""
		if l.id.owner.needed() {
			shown = "; root's files in the workspace and in grants are this user's inside, and root's on disk (id-mapped mounts)"
		}
		on("privileges", "uid %d, no capabilities, no_new_privs%s", l.id.uid, shown)
		on(layerNetwork, "%s", pl.Network)
	}
	lim := l.p.Limits
	tmp := fmt.Sprintf("/tmp %d MiB", lim.Tmp>>20)
	if !pl.Namespaces {
		tmp = "temporary files as large as the disk allows"
	}
	on("limits", "files of %d MiB, %d open files, %s", lim.FileSize>>20, lim.OpenFiles, tmp)
	if pl.Namespaces && l.id.uid != 0 {
		on(layerProcesses, "at most %d", lim.Procs)
	}
	for _, k := range []string{layerPids, layerMemory, layerCPU} {
		if c.Cgroup[strings.TrimPrefix(k, "cgroup-")].OK {
			on(k, "limited for the session as a whole")
		}
	}
	if c.Cgroup[cgroupShare].OK {
		on(layerShare, "as large as any other session's, however many processes it has")
	}
	if l.p.Stage != "" {
		on(layerStage, "the session sees the project with its own changes; the project itself changes only when they are applied (mcp-sandbox review)")
	}
	if len(l.p.Protect) > 0 && level != sandbox.LevelNone && (l.p.Stage == "" || len(l.cfg.Protect) > 0) {
		off := ""
		if why, ok := missing[gapSupervisor]; ok {
			off = "only what exists is kept, by mounts: commands can make what does not (" + why + ")"
		}
		if !pl.Namespaces {
			off = "commands can change them at this level, only the file tools refuse"
		}
		switch {
		case off == "" && l.p.Stage != "":
			on("protected paths", "%d in the workspace; the default ones can be changed in it, and count when changes are applied", len(l.p.StageProtect))
		case off == "":
			on("protected paths", "%d", len(l.p.Protect))
		default:
			r.Layers = append(r.Layers, sandbox.Layer{Name: "protected paths", State: sandbox.StateOff, Detail: off})
		}
	}
	if l.p.GitStage != "" {
		why, failed := missing[gapGitStage]
		disk, inMemory := missing[gapGitMemory]
		switch {
		case !pl.Namespaces:
			r.Layers = append(r.Layers, sandbox.Layer{Name: layerGit, State: sandbox.StateOff, Detail: "put back: commands write them where they are at this level, as nothing can be mounted; after each command, and at the end, hooks and configuration are put back as they were"})
		case failed:
			r.Layers = append(r.Layers, sandbox.Layer{Name: layerGit, State: sandbox.StateOff, Detail: "read-only: an overlay of them cannot be mounted on the state directory's file system (" + why + ")", Remedy: "a state directory on a file system that overlays can use (--state-dir), and Linux 5.11"})
			r.Warnings = append(r.Warnings, layerGit+": read-only, as no overlay can be mounted ("+why+")")
		case inMemory:
			on(layerGit, "staged in memory: commands write to a stage of them, from which data is published; the state directory's file system can hold no overlay (%s), so what a killed server had not published is lost, and the stage has as much room as /tmp (--limit-tmp)", disk)
		default:
			on(layerGit, "staged: commands write to a stage of them, from which data is published")
		}
	}
	for _, g := range gaps(pl, *l.p, l.p.Network, c) {
		// RLIMIT_NPROC is enough for every uid but 0.
		if g.Layer == layerPids && pl.Namespaces && l.id.uid != 0 {
			continue
		}
		r.Layers = append(r.Layers, sandbox.Layer{Name: g.Layer, State: sandbox.StateOff, Detail: g.Reason, Remedy: g.Remedy})
		if g.Layer == layerShare || g.Layer == layerLandlock && pl.Namespaces && pl.LandlockABI > 0 {
			continue // nothing stands open, other layers close it: no warning in every session
		}
		r.Warnings = append(r.Warnings, g.Layer+": "+g.Reason)
	}
	if l.id.uid == 0 {
		r.Warnings = append(r.Warnings, rootWarning())
	}
	if why, ok := missing[gapHostName]; ok {
		// Nothing stands open: no warning.
		r.Layers = append(r.Layers, sandbox.Layer{Name: gapHostName, State: sandbox.StateOff, Detail: "commands see the server's own: a filter around the server refuses sethostname (" + why + ")"})
	}
	if why, ok := missing[gapLowPorts]; ok {
		// The same.
		r.Layers = append(r.Layers, sandbox.Layer{Name: gapLowPorts, State: sandbox.StateOff, Detail: "commands cannot listen on them: the kernel refuses net.ipv4.ip_unprivileged_port_start to a session (" + why + ")"})
	}
	if why, ok := missing[gapGate]; ok {
		r.Warnings = append(r.Warnings, "network: the kernel gives no second network namespace with a veth pair ("+why+"): names lead to the session's own loopback, addresses are reached through the proxy only, and ports of allowed hosts cannot be listened on at all addresses")
	}
	if why, ok := missing[gapNames]; ok && l.p.Network == sandbox.NetworkAllow {
		r.Warnings = append(r.Warnings, "network: names are not answered ("+why+"): only programs that use the proxy settings reach allowed hosts")
	}
	for _, k := range slices.Sorted(maps.Keys(missing)) {
		if k != gapProc && k != gapHostName && k != gapLowPorts && k != gapGate && k != gapGate6 && k != gapNames && k != gapConns && k != gapGitStage && k != gapGitMemory {
			r.Warnings = append(r.Warnings, k+": could not be set ("+missing[k]+")")
		}
	}
	r.Warnings = append(r.Warnings, l.warnings...)
	return r
}
