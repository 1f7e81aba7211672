package confine

import (
	"context"
	"slices"
	"strings"
	"testing"

	"mcp-sandbox/sandbox"
)

func TestKernelVersion(t *testing.T) {
	for _, c := range []struct {
		release string
		want    [3]int
		ok      bool
	}{
		{"6.18.44-fc-v657", [3]int{6, 18, 44}, true},
		{"6.1.0-18-amd64", [3]int{6, 1, 0}, true},
		{"5.15.90.1-microsoft-standard-WSL2", [3]int{5, 15, 90}, true},
		{"6.9", [3]int{6, 9, 0}, true},
		{"7.0-rc3", [3]int{7, 0, 0}, true},
		{"6.", [3]int{6, 0, 0}, true},
		{"", [3]int{}, false},
		{"linux", [3]int{}, false},
		{"99999999999999999999.1", [3]int{}, false},
	} {
		if got, ok := kernelVersion(c.release); ok != c.ok || ok && got != c.want {
			t.Errorf("%q: %v %v, want %v %v", c.release, got, ok, c.want, c.ok)
		}
	}
}

// The version of kernel.org is the distribution's to tell, and often it does not.
func TestKernelOrg(t *testing.T) {
	for _, c := range []struct{ release, version, signature, want string }{
		{"6.1.0-50-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-10-01)", "", "6.1.176"},
		{"5.10.0-32-amd64", "#1 SMP Debian 5.10.223-1 (2024-08-10)", "", "5.10.223"},
		{"6.12.117+deb13-cloud-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-11-01)", "", "6.12.117"},
		{"5.15.0-91-generic", "#101-Ubuntu SMP Tue Nov 14 13:30:08 UTC 2023", "Ubuntu 5.15.0-91.101-generic 5.15.131", "5.15.131"},
		{"5.15.0-91-generic", "#101-Ubuntu SMP Tue Nov 14 13:30:08 UTC 2023", "", ""},
		{"5.14.0-427.13.1.el9_4.x86_64", "#1 SMP PREEMPT_DYNAMIC Wed Apr 10 10:29:16 EDT 2024", "", ""},
		{"4.18.0-553.el8_10.x86_64", "#1 SMP", "", ""},
		{"6.10.5-200.fc40.x86_64", "#1 SMP PREEMPT_DYNAMIC", "", "6.10.5"},
		{"6.18.44-fc-v657", "#1 SMP", "", "6.18.44"},
		{"6.4.0", "#1 SMP", "", "6.4.0"},
		{"7.0.0-rc3", "#1 SMP", "", "7.0.0"},
		{"5.15.90.1-microsoft-standard-WSL2", "#1 SMP", "", "5.15.90.1"},
		{"linux", "", "", ""},
		{"6.1.0-1-amd64", "#1 SMP Debian", "", ""},
	} {
		if got := kernelOrg(c.release, c.version, c.signature); got != c.want {
			t.Errorf("%s %s %s: %q, want %q", c.release, c.version, c.signature, got, c.want)
		}
	}
	c := Capabilities{OS: "linux", Kernel: "6.1.0-50-amd64"}
	for _, l := range diagnose(sandbox.Policy{}, c) {
		if strings.HasPrefix(l.Name, "CVE-") || l.Name == "kernel" && !strings.Contains(l.Detail, "cannot be looked up") {
			t.Errorf("a kernel of unknown version: %+v", l)
		}
	}
}

// AC-76: the edges of every range.
func TestKnownBad(t *testing.T) {
	for _, c := range []struct {
		release string
		want    []string
	}{
		{"5.7.19", nil},
		{"5.8.0", []string{"CVE-2022-0847"}},
		{"5.10.101", []string{"CVE-2022-0847"}},
		{"5.10.102", nil},
		{"5.15.24", []string{"CVE-2022-0847", "CVE-2024-42318"}},
		{"5.15.165", nil},
		{"6.1.36", []string{"CVE-2023-3269", "CVE-2024-42318"}},
		{"6.1.103", nil},
		{"6.1.141", []string{"CVE-2026-23394"}},
		{"6.4.0", []string{"CVE-2023-3269", "CVE-2024-42318"}},
		{"6.10.0", []string{"CVE-2024-42318", "CVE-2025-38236", "CVE-2026-23394"}},
		{"6.12.36", []string{"CVE-2026-23394"}},
		{"6.18.44-fc-v657", nil},
		{"6.19.9", []string{"CVE-2026-23394"}},
		{"7.0.0", nil},
		{"not a number", nil},
	} {
		var got []string
		for _, b := range knownBad(c.release) {
			got = append(got, b.id)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.release, got, c.want)
		}
	}
	for _, b := range kernelBugs {
		for _, r := range b.ranges {
			if !versionLess(r.from, r.before) {
				t.Errorf("%s: empty range %v", b.id, r)
			}
		}
	}
}

// The doctor's list ends with the outcome, names each layer once as a layer,
// and gives a remedy with everything that is missing and can be had.
func TestDiagnoseEveryHost(t *testing.T) {
	everyHost(func(c Capabilities) {
		c.Kernel, c.KernelVersion = "6.10.0", "6.10.0"
		layers := diagnose(sandbox.Policy{}, c)
		last := layers[len(layers)-1]
		_, _, err := plan(sandbox.Policy{}, c)
		if last.Name != "level" || (err == nil) != (last.State == sandbox.StateOn) {
			t.Fatalf("%+v: ends with %+v, plan says %v", c, last, err)
		}
		for _, l := range layers {
			if l.Name == "" || l.Detail == "" && l.State == sandbox.StateOn {
				t.Fatalf("%+v: empty %+v", c, l)
			}
			if !slices.Contains([]string{sandbox.StateOn, sandbox.StateOff, sandbox.StateUnavailable}, l.State) {
				t.Fatalf("%+v: state of %+v", c, l)
			}
			if strings.HasPrefix(l.Name, "CVE-2024-42318") && l.State != sandbox.StateOn {
				t.Fatalf("keyctl is refused, but: %+v", l)
			}
		}
		if c.OS == "linux" && !slices.ContainsFunc(layers, func(l sandbox.Layer) bool {
			return l.Name == "CVE-2025-38236" && l.State == sandbox.StateOff && l.Remedy != ""
		}) {
			t.Fatalf("%+v: the kernel's holes are not told: %+v", c, layers)
		}
	})
}

func TestDiagnose(t *testing.T) {
	for _, l := range Diagnose(context.Background(), sandbox.Policy{}) {
		t.Logf("%-18s %-12s %s | %s", l.Name, l.State, l.Detail, l.Remedy)
	}
	layers := Diagnose(context.Background(), sandbox.Policy{MinLevel: sandbox.LevelNone, Level: sandbox.LevelNone})
	if last := layers[len(layers)-1]; last.State != sandbox.StateOn || !strings.HasPrefix(last.Detail, string(sandbox.LevelNone)) {
		t.Errorf("%+v", last)
	}
}
