// Package page writes the reports of the benchmarks.
package page

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Save has write fill the file at path, whole or not at all; - is standard
// output.
func Save(path string, write func(io.Writer) error) error {
	if path == "-" {
		return write(os.Stdout)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".benchmarks-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(write(f), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Machine tells what the times depend on.
func Machine() string {
	// A load well above nothing says that others used the cores meanwhile.
	load := "unknown"
	if avg, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(avg), " ")
	}
	return fmt.Sprintf("%s/%s, %d cores, load %s before the start", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), load)
}
