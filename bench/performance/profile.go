package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/bench/internal/stats"
)

// share is processor time of one call.
type share struct {
	name string
	us   float64
}

// profile has calls profiled and gives the time of each package and of the functions
// that take most. A sample counts for the innermost function of this repository, the
// runtime's own work apart.
func profile(dir string, calls int, call func() error) (packages, functions []share, err error) {
	file := filepath.Join(dir, "cpu")
	f, err := os.Create(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, nil, err
	}
	for range calls {
		if err = call(); err != nil {
			break
		}
	}
	pprof.StopCPUProfile()
	if err != nil {
		return nil, nil, err
	}
	text, err := exec.Command("go", "tool", "pprof", "-traces", file).Output()
	if err != nil {
		return nil, nil, fmt.Errorf("go tool pprof: %w", err)
	}
	perPackage, perFunction := map[string]float64{}, map[string]float64{}
	for _, block := range strings.Split(string(text), "-----------+-") {
		pkg, function, took := attribute(block)
		if took == 0 || pkg == "" {
			continue
		}
		us := float64(took.Nanoseconds()) / 1e3 / float64(calls)
		perPackage[pkg] += us
		if function != "" {
			perFunction[function] += us
		}
	}
	return ranked(perPackage), ranked(perFunction), nil
}

// attribute reads one stack, the innermost function first.
func attribute(block string) (pkg, function string, took time.Duration) {
	const module = "mcp-sandbox/"
	runtime := true
	for line := range strings.Lines(block) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		name := words[0]
		if took == 0 {
			d, err := time.ParseDuration(words[0])
			if err != nil || len(words) < 2 {
				continue
			}
			took, name = d, words[1]
		}
		if strings.HasPrefix(name, "main.") {
			return "", "", 0 // the client's part
		}
		if rest, ok := strings.CutPrefix(name, module); ok {
			pkg, _, _ = strings.Cut(rest, ".")
			return pkg, strings.TrimSuffix(rest, "-fm"), took
		}
		runtime = runtime && strings.HasPrefix(name, "runtime.")
	}
	if runtime {
		return "runtime: scheduler, collector, poller", "", took
	}
	return "libraries", "", took
}

func ranked(m map[string]float64) []share {
	var list []share
	for name, us := range m {
		list = append(list, share{name, us})
	}
	slices.SortFunc(list, func(a, b share) int {
		return cmp.Or(cmp.Compare(b.us, a.us), cmp.Compare(a.name, b.name))
	})
	return list
}

// floor is what the kernel takes on this machine for something that a call needs.
type floor struct {
	name string
	us   float64
}

func floors() ([]floor, error) {
	var list []floor
	for _, f := range []struct {
		name string
		n    int
		do   func() error
	}{
		{"one system call (getppid)", 10_000, func() error { unix.Getppid(); return nil }},
		{"one page touched for the first time", 2_000, touch()},
		{"a message to another process and back (pipes, `cat`)", 300, echo()},
		{"`true` started and waited for (os/exec)", 200, func() error { return exec.Command("/usr/bin/true").Run() }},
	} {
		var took []float64
		for range 7 {
			start := time.Now()
			for range f.n {
				if err := f.do(); err != nil {
					return nil, err
				}
			}
			took = append(took, float64(time.Since(start).Nanoseconds())/1e3/float64(f.n))
		}
		list = append(list, floor{f.name, stats.Median(took)})
	}
	return list, nil
}

// touch writes one byte to a page that is not there yet.
func touch() func() error {
	var mem []byte
	at := 0
	return func() error {
		if at >= len(mem) {
			if mem != nil {
				if err := unix.Munmap(mem); err != nil {
					return err
				}
			}
			var err error
			if mem, err = unix.Mmap(-1, 0, 2_000*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err != nil {
				return err
			}
			at = 0
		}
		mem[at] = 1
		at += 4096
		return nil
	}
}

// echo sends a byte to cat(1) and reads it back.
func echo() func() error {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		return func() error { return err }
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return func() error { return err }
	}
	if err := cmd.Start(); err != nil {
		return func() error { return err }
	}
	b := []byte{1}
	return func() error {
		if _, err := in.Write(b); err != nil {
			return err
		}
		_, err := out.Read(b)
		return err
	}
}
