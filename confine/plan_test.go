package confine

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"mcp-sandbox/sandbox"
)

func yes() Support             { return Support{OK: true} }
func no(reason string) Support { return Support{Reason: reason, Remedy: "cure " + reason} }

func supported(ok bool, reason string) Support {
	if ok {
		return yes()
	}
	return no(reason)
}

var allLevels = []sandbox.Level{"", sandbox.LevelAuto, sandbox.LevelNamespaces, sandbox.LevelNamespacesNoProc, sandbox.LevelLandlock, sandbox.LevelSeatbelt, sandbox.LevelNone, "nonsense"}

// everyHost calls f with each combination of what a host can lend.
func everyHost(f func(Capabilities)) {
	bools := []bool{false, true}
	for _, os := range []string{"linux", "darwin", "plan9"} {
		for _, ns := range bools {
			for _, proc := range bools {
				for _, abi := range []int{0, 1, 3, 4, 6, 7} {
					for _, sec := range bools {
						for _, sb := range bools {
							for _, cg := range bools {
								f(Capabilities{OS: os, Namespaces: supported(ns, "no userns"), FreshProc: supported(ns && proc, "masked proc"),
									LandlockABI: abi, Landlock: supported(abi > 0, "no landlock"), Seccomp: supported(sec, "no seccomp"),
									Seatbelt: supported(sb, "no seatbelt"),
									Cgroup:   map[string]Support{"pids": supported(cg, "no cgroup"), "memory": supported(cg, "no cgroup"), cgroupShare: supported(cg, "no cgroup")}})
							}
						}
					}
				}
			}
		}
	}
}

// feasible is the specification in its plainest words.
func feasible(l sandbox.Level, c Capabilities) bool {
	switch l {
	case sandbox.LevelNone:
		return true
	case sandbox.LevelSeatbelt:
		return c.OS == "darwin" && c.Seatbelt.OK
	case sandbox.LevelLandlock:
		return c.OS == "linux" && c.LandlockABI > 0 && c.Seccomp.OK
	case sandbox.LevelNamespacesNoProc:
		return c.OS == "linux" && c.Namespaces.OK && c.Seccomp.OK
	case sandbox.LevelNamespaces:
		return c.OS == "linux" && c.Namespaces.OK && c.FreshProc.OK && c.Seccomp.OK
	}
	return false
}

// AC-33, AC-73: every level asked, every minimum, every network, every host.
func TestPlanEveryCombination(t *testing.T) {
	strength := map[sandbox.Level]int{sandbox.LevelNone: 0, sandbox.LevelSeatbelt: 1, sandbox.LevelLandlock: 1, sandbox.LevelNamespacesNoProc: 2, sandbox.LevelNamespaces: 3}
	cases, refused := 0, 0
	everyHost(func(c Capabilities) {
		for _, want := range allLevels {
			for _, least := range allLevels {
				for _, network := range []sandbox.Network{"", sandbox.NetworkNone, sandbox.NetworkLoopback, sandbox.NetworkAllow, sandbox.NetworkHost, "nonsense"} {
					cases++
					p := sandbox.Policy{Level: want, MinLevel: least, Network: network, Limits: sandbox.Limits{Memory: 1}}
					got, gaps, err := plan(p, c)
					fail := func(format string, args ...any) {
						t.Helper()
						t.Fatalf("level %q min %q network %q on %+v: plan %+v, gaps %+v, error %v: "+format,
							append([]any{want, least, network, c, got, gaps, err}, args...)...)
					}

					minimum := strength[least] // 0 for "" and auto
					var expect sandbox.Level
					auto := want == "" || want == sandbox.LevelAuto
					valid := want != "nonsense" && least != "nonsense" && network != "nonsense"
					if auto {
						for _, l := range []sandbox.Level{sandbox.LevelNamespaces, sandbox.LevelNamespacesNoProc, sandbox.LevelLandlock, sandbox.LevelSeatbelt} {
							if feasible(l, c) && strength[l] >= minimum {
								expect = l
								break
							}
						}
					} else if valid && strength[want] >= minimum && feasible(want, c) {
						expect = want
					}
					if !valid || (!auto && strength[want] < minimum) {
						var e *sandbox.Error
						if !errors.As(err, &e) || e.Code() != "invalid_argument" {
							fail("want invalid_argument")
						}
						continue
					}
					if expect == "" {
						refused++
						var e *sandbox.Error
						if !errors.As(err, &e) || e.Code() != "confinement_unavailable" || got.Level != "" {
							fail("want confinement_unavailable")
						}
						continue
					}
					if err != nil || got.Level != expect {
						fail("want level %q", expect)
					}
					if got.Level == sandbox.LevelNone && want != sandbox.LevelNone {
						fail("none without being asked for by name")
					}
					linux := got.Level != sandbox.LevelNone && got.Level != sandbox.LevelSeatbelt
					if got.Seccomp != linux {
						fail("seccomp %v", got.Seccomp)
					}
					if got.Namespaces != (strength[got.Level] >= 2) {
						fail("namespaces %v", got.Namespaces)
					}
					if linux && c.LandlockABI != got.LandlockABI {
						fail("Landlock is there and not used, or the reverse")
					}
					if got.Subreaper != (got.Level == sandbox.LevelLandlock) {
						fail("subreaper %v", got.Subreaper)
					}
					if got.Level == sandbox.LevelLandlock && network != sandbox.NetworkHost && got.Network != sandbox.NetworkNone {
						fail("network without a namespace: %q", got.Network)
					}
					if got.Level == sandbox.LevelNamespaces && network == "" && got.Network != sandbox.NetworkLoopback {
						fail("default network %q", got.Network)
					}
					// Whatever is missing is told.
					told := func(reason string) bool {
						return slices.ContainsFunc(gaps, func(g Gap) bool { return strings.Contains(g.Reason, reason) })
					}
					if got.Level == sandbox.LevelLandlock && !c.Namespaces.OK && !told("no userns") ||
						got.Level == sandbox.LevelNamespacesNoProc && !c.FreshProc.OK && !told("masked proc") ||
						linux && c.LandlockABI == 0 && !told("no landlock") ||
						linux && c.LandlockABI > 0 && c.LandlockABI < 6 && !told("abstract unix sockets are not restricted") ||
						linux && !c.Cgroup["memory"].OK && !told("memory limit is not enforced") ||
						linux && network == sandbox.NetworkHost && !told("shared by request") ||
						linux && network == sandbox.NetworkHost && c.LandlockABI < 6 && !told("abstract unix sockets of the host") ||
						got.Level == sandbox.LevelNone && !told("off by request") {
						fail("something missing is not told")
					}
					if got.Level == sandbox.LevelNamespaces && c.LandlockABI >= 6 && c.Cgroup["pids"].OK && network != sandbox.NetworkHost && len(gaps) != 0 {
						fail("a complete confinement has gaps")
					}
				}
			}
		}
	})
	if cases < 50_000 || refused == 0 {
		t.Fatalf("%d cases, %d refused: the table is not complete", cases, refused)
	}
}

// The refusal names why and what to do, as the operator sees it.
func TestPlanRefusal(t *testing.T) {
	c := Capabilities{OS: "linux", Namespaces: no("user namespaces are off"), Seccomp: yes(), Landlock: no("Landlock is not in the lsm= list")}
	for _, tc := range []struct {
		p    sandbox.Policy
		want []string
	}{
		{sandbox.Policy{}, []string{"confinement is not possible", "user namespaces are off", "Landlock is not in the lsm= list", "cure user namespaces are off"}},
		{sandbox.Policy{MinLevel: sandbox.LevelNamespaces}, []string{`at least "namespaces"`, "user namespaces are off"}},
		{sandbox.Policy{Level: sandbox.LevelLandlock}, []string{`confinement "landlock"`, "cure Landlock"}},
		{sandbox.Policy{Level: sandbox.LevelSeatbelt}, []string{"macOS only", "mcp-sandbox doctor"}},
	} {
		_, _, err := plan(tc.p, c)
		if err == nil {
			t.Fatalf("%+v: no error", tc.p)
		}
		for _, w := range tc.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%+v: %q does not say %q", tc.p, err, w)
			}
		}
	}
}

// TestWithout: a level that did not start is not planned again, whatever the doctor
// says, so that trying ends; and the reason is that of the failure or the doctor's.
func TestWithout(t *testing.T) {
	var hosts []Capabilities
	everyHost(func(c Capabilities) {
		if c.OS == "linux" && c.LandlockABI != 1 && c.LandlockABI != 3 && c.LandlockABI != 4 {
			hosts = append(hosts, c)
		}
	})
	for _, want := range []sandbox.Level{sandbox.LevelAuto, sandbox.LevelNamespaces, sandbox.LevelNamespacesNoProc, sandbox.LevelLandlock} {
		for _, first := range hosts {
			for _, doctor := range hosts {
				host, tried := first, map[sandbox.Level]bool{}
				for {
					pl, _, err := plan(sandbox.Policy{Level: want}, host)
					if err != nil {
						if len(tried) > 0 && !strings.Contains(err.Error(), "broke") && !strings.Contains(err.Error(), "no ") && !strings.Contains(err.Error(), "masked") {
							t.Fatalf("%s on %+v, doctor %+v: %v", want, first, doctor, err)
						}
						break
					}
					if tried[pl.Level] {
						t.Fatalf("%s on %+v, doctor %+v: %s is tried twice", want, first, doctor, pl.Level)
					}
					tried[pl.Level] = true
					host = host.without(pl.Level, Support{Reason: "it broke", Remedy: remedyFell}, doctor)
				}
			}
		}
	}
}
