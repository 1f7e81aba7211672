//go:build !linux

package stage

import (
	"errors"
	"os"
	"time"
)

// Stage is an open stage; there is none on this system.
type Stage struct {
	Git      Git
	Protects func(path string) bool
	Merged   *os.File
	As       func(f func() error) error
}

// Dir returns no directory.
func Dir(stateDir, root, session string) string { return "" }

// Take fails: an overlay needs Linux.
func Take(stateDir, root, session string, now time.Time) (*Stage, error) {
	return nil, errors.ErrUnsupported
}

// Open fails.
func Open(dir string) (*Stage, error) { return nil, os.ErrNotExist }

// List is empty.
func List(stateDir string) ([]Info, error) { return nil, nil }

// Measure finds no stage.
func Measure(dir string) (Info, error) { return Info{}, os.ErrNotExist }

// Size is nothing.
func Size(upper string) (bytes int64, files int, err error) { return 0, 0, nil }

// Delete removes nothing.
func Delete(dir string) error { return nil }

// Layers returns no directory.
func (s *Stage) Layers() string { return "" }

// Info is of nothing.
func (s *Stage) Info() Info { return Info{} }

// AddProtect keeps nothing.
func (s *Stage) AddProtect(paths []string) error { return nil }

// Held is true.
func (s *Stage) Held() bool { return true }

// Scan does nothing.
func (s *Stage) Scan(uid, gid int, warn func(strangers []string, more int)) {}

// Changes is empty.
func (s *Stage) Changes() ([]Change, error) { return nil, nil }

// Empty is true.
func (s *Stage) Empty() (bool, error) { return true, nil }

// Unfinished is nothing.
func (s *Stage) Unfinished() []Left { return nil }

// Diff is empty.
func (s *Stage) Diff(c *Change) string { return "" }

// Apply does nothing.
func (s *Stage) Apply(paths []string, choice Choice) (Result, error) { return Result{}, nil }

// Discard does nothing.
func (s *Stage) Discard(paths []string) (Result, error) { return Result{}, nil }

// ApplyListed does nothing.
func (s *Stage) ApplyListed(seen map[string]string, choice Choice) (Result, error) {
	return Result{}, nil
}

// DiscardListed does nothing.
func (s *Stage) DiscardListed(seen map[string]string) (Result, error) { return Result{}, nil }

// Prune does nothing.
func (s *Stage) Prune() error { return nil }

// End does nothing.
func (s *Stage) End() error { return nil }

// Close does nothing.
func (s *Stage) Close() error { return nil }

// Texts are none.
func (s *Stage) Texts(c *Change) (old, now string, ok bool) { return "", "", false }

// Sum identifies nothing.
func Sum(c *Change, old, now string) string { return "" }

// ErrOther says that the texts are others than those that were seen.
var ErrOther = errors.New("the file has changed since it was shown")

// ApplyHunks does nothing.
func (s *Stage) ApplyHunks(p string, hunks []int, sum string, choice Choice) (Result, error) {
	return Result{}, nil
}

// DiscardHunks does nothing.
func (s *Stage) DiscardHunks(p string, hunks []int, sum string) (Result, error) { return Result{}, nil }

// ApplyMerged does nothing.
func (s *Stage) ApplyMerged(p, text, sum string, choice Choice) (Result, error) { return Result{}, nil }

// Base is none.
func (s *Stage) Base(p string) (size, mtime int64, ok bool) { return 0, 0, false }
