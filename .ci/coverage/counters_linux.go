package confine

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is in no build but that of .ci/cover, which lays it over the
// package. A program built with -cover writes its counters when it exits by
// itself; a sandbox's init is always killed, starts without an environment, and
// has another root by then. So every process keeps its counters in a mapped
// file, which outlives it however it ends, and .ci/cover reads them back.

// coverDir takes the files; set by the linker.
var coverDir string

// counterBlob is rtcov.CovCounterBlob.
type counterBlob struct {
	counters *uint32
	length   uint64
}

//go:linkname counterList internal/coverage/cfile.getCovCounterList
func counterList() []counterBlob

// Files are initialised in the order of their names, so this comes before the
// init function in which the children leave for their work.
func init() {
	blobs := counterList()
	if coverDir == "" || len(blobs) != 1 {
		return
	}
	first := uintptr(unsafe.Pointer(blobs[0].counters))
	counters := unsafe.Slice(blobs[0].counters, blobs[0].length)
	page := uintptr(os.Getpagesize())
	start := first &^ (page - 1)
	size := (first + uintptr(len(counters))*4 - start + page - 1) &^ (page - 1)
	if load := os.Getenv("COVER_LOAD"); load != "" {
		loadCounters(counters, load, int(first-start))
		return
	}
	// Or the program complains on stderr, which tests read.
	if os.Getenv("GOCOVERDIR") == "" {
		// A folder for each user: they replace each other's files in it.
		dir := fmt.Sprintf("%s/exit.%d", coverDir, os.Getuid())
		_ = os.Mkdir(dir, 0o755)
		os.Setenv("GOCOVERDIR", dir)
	}
	// In its own namespace an init's number is always 1.
	name := fmt.Sprintf("%s/%s.%d.%d", coverDir, programName(), os.Getpid(), time.Now().UnixNano())
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if unix.Ftruncate(fd, int64(size)) != nil {
		return
	}
	// The first and the last page hold other variables too, which are this
	// process's own: hence a file for each process. Empty pages stay holes.
	now := unsafe.Slice((*byte)(unsafe.Pointer(start)), size)
	for at := uintptr(0); at < size; at += page {
		if part := now[at : at+page]; bytes.ContainsFunc(part, func(r rune) bool { return r != 0 }) {
			unix.Pwrite(fd, part, int64(at))
		}
	}
	unix.MmapPtr(fd, 0, unsafe.Pointer(start), size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED)
}

func programName() string {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return "unknown"
	}
	return filepath.Base(exe)
}

// loadCounters takes over what other processes of this very program counted.
func loadCounters(counters []uint32, pattern string, lead int) {
	names, _ := filepath.Glob(pattern)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil || len(b) < lead+4*len(counters) {
			fmt.Fprintln(os.Stderr, "not read:", name, err)
			continue
		}
		for i := range counters {
			at := lead + 4*i
			counters[i] |= uint32(b[at]) | uint32(b[at+1])<<8 | uint32(b[at+2])<<16 | uint32(b[at+3])<<24
		}
	}
}
