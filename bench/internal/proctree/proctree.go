// Package proctree tells what the processes of a measurement are and take, by
// Linux's proc(5), and ends what they leave behind. What is gone while it is
// read counts as nothing, so no function fails.
//
// Start at Tree. It does not sample by itself; that is each benchmark's matter.
package proctree

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Tree gives the roots and all their living descendants.
func Tree(roots ...int) []int {
	children := map[int][]int{}
	for _, pid := range all() {
		if parent := parentOf(pid); parent > 0 {
			children[parent] = append(children[parent], pid)
		}
	}
	var pids []int
	for queue := roots; len(queue) > 0; queue = queue[1:] {
		pids = append(pids, queue[0])
		queue = append(queue, children[queue[0]]...)
	}
	return pids
}

// Descendants are the living processes below pid.
func Descendants(pid int) []int { return Tree(pid)[1:] }

// Named gives the processes with the text in their arguments, but not this one.
// A zombie has none and counts as gone.
func Named(text string) []int {
	var pids []int
	for _, pid := range all() {
		line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err == nil && pid != os.Getpid() && bytes.Contains(line, []byte(text)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func all() []int {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	pids := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(filepath.Base(name)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// stat gives the fields of /proc/PID/stat from the third on; the name in the
// second may itself hold blanks and brackets, so it counts from the last one.
func stat(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// parentOf is 0 for a process that is gone or a zombie.
func parentOf(pid int) int {
	fields := stat(pid)
	if len(fields) < 2 || fields[0] == "Z" {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// clockTick is the unit of the times in /proc, USER_HZ: 100 on every platform
// that Go runs on, time(7).
const clockTick = 10 * time.Millisecond

// CPUTime is the user and system time of a process, without its children's.
func CPUTime(pid int) time.Duration {
	fields := stat(pid)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick
}

// RSS is the resident set size of a process in bytes.
func RSS(pid int) int64 { return field(pid, "status", "VmRSS:") }

// PSS sums the proportional set size, in bytes, of the processes: memory that
// several share counts once.
func PSS(pids []int) (total int64) {
	for _, pid := range pids {
		total += field(pid, "smaps_rollup", "Pss:")
	}
	return total
}

// field is a size in bytes out of a file of /proc/PID that gives it in kB.
func field(pid int, file, name string) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			if words := strings.Fields(rest); len(words) > 0 {
				kib, _ := strconv.ParseInt(words[0], 10, 64)
				return kib << 10
			}
		}
	}
	return 0
}

// OpenFiles counts the descriptors of a process.
func OpenFiles(pid int) int {
	entries, _ := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	return len(entries)
}
