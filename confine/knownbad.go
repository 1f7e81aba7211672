package confine

import (
	"strconv"
	"strings"
)

// kernelBug is a hole in Linux that a confined command could use: it needs no
// capability and no call the filter refuses, or it undoes a layer. Holes that
// start with a namespace, a raw socket, io_uring, bpf or a kernel keyring are
// not listed: commands cannot get there.
type kernelBug struct {
	id     string
	what   string
	closed string // which layer closes it nonetheless, "" when none does
	ranges []versionRange
}

// versionRange is from, inclusive, to before, exclusive, in versions of
// kernel.org.
type versionRange struct{ from, before [3]int }

// kernelBugs is the table; sources are the CVE records of kernel.org and NVD
// and the finders' write-ups.
var kernelBugs = []kernelBug{
	{"CVE-2022-0847", "Dirty Pipe: files that can only be read can be overwritten", "", []versionRange{
		{[3]int{5, 8, 0}, [3]int{5, 10, 102}}, {[3]int{5, 11, 0}, [3]int{5, 15, 25}}, {[3]int{5, 16, 0}, [3]int{5, 16, 11}}}},
	{"CVE-2023-3269", "StackRot: memory of the kernel can be changed by an ordinary process", "", []versionRange{
		{[3]int{6, 1, 0}, [3]int{6, 1, 37}}, {[3]int{6, 2, 0}, [3]int{6, 3, 11}}, {[3]int{6, 4, 0}, [3]int{6, 4, 1}}}},
	{"CVE-2024-42318", "a process can leave its Landlock domain with keyctl", "the filter refuses keyctl", []versionRange{
		{[3]int{5, 13, 0}, [3]int{5, 15, 165}}, {[3]int{5, 16, 0}, [3]int{6, 1, 103}}, {[3]int{6, 2, 0}, [3]int{6, 6, 44}}, {[3]int{6, 7, 0}, [3]int{6, 10, 3}}}},
	{"CVE-2025-38236", "urgent data on unix sockets corrupts kernel memory", "", []versionRange{
		{[3]int{6, 9, 0}, [3]int{6, 12, 36}}, {[3]int{6, 13, 0}, [3]int{6, 15, 5}}}},
	{"CVE-2026-23394", "peeking at unix sockets while others close them corrupts their queues", "", []versionRange{
		{[3]int{6, 1, 141}, [3]int{6, 2, 0}}, {[3]int{6, 6, 93}, [3]int{6, 7, 0}}, {[3]int{6, 10, 0}, [3]int{6, 18, 23}}, {[3]int{6, 19, 0}, [3]int{6, 19, 10}}}},
}

// remedyKernelBug is the same for all: the version number alone does not tell.
const remedyKernelBug = "update the kernel; a distribution's kernel of this number may have the fix backported, its security tracker tells"

// kernelOrg is the version of kernel.org that a kernel is made from, by what
// uname(2) and /proc/version_signature (Ubuntu's) say, or "": a release such as
// 6.1.0-50-amd64 or 5.14.0-427.el9 is the distribution's own numbering, and fixes
// of many versions are in it.
func kernelOrg(release, version, signature string) string {
	fields := strings.Fields(version)
	for i, f := range fields {
		if f == "Debian" && i+1 < len(fields) {
			v, _, _ := strings.Cut(fields[i+1], "-")
			return v
		}
	}
	if f := strings.Fields(signature); len(f) == 3 && f[0] == "Ubuntu" {
		return f[2]
	}
	v, ok := kernelVersion(release)
	number, suffix, _ := strings.Cut(release, "-")
	if !ok || v[2] == 0 && suffix != "" && !strings.HasPrefix(suffix, "rc") {
		return ""
	}
	return number
}

// knownBad lists the bugs that kernels of this version of kernel.org have. What
// is not a version matches nothing.
func knownBad(release string) []kernelBug {
	v, ok := kernelVersion(release)
	if !ok {
		return nil
	}
	var out []kernelBug
	for _, b := range kernelBugs {
		for _, r := range b.ranges {
			if !versionLess(v, r.from) && versionLess(v, r.before) {
				out = append(out, b)
				break
			}
		}
	}
	return out
}

// kernelVersion reads the first three numbers of a release such as
// "6.1.0-18-amd64"; missing ones are 0.
func kernelVersion(release string) (v [3]int, ok bool) {
	end := strings.IndexFunc(release, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end >= 0 {
		release = release[:end]
	}
	parts := strings.Split(release, ".")
	for i := range v {
		if i >= len(parts) || i > 0 && parts[i] == "" {
			break
		}
		n, err := strconv.Atoi(parts[i])
		if err != nil {
			return v, false
		}
		v[i] = n
	}
	return v, len(parts) >= 2
}

func versionLess(a, b [3]int) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}
