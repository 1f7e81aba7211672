package confine

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// The numbers in the table are golang.org/x/sys's for both architectures.
func TestSeccompNumbers(t *testing.T) {
	// The table is the same for every user; one who cannot read the module cache
	// has nothing to compare it with.
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil || strings.TrimSpace(string(dir)) == "" {
		t.Skipf("no Go module cache to compare with: %v", err)
	}
	re := regexp.MustCompile(`(?m)^\s*SYS_(\w+)\s*=\s*(\d+)`)
	for _, arch := range []seccompArch{seccompAMD64, seccompARM64} {
		src, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_"+arch.name+".go"))
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int{}
		for _, m := range re.FindAllStringSubmatch(string(src), -1) {
			want[strings.ToLower(m[1])], _ = strconv.Atoi(m[2])
		}
		for i := range tableRules {
			r := &tableRules[i]
			n, known := want[r.name]
			if !known {
				n = -1
			}
			if arch.nr(r) != n {
				t.Errorf("%s on %s: %d, want %d", r.name, arch.name, arch.nr(r), n)
			}
			if r.why == "" || r.source == "" || (r.clauses == nil) == (r.errno == 0) {
				t.Errorf("%s: incomplete line", r.name)
			}
		}
	}
}

// Init's own rules: nobody signals init, and nobody everybody without the key.
func TestInitRules(t *testing.T) {
	key := [4]uint32{1, 2, 3, 0xfffffff0}
	const pid, everybody, group = 1234, 0xffffffff, 0xfffffb2e
	refused, ok := retErrno(unix.EPERM), uint32(retAllow)
	for _, arch := range []seccompArch{seccompAMD64, seccompARM64} {
		rules := initRules(pid, key)
		prog, err := buildSeccomp(arch, rules, seccompOptions{Network: sandbox.NetworkNone, LandlockOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			call string
			args []uint64
			want uint32
		}{
			{"kill", []uint64{pid, 9}, refused},
			{"kill", []uint64{group, 9}, refused},
			{"kill", []uint64{pid | 1<<40, 9}, refused},
			{"kill", []uint64{everybody, 9}, refused},
			{"kill", []uint64{everybody, 9, 1, 2, 3}, refused},
			{"kill", []uint64{everybody, 9, 1, 2, 3, 0xfffffff0}, ok},
			{"kill", []uint64{pid, 9, 1, 2, 3, 0xfffffff0}, refused},
			{"kill", []uint64{0, 9}, ok},
			{"kill", []uint64{pid + 1, 9}, ok},
			{"tkill", []uint64{pid, 9}, refused},
			{"tgkill", []uint64{pid, pid, 9}, refused},
			{"rt_sigqueueinfo", []uint64{pid, 9}, refused},
			{"rt_tgsigqueueinfo", []uint64{pid, pid, 9}, refused},
			{"pidfd_open", []uint64{pid}, refused},
			{"pidfd_open", []uint64{pid + 1}, ok},
			{"fcntl", []uint64{0, unix.F_SETOWN, pid}, refused},
			{"fcntl", []uint64{0, unix.F_SETOWN, group}, refused},
			{"fcntl", []uint64{0, unix.F_GETFL, pid}, ok},
		} {
			d := seccompData{arch: arch.audit}
			for i := range rules {
				if rules[i].name == c.call {
					d.nr = uint32(arch.nr(&rules[i]))
				}
			}
			copy(d.args[:], c.args)
			if got, err := runBPF(prog, d); err != nil || got != c.want {
				t.Errorf("%s %s%v: %#x (%v), want %#x", arch.name, c.call, c.args, got, err, c.want)
			}
		}
	}
}

// tableRules are those of the table, flat.
var tableRules = seccompTable()
