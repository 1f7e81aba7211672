package confine

import (
	"path/filepath"
	"slices"
	"strings"
)

// cgroupHierarchy is one mounted hierarchy in which this process has a place.
type cgroupHierarchy struct {
	v2          bool
	controllers []string // v1: of the mount; v2: nil, each directory says itself
	// parents are the directories to try, best first. A v2 group with processes
	// in it cannot hand controllers to children ("no internal processes",
	// cgroups(7)), so next to the server's own group stands the one above it, where
	// systemd's delegation makes siblings possible.
	parents []string
}

func (h cgroupHierarchy) has(controller string) bool {
	return h.v2 || slices.Contains(h.controllers, controller)
}

// cgroupHierarchies reads /proc/self/mountinfo and /proc/self/cgroup. v2 comes
// first.
func cgroupHierarchies(mountinfo, self string) []cgroupHierarchy {
	own := map[string]string{} // controller list, "" for v2 -> path
	for line := range strings.Lines(self) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) == 3 {
			own[f[1]] = f[2]
		}
	}
	var out []cgroupHierarchy
	for line := range strings.Lines(mountinfo) {
		// ID parent dev root mountpoint options... - type source superoptions
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 3 {
			continue
		}
		root, point := unescapeMount(l[3]), unescapeMount(l[4])
		if !strings.HasPrefix(point, "/") {
			continue // not below this process's root
		}
		switch r[0] {
		case "cgroup2":
			if dir, ok := beneathMount(root, point, own[""]); ok && hasKey(own, "") {
				h := cgroupHierarchy{v2: true, parents: []string{dir}}
				if dir != point {
					h.parents = append(h.parents, filepath.Dir(dir))
				}
				out = append([]cgroupHierarchy{h}, out...)
			}
		case "cgroup":
			for list, path := range own {
				if list == "" || !sharesController(list, r[2]) {
					continue
				}
				if dir, ok := beneathMount(root, point, path); ok {
					out = append(out, cgroupHierarchy{controllers: strings.Split(list, ","), parents: []string{dir}})
				}
			}
		}
	}
	return out
}

func hasKey(m map[string]string, k string) bool { _, ok := m[k]; return ok }

// sharesController compares a line of /proc/self/cgroup ("cpu,cpuacct") with a
// mount's super options ("rw,cpu,cpuacct"); all named controllers must be there.
func sharesController(list, options string) bool {
	opts := strings.Split(options, ",")
	for _, c := range strings.Split(list, ",") {
		if !slices.Contains(opts, c) {
			return false
		}
	}
	return true
}

// beneathMount turns a path inside a hierarchy into one of the file system, for
// a mount that shows the hierarchy from root on. Paths outside of what is
// mounted (a container without its own cgroup namespace) have none.
func beneathMount(root, point, path string) (string, bool) {
	for _, p := range []string{path, root} {
		if !strings.HasPrefix(p, "/") || slices.Contains(strings.Split(p, "/"), "..") {
			return "", false // a place above this process's cgroup namespace
		}
	}
	if root == "/" {
		return filepath.Join(point, path), true
	}
	if path == root {
		return point, true
	}
	if rest, ok := strings.CutPrefix(path, root+"/"); ok {
		return filepath.Join(point, rest), true
	}
	return "", false
}

// unescapeMount undoes the octal escapes of mountinfo (proc_pid_mountinfo(5)).
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
