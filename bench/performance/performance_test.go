package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestAttribute(t *testing.T) {
	for _, c := range []struct {
		name, block, pkg, function string
		took                       time.Duration
	}{
		{"the innermost function of this repository", "--\n      10ms   runtime.futex\n             mcp-sandbox/confine.(*Sandbox).Spawn\n             mcp-sandbox/session.(*Session).Exec\n", "confine", "confine.(*Sandbox).Spawn", 10 * time.Millisecond},
		{"the client's part", "--\n     1.20s   syscall.write\n             main.(*client).call\n", "", "", 0},
		{"the runtime alone", "--\n      20ms   runtime.futex\n             runtime.mcall\n", "runtime: scheduler, collector, poller", "", 20 * time.Millisecond},
		{"a library alone", "--\n      20ms   encoding/json.Marshal\n             runtime.goexit\n", "libraries", "", 20 * time.Millisecond},
		{"the head", "File: performance\nType: cpu\n", "libraries", "", 0},
	} {
		pkg, function, took := attribute(c.block)
		if took != c.took || took != 0 && (pkg != c.pkg || function != c.function) {
			t.Errorf("%s: %q, %q, %v", c.name, pkg, function, took)
		}
	}
}

func TestReadCounts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "counts")
	const text = "syscall              calls\n---------------- ---------\nfutex                 1360\nread                   270\nclock_gettime            3\n---------------- ---------\ntotal                 1633\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readCounts(file, 100)
	if err != nil || !slices.Equal(got, []syscalls{{"futex", 13.6}, {"read", 2.7}}) {
		t.Errorf("%v, %v", got, err)
	}
}
