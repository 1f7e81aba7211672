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

// tree gives the roots and all their descendants.
func tree(roots ...int) []int {
	children := map[int][]int{}
	for _, pid := range allPIDs() {
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

func allPIDs() []int {
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

// parentOf reads field 4 of /proc/PID/stat; the name in field 2 may itself
// hold blanks and brackets, so it counts from the last bracket. Zero for a
// process that is gone or a zombie.
func parentOf(pid int) int {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 || fields[0] == "Z" {
		return 0
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0
	}
	return parent
}

// pss sums the proportional set size, in bytes, of the processes: memory that
// several share counts once.
func pss(pids []int) int64 {
	var total int64
	for _, pid := range pids {
		rollup, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(rollup)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				if err == nil {
					total += kib << 10
				}
				break
			}
		}
	}
	return total
}

// named gives the processes with the text in their arguments. A zombie has
// none and counts as gone.
func named(text string) []int {
	var pids []int
	for _, pid := range allPIDs() {
		line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err == nil && pid != os.Getpid() && bytes.Contains(line, []byte(text)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// watchPeak samples the tree's memory until stop, which gives the largest.
func watchPeak(roots func() []int) (stop func() int64) {
	done, result := make(chan struct{}), make(chan int64)
	go func() {
		// Often enough for a peak of a tenth of a second, seldom enough that
		// reading does not hold up what it watches.
		tick := time.NewTicker(30 * time.Millisecond)
		defer tick.Stop()
		var peak int64
		for {
			peak = max(peak, pss(tree(roots()...)))
			select {
			case <-done:
				result <- max(peak, pss(tree(roots()...)))
				return
			case <-tick.C:
			}
		}
	}()
	return func() int64 { close(done); return <-result }
}
