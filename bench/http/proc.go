package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Everything here reads Linux's proc(5).

// descendants are the living processes below pid.
func descendants(pid int) (found []int) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	children := map[int][]int{}
	for _, name := range names {
		child, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		if parent := parentOf(child); parent > 0 {
			children[parent] = append(children[parent], child)
		}
	}
	for queue := children[pid]; len(queue) > 0; queue = queue[1:] {
		found = append(found, queue[0])
		queue = append(queue, children[queue[0]]...)
	}
	return found
}

// parentOf reads field 4 of /proc/PID/stat, counted from the last bracket since
// the name in field 2 may hold anything. Zero for what is gone or a zombie.
func parentOf(pid int) int {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 || fields[0] == "Z" {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// clockTick is the unit of the times in /proc, USER_HZ: 100 on every platform
// that Go runs on, time(7).
const clockTick = 10 * time.Millisecond

// cpuTime is fields 14 and 15 of /proc/PID/stat: user and system time of the
// process, without its children's.
func cpuTime(pid int) time.Duration {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick
}

// procField is a size in bytes out of a file of /proc/PID that gives it in kB.
func procField(pid int, file, field string) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			if words := strings.Fields(rest); len(words) > 0 {
				kib, _ := strconv.ParseInt(words[0], 10, 64)
				return kib << 10
			}
		}
	}
	return 0
}

// pss sums the proportional set size of the processes: memory that several
// share counts once.
func pss(pids []int) (total int64) {
	for _, pid := range pids {
		total += procField(pid, "smaps_rollup", "Pss:")
	}
	return total
}

func openFiles(pid int) int {
	entries, _ := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	return len(entries)
}
