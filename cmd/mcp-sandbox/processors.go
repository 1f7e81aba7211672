package main

import (
	"os"
	"runtime"
)

// fewProcessors is up to where a snapshot or a search takes every processor.
const fewProcessors = 4

// spareProcessor lets Go run one thread more than the host has processors, where these
// are few. Whoever walks a tree makes short system calls and keeps Go's processors for
// 10 ms at a time; a message that comes meanwhile would wait so long, several times a
// call. The kernel shares them sooner.
func spareProcessor() {
	n := runtime.GOMAXPROCS(0)
	if want := processors(n, os.Getenv("GOMAXPROCS")); want != n {
		runtime.GOMAXPROCS(want)
	}
}

// processors is how many Go should take of the n that it would; set is the
// environment's GOMAXPROCS, which stays in force.
func processors(n int, set string) int {
	if n <= fewProcessors && set == "" {
		return n + 1
	}
	return n
}
