package confine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"mcp-sandbox/sandbox"
)

// Diagnose says, for the operator, what confinement a session with policy p
// gets on this host: every layer tried for real, what is missing and the remedy
// in one sentence, and known holes of the running kernel. The last layer, named
// "level", is the outcome; its state is "unavailable" when Start would refuse.
func Diagnose(ctx context.Context, p sandbox.Policy) []sandbox.Layer {
	return diagnose(p, Probe(ctx))
}

func diagnose(p sandbox.Policy, c Capabilities) []sandbox.Layer {
	layers := []sandbox.Layer{{Name: "kernel", State: sandbox.StateOn, Detail: strings.TrimSpace(fmt.Sprintf("%s %s, %s", c.OS, c.Kernel, runtime.GOARCH))}}
	switch c.OS {
	case "linux":
		layers = append(layers,
			supportLayer(layerNamespaces, c.Namespaces, "user, mount, pid, net, ipc, uts and cgroup"),
			supportLayer(layerProc, c.FreshProc, "a /proc of its own"),
			supportLayer(layerLandlock, c.landlock(), landlockDetail(c.LandlockABI)),
			supportLayer(layerSeccomp, c.Seccomp, seccompDetail()),
			supportLayer(layerPids, c.Cgroup["pids"], "the process limit binds the whole session"),
			supportLayer(layerMemory, c.Cgroup["memory"], "a memory limit can be set"),
			supportLayer(layerCPU, c.Cgroup["cpu"], "a CPU limit can be set"))
		if c.KernelVersion == "" {
			layers[0].Detail += "; known bugs cannot be looked up: the number is the distribution's own"
		}
		for _, b := range knownBad(c.KernelVersion) {
			l := sandbox.Layer{Name: b.id, State: sandbox.StateOff, Detail: b.what, Remedy: remedyKernelBug}
			if b.closed != "" {
				l.State, l.Detail = sandbox.StateOn, b.what+"; closed here: "+b.closed
			}
			layers = append(layers, l)
		}
	case "darwin":
		layers = append(layers, supportLayer(layerSeatbelt, c.Seatbelt, "sandbox-exec runs programs under a profile"))
	}
	pl, missing, err := plan(p, c)
	if err != nil {
		outcome := sandbox.Layer{Name: "level", State: sandbox.StateUnavailable, Detail: err.Error()}
		var e *sandbox.Error
		if errors.As(err, &e) && len(missing) > 0 {
			outcome.Remedy = missing[0].Remedy
		}
		return append(layers, outcome)
	}
	// Gaps of a layer that already says so are not told twice.
	for _, g := range missing {
		told := slices.ContainsFunc(layers, func(l sandbox.Layer) bool {
			return l.State != sandbox.StateOn && l.Detail == g.Reason || l.Name == g.Layer && l.State == sandbox.StateUnavailable
		})
		if !told {
			layers = append(layers, sandbox.Layer{Name: g.Layer, State: sandbox.StateOff, Detail: g.Reason, Remedy: g.Remedy})
		}
	}
	return append(layers, sandbox.Layer{Name: "level", State: sandbox.StateOn, Detail: fmt.Sprintf("%s, network %s", pl.Level, pl.Network)})
}

func supportLayer(name string, s Support, detail string) sandbox.Layer {
	if s.OK {
		return sandbox.Layer{Name: name, State: sandbox.StateOn, Detail: detail}
	}
	return sandbox.Layer{Name: name, State: sandbox.StateUnavailable, Detail: s.Reason, Remedy: s.Remedy}
}

func landlockDetail(abi int) string {
	d := fmt.Sprintf("ABI %d", abi)
	if fixed := landlockFixed(); fixed != "" {
		d += ", errata fixed: " + fixed
	}
	return d
}
