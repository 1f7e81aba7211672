package stage

import (
	"maps"
	"os"
	"testing"
)

// FuzzIndex: a damaged index is refused or read, and never more than what it holds.
func FuzzIndex(f *testing.F) {
	s := &Stage{dir: f.TempDir()}
	s.index = newIndex()
	s.index.whole = true
	s.index.files["a/b"] = sig{mode: 0o100644, size: 3, mtime: 5, ctime: 7, ino: 9}
	s.index.applied["c"] = sig{mode: 0o120777, size: -1}
	s.index.unsure["d"] = true
	if err := s.saveIndex(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(s.indexPath())
	if err != nil {
		f.Fatal(err)
	}
	x, err := parseIndex(whole)
	if err != nil || !x.whole || !maps.Equal(x.files, s.index.files) || !maps.Equal(x.applied, s.index.applied) || !maps.Equal(x.unsure, s.index.unsure) {
		f.Fatalf("%+v %v", x, err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte(indexMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := parseIndex(b)
		if err == nil && len(x.files)+len(x.applied)+len(x.unsure) > len(b) {
			t.Errorf("%d bytes gave %d entries", len(b), len(x.files))
		}
	})
}
