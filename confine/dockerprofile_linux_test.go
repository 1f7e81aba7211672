package confine

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// The seccomp profile we ship for containers is this package's own table without
// what a session needs for its set-up. It stands around the server, not around
// commands, which keep the whole table.

var updateDocker = flag.Bool("update-docker", false, "rewrite packaging/docker/seccomp.json")

// leftOpen are refused to commands and stay open around the server.
var leftOpen = []string{
	// Init's own set-up.
	"mount", "umount2", "pivot_root", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "mount_setattr",
	"clone3", "unshare", "sethostname", "openat2",
	// Of use to other programs of the container, as in Docker's default profile.
	"chroot",
	// Closed to commands for reasons of the session, not of the machine.
	"pidfd_send_signal", "file_setattr", "listns", "process_vm_readv", "process_vm_writev",
}

type dockerProfile struct {
	Comment       string        `json:"comment"`
	DefaultAction string        `json:"defaultAction"`
	Archs         []string      `json:"architectures"`
	Syscalls      []dockerRules `json:"syscalls"`
}

type dockerRules struct {
	Names    []string `json:"names"`
	Action   string   `json:"action"`
	ErrnoRet int      `json:"errnoRet"`
}

func wantDockerProfile() dockerProfile {
	byErrno := map[unix.Errno][]string{}
	for i := range tableRules {
		r := &tableRules[i]
		if r.clauses == nil && r.when != landlockOnly && r.when != supervised && !slices.Contains(leftOpen, r.name) {
			byErrno[r.errno] = append(byErrno[r.errno], r.name)
		}
	}
	p := dockerProfile{
		Comment:       "For the container around an mcp-sandbox server; see docs/docker.md. Commands run under the stricter filter of the server.",
		DefaultAction: "SCMP_ACT_ALLOW",
		Archs:         []string{"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"},
	}
	for e, names := range byErrno {
		sort.Strings(names)
		p.Syscalls = append(p.Syscalls, dockerRules{names, "SCMP_ACT_ERRNO", int(e)})
	}
	sort.Slice(p.Syscalls, func(i, j int) bool { return p.Syscalls[i].ErrnoRet < p.Syscalls[j].ErrnoRet })
	return p
}

func TestDockerProfile(t *testing.T) {
	file := filepath.Join("..", "packaging", "docker", "seccomp.json")
	want, err := json.MarshalIndent(wantDockerProfile(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *updateDocker {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		t.Log("the test runs away from the source tree, so there is no file to compare")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s is not what the table says, run with -update-docker", file)
	}
}

// AC-73: behind the profile we ship, every layer of a session comes up.
func TestDockerProfileLetsASessionStart(t *testing.T) {
	full := hostCapabilities(t)
	var rules []syscallRule
	for _, group := range wantDockerProfile().Syscalls {
		for i := range tableRules {
			if r := tableRules[i]; slices.Contains(group.Names, r.name) {
				rules = append(rules, syscallRule{name: r.name, amd64: r.amd64, arm64: r.arm64, errno: unix.Errno(group.ErrnoRet)})
			}
		}
	}
	arch, err := nativeSeccompArch()
	if err != nil {
		t.Fatal(err)
	}
	prog, err := buildSeccomp(arch, rules, seccompOptions{Network: sandbox.NetworkHost})
	if err != nil {
		t.Fatal(err)
	}
	var got Capabilities
	runLayerChild(t, "probe", degradedHost{Filter: prog}, &got)
	if !got.Namespaces.OK || !got.Seccomp.OK || got.LandlockABI != full.LandlockABI || got.FreshProc.OK != full.FreshProc.OK {
		t.Errorf("behind the profile: %+v", got)
	}
}
