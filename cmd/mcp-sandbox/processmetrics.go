package main

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The process_* series that every Prometheus client has, of the server alone: its
// sessions' commands are not in them.

func cpuSeconds() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

func openFDs() float64 {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return float64(max(len(entries)-1, 0)) // without the one that reads them
}

// residentBytes and virtualBytes are fields of /proc/self/statm, in pages (proc(5)).
func residentBytes() float64 { return statm(1) }
func virtualBytes() float64  { return statm(0) }

func statm(field int) float64 {
	b, err := os.ReadFile("/proc/self/statm")
	if f := strings.Fields(string(b)); err == nil && len(f) > field {
		pages, _ := strconv.ParseFloat(f[field], 64)
		return pages * float64(os.Getpagesize())
	}
	return 0
}

func maxFDs() float64 {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return float64(l.Cur)
}
