package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

func TestMain(m *testing.M) {
	if os.Getenv(killEnv) != "" {
		killedChild()
		return
	}
	goleak.VerifyTestMain(m)
}

// world is a workspace and a store, with a canary beside that nothing may touch.
type world struct {
	t      *testing.T
	base   string
	ws     string
	store  Store
	repo   *Repo
	canary map[string]string
}

// wakePoller makes the runtime open its poller, which it keeps: its descriptors
// are nobody's leak.
func wakePoller(t *testing.T) {
	t.Helper()
	r, w, err := os.Pipe()
	must(t, err)
	must(t, r.Close())
	must(t, w.Close())
}

func newWorld(t *testing.T, o Options) *world {
	t.Helper()
	wakePoller(t)
	fds := countFDs(t)
	base := t.TempDir()
	w := &world{t: t, base: base, ws: filepath.Join(base, "ws")}
	must(t, os.Mkdir(w.ws, 0o755))
	must(t, os.Mkdir(filepath.Join(base, "outside"), 0o755))
	must(t, os.WriteFile(filepath.Join(base, "outside", "secret"), []byte("canary"), 0o640))
	w.canary = describe(t, filepath.Join(base, "outside"))
	var err error
	w.store, err = NewLocalStore(filepath.Join(base, "store"))
	must(t, err)
	o.Root = w.ws
	w.repo, err = New(w.store, o)
	must(t, err)
	t.Cleanup(func() {
		must(t, w.repo.Close())
		equalTrees(t, "outside", w.canary, describe(t, filepath.Join(base, "outside")))
		if n := countFDs(t); n > fds {
			t.Errorf("descriptors leaked: %d before, %d after", fds, n)
		}
		unlock(base)
	})
	return w
}

// unlock lets the temporary directory be removed whatever modes a test set.
func unlock(base string) {
	filepath.WalkDir(base, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
}

func countFDs(t *testing.T) int {
	t.Helper()
	dir := "/proc/self/fd"
	if runtime.GOOS != "linux" {
		dir = "/dev/fd"
	}
	list, err := os.ReadDir(dir)
	must(t, err)
	return len(list)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		var e *sandbox.Error
		if errors.As(err, &e) {
			t.Fatalf("%s: %v (cause: %v)", e.Code(), err, e.Unwrap())
		}
		t.Fatal(err)
	}
}

// code returns the code of an error of this package.
func code(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *sandbox.Error
	if !errors.As(err, &e) {
		t.Fatalf("the error is not of this package: %v", err)
	}
	if strings.Contains(e.Error(), os.TempDir()) {
		t.Errorf("the error names a host path: %v", e)
	}
	return e.Code()
}

func (w *world) path(rel string) string { return filepath.Join(w.ws, rel) }

func (w *world) write(rel, content string) {
	w.t.Helper()
	must(w.t, os.MkdirAll(filepath.Dir(w.path(rel)), 0o755))
	must(w.t, os.WriteFile(w.path(rel), []byte(content), 0o644))
}

// age sets the times of all to long ago, so that the next snapshot need not
// suspect a change in the same clock tick. ctime cannot be set: wait for it.
func (w *world) settle() {
	w.t.Helper()
	must(w.t, os.WriteFile(filepath.Join(w.base, "tick"), nil, 0o600))
	deadline := time.Now().Add(10 * time.Second)
	var st unix.Stat_t
	must(w.t, unix.Lstat(filepath.Join(w.base, "tick"), &st))
	for time.Now().UnixNano() < st.Ctim.Nano()+racyMargin+int64(5e6) {
		if time.Now().After(deadline) {
			w.t.Fatal("the clock does not advance")
		}
		time.Sleep(time.Millisecond)
	}
}

func (w *world) create(label string) Info {
	w.t.Helper()
	info, err := w.repo.Create(context.Background(), CreateRequest{Label: label})
	must(w.t, err)
	return info
}

func (w *world) restore(id, path string) RestoreResult {
	w.t.Helper()
	res, err := w.repo.Restore(context.Background(), RestoreRequest{ID: id, Path: path})
	must(w.t, err)
	for name := range describe(w.t, w.ws) {
		if strings.HasPrefix(name, stagePrefix) {
			w.t.Errorf("%s was left in the workspace", name)
		}
	}
	return res
}

// describe returns everything a snapshot promises to bring back, by path.
func describe(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	groups := map[inode][]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		s := fmt.Sprintf("mode %o mtime %d", st.Mode, st.Mtim.Nano())
		switch uint32(st.Mode) & unix.S_IFMT {
		case unix.S_IFREG:
			if st.Nlink > 1 {
				k := inode{uint64(st.Dev), st.Ino}
				groups[k] = append(groups[k], rel)
			}
			if st.Mode&0o400 != 0 || os.Geteuid() == 0 {
				b, err := os.ReadFile(p)
				if err != nil {
					return err
				}
				s += fmt.Sprintf(" size %d sum %x", len(b), sha256.Sum256(b))
			}
			fd, err := unix.Open(p, openFileFlags, 0)
			if err == nil {
				s += fmt.Sprintf(" xattrs %q", readXattrs(fd))
				unix.Close(fd)
			}
		case unix.S_IFLNK:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			s += " to " + to
		}
		out[rel] = s
		return nil
	})
	must(t, err)
	for _, names := range groups {
		sort.Strings(names)
		for _, n := range names {
			out[n] += " with " + strings.Join(names, ",")
		}
	}
	return out
}

func equalTrees(t *testing.T, what string, want, got map[string]string) {
	t.Helper()
	n := 0
	for k, v := range want {
		if got[k] != v {
			if n++; n < 10 {
				t.Errorf("%s: %q\n want %s\n  got %s", what, k, v, got[k])
			}
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			if n++; n < 10 {
				t.Errorf("%s: %q should not be there", what, k)
			}
		}
	}
}

func random(n int, seed byte) []byte {
	b := make([]byte, 0, n+32)
	sum := sha256.Sum256([]byte{seed})
	for len(b) < n {
		b = append(b, sum[:]...)
		sum = sha256.Sum256(sum[:])
	}
	return bytes.Clone(b[:n])
}
