package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// wide makes a directory of several blocks, some names of which are directories.
func wide(t *testing.T, root string, files int) {
	t.Helper()
	for i := range files {
		p := filepath.Join(root, fmt.Sprintf("%04d", i*11%files))
		if i%50 == 0 {
			p = filepath.Join(p, "in")
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(p, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func openTree(t *testing.T, root string) *tree {
	t.Helper()
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	tr, err := newTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// below counts the descriptors of this process that are open on root or below it.
func below(t *testing.T, root string) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("no /proc")
	}
	n := 0
	for _, e := range list {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && within(to, root) {
			n++
		}
	}
	return n
}

// TestWalkInBlocks: a directory of several blocks comes in order, whole, and without
// what is left out; all of its descriptors are given back, also when it or the walk is
// left in the middle.
func TestWalkInBlocks(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	wide(t, root, 1400)
	tr := openTree(t, root)
	var want []string
	err = filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
		want = append(want, strings.TrimPrefix(strings.TrimPrefix(p, root), "/"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	for _, c := range []struct {
		name  string
		skip  func(string) bool
		enter func(string) bool
		ends  int
	}{
		{name: "all"},
		{name: "some skipped", skip: func(p string) bool { return strings.HasSuffix(p, "3") }},
		{name: "directories left out", enter: func(p string) bool { return p == "" || strings.HasSuffix(p, "00") }},
		{name: "root left out", enter: func(string) bool { return false }},
		{name: "ended", ends: 700},
	} {
		t.Run(c.name, func(t *testing.T) {
			for parallel := range 4 {
				w := tr.walk(t.Context(), 1+parallel, c.skip)
				var got []string
				note := func(p string) error {
					if got = append(got, p); len(got) == c.ends {
						return stop
					}
					return nil
				}
				err := w.each(visitor{
					enter: func(f *directory) (bool, error) {
						if c.enter != nil && !c.enter(f.path) {
							return false, nil
						}
						return true, errors.Join(f.err, note(f.path))
					},
					other:  func(dir string, it *item) error { return note(joinPath(dir, it.name)) },
					failed: func(_, _ string, err error) error { return err },
				})
				w.stop()
				if c.ends > 0 && !errors.Is(err, stop) || c.ends == 0 && err != nil {
					t.Fatal(err)
				}
				left := want
				if c.skip != nil {
					left = slices.DeleteFunc(slices.Clone(want), func(p string) bool { return c.skip(p) || c.skip(filepath.Dir(p)) })
				}
				if c.enter != nil {
					left = slices.DeleteFunc(slices.Clone(want), func(p string) bool {
						fi, err := os.Lstat(filepath.Join(root, p))
						dir, _ := splitPath(p)
						return err != nil || !c.enter("") || fi.IsDir() && !c.enter(p) || !c.enter(dir)
					})
				}
				if c.ends > 0 {
					left = want[:c.ends]
				}
				if !slices.Equal(got, left) {
					t.Fatalf("%d paths came, %d are there", len(got), len(left))
				}
				if n := w.ahead.Load(); c.ends == 0 && n != 0 {
					t.Errorf("%d entries are listed and not consumed", n)
				}
				if n := below(t, root); n != 1 {
					t.Errorf("%d descriptors are open", n)
				}
			}
		})
	}
}

// TestWalkOfWhatMayNotBeSearched: a directory that may be read and not searched is
// told of as a whole, also if the first names in it are directories. Where the right
// goes while it is walked, the names that are left are told of one by one.
func TestWalkOfWhatMayNotBeSearched(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may search everything")
	}
	root := t.TempDir()
	wide(t, root, 300)
	for i := range blockNames {
		if err := os.MkdirAll(filepath.Join(root, fmt.Sprintf("!%d", i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tr := openTree(t, root)
	t.Cleanup(func() { os.Chmod(root, 0o755) })
	f := newDirectory("")
	w := tr.walk(t.Context(), 1, nil)
	w.stop()
	if err := os.Chmod(root, 0o400); err != nil {
		t.Fatal(err)
	}
	if err := w.read(f, new(lister)); !errors.Is(err, unix.EACCES) {
		t.Errorf("the directory is listed with %v", err)
	}
	if err := os.Chmod(root, 0o700); err != nil {
		t.Fatal(err)
	}
	// The consumer lists alone, so nothing is listed ahead of it.
	w = &walker{ctx: t.Context(), tree: tr}
	var here, failed int
	err := w.each(visitor{
		enter: func(f *directory) (bool, error) { return f.path == "", os.Chmod(root, 0o400) },
		other: func(string, *item) error { here++; return nil },
		failed: func(_, _ string, err error) error {
			if failed++; unreadable(err) != skipUnreadable {
				return err
			}
			return nil
		},
	})
	if err != nil || here != 0 || failed == 0 {
		t.Errorf("%d files came and %d names failed, %v", here, failed, err)
	}
	if err := os.Chmod(root, 0o700); err != nil {
		t.Fatal(err)
	}
	// Through a whole snapshot: the walk does not fail.
	store, err := NewLocalStore(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(store, Options{Root: root, Rules: func(context.Context) Rules {
		return chmodRules{func() { os.Chmod(root, 0o400) }}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Create(t.Context(), CreateRequest{}); err != nil {
		t.Error(err)
	}
}

// chmodRules calls a function when the first path is asked about.
type chmodRules struct{ first func() }

func (c chmodRules) Hides(string, uint64, uint64, uint64) bool { c.first(); return false }
func (chmodRules) Protects(string) bool                        { return false }

// TestWalkHoldsFewDescriptors: however deep a tree of large directories is, a walk has as
// many of them open as list, so that no session can use up those of the server.
func TestWalkHoldsFewDescriptors(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := root
	for range 30 {
		at = filepath.Join(at, "!")
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range blockNames {
			if err := os.WriteFile(filepath.Join(at, fmt.Sprint(i)), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	const listers = 2
	w := openTree(t, root).walk(t.Context(), listers, nil)
	defer w.stop()
	most, files := 0, 0
	err = w.each(visitor{
		enter:  func(f *directory) (bool, error) { most = max(most, below(t, root)); return true, f.err },
		other:  func(string, *item) error { files++; return nil },
		failed: func(_, _ string, err error) error { return err },
	})
	// The root, and one for each who lists.
	if err != nil || files != 30*blockNames || most > 1+listers+1 {
		t.Errorf("%d files, %d descriptors, %v", files, most, err)
	}
}
