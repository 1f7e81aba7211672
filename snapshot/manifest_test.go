package snapshot

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"
	"testing/iotest"
)

// someEntries has each kind, and a file with more pieces than one read brings.
func someEntries() []*entry {
	many := &entry{path: "d/many", kind: kindFile, mode: 0o600, mtime: -5, dev: 7, ino: 3, ctime: 9}
	for i := range 5000 {
		p := piece{n: int64(i + 1)}
		p.id[0], p.id[1], p.id[31] = byte(i), byte(i>>8), 1
		many.pieces = append(many.pieces, p)
		many.size += p.n
	}
	return []*entry{
		{kind: kindDir, mode: 0o755, dev: 7, ino: 1, ctime: 5},
		{path: "d", kind: kindDir, mode: 0o1777, dev: 7, ino: 2, xattrs: []xattr{{"user.a", "b\x00c"}, {"user.b", ""}}},
		many,
		{path: "d/next", kind: kindFile, mode: 0o644, dev: 8, ino: 4, linked: true},
		{path: "d/twice", kind: kindFile, mode: 0o644, dev: 8, ino: 4, hard: "d/next"},
		{path: "d.x", kind: kindLink, mode: 0o777, target: "/\xff", dev: 7},
		{path: "hole", kind: kindFile, size: 1 << 40, pieces: []piece{{n: 1 << 40}}, dev: 7},
	}
}

func encodeManifest(t *testing.T, list []*entry) []byte {
	t.Helper()
	var b bytes.Buffer
	m := newManifestWriter(&b)
	for _, e := range list {
		must(t, m.add(e))
	}
	must(t, m.close())
	return b.Bytes()
}

// TestManifestRoundTrip: however the bytes arrive, the entries are those that
// were written, also when one entry's space is used again for the next.
func TestManifestRoundTrip(t *testing.T) {
	want := someEntries()
	b := encodeManifest(t, want)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader, "data and error": iotest.DataErrReader,
	} {
		for _, reuse := range []bool{false, true} {
			t.Run(fmt.Sprint(name, reuse), func(t *testing.T) {
				m, err := newManifestReader(io.NopCloser(wrap(bytes.NewReader(b))))
				must(t, err)
				var used entry
				for _, w := range want {
					e := &used
					if reuse {
						ok, err := m.into(e)
						must(t, err)
						if !ok {
							t.Fatal("it ended early")
						}
					} else if e, err = m.next(); err != nil || e == nil {
						t.Fatal(e, err)
					}
					c := e.clone()
					if len(c.pieces) == 0 {
						c.pieces = nil
					}
					if !reflect.DeepEqual(c, w) {
						t.Fatalf("%q differs from what was written", w.path)
					}
				}
				if e, err := m.next(); e != nil || err != nil {
					t.Error("it goes on", e, err)
				}
			})
		}
	}
}

// TestManifestCut: one that ends early is an error wherever it ends, and the
// error stays.
func TestManifestCut(t *testing.T) {
	list := someEntries()
	list[2].pieces, list[2].size = list[2].pieces[:3], 6
	b := encodeManifest(t, list)
	for n := range len(b) {
		m, err := newManifestReader(io.NopCloser(bytes.NewReader(b[:n])))
		for err == nil {
			var e *entry
			if e, err = m.next(); e == nil && err == nil {
				t.Fatalf("%d of %d bytes are taken as the whole", n, len(b))
			}
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if m != nil {
			if _, again := m.next(); again != err {
				t.Fatalf("%d bytes: then %v", n, again)
			}
		}
	}
}

func FuzzManifest(f *testing.F) {
	var b bytes.Buffer
	m := newManifestWriter(&b)
	for _, e := range someEntries()[3:5] {
		m.add(e)
	}
	m.close()
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := newManifestReader(io.NopCloser(bytes.NewReader(b)))
		if err != nil {
			return
		}
		last := ""
		for first := true; ; first = false {
			e, err := m.next()
			if e == nil || err != nil {
				return
			}
			if !first && comparePaths(last, e.path) >= 0 {
				t.Fatalf("%q after %q", e.path, last)
			}
			last = e.path
		}
	})
}

func TestCompareJoined(t *testing.T) {
	parts := []string{"a", "a.b", "a\x01", "ab", "b", "a b", "\xff", "."}
	var paths []string
	for _, x := range parts {
		paths = append(paths, x)
		for _, y := range parts {
			paths = append(paths, x+"/"+y)
			for _, z := range parts {
				paths = append(paths, x+"/"+y+"/"+z)
			}
		}
	}
	sign := func(n int) int { return min(max(n, -1), 1) }
	for _, p := range append(paths, "") {
		for _, q := range paths {
			dir, name := splitPath(q)
			if got, want := sign(compareJoined(p, dir, name)), sign(comparePaths(p, q)); got != want {
				t.Fatalf("%q and %q, %q: %d, want %d", p, dir, name, got, want)
			}
		}
	}
}

// TestManifestCuts: the chunks do not depend on how the bytes come.
func TestManifestCuts(t *testing.T) {
	w := newWorld(t, Options{})
	// Names without a common beginning, for a list of ten chunks or so: inode
	// numbers and times make it another one every time.
	for i := range 60 {
		for j := range 60 {
			sum := sha512.Sum512([]byte{byte(i), byte(j)})
			w.write(fmt.Sprintf("dir%d/%x", i, sum), fmt.Sprint(i, j))
		}
	}
	w.settle()
	first := w.create("")
	second := w.create("")
	a, err := w.repo.load(t.Context(), first.ID)
	must(t, err)
	b, err := w.repo.load(t.Context(), second.ID)
	must(t, err)
	if len(a.Manifest) < 2 || len(a.Manifest) != len(b.Manifest) {
		t.Fatalf("%d and %d chunks", len(a.Manifest), len(b.Manifest))
	}
	m := manifestCuts()
	for i, c := range a.Manifest {
		if n := int(c.Raw); n > m.max || n < m.min && i < len(a.Manifest)-1 {
			t.Errorf("chunk %d has %d bytes", i, n)
		}
	}
}
