package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"strings"
	"testing"
)

// residentKB is the resident set of a process in KiB (proc_pid_status(5)).
func residentKB(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	n := 0
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// raceBuilt tells whether the binary under test carries the race detector, whose
// shadow memory would be counted as the server's.
func raceBuilt(t testing.TB) bool {
	t.Helper()
	bi, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range bi.Settings {
		if s.Key == "-race" && s.Value == "true" {
			return true
		}
	}
	return false
}
