// Package storetest is the contract of a snapshot.Store, as tests. A store
// that passes [Run] keeps snapshots as promised.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"mcp-sandbox/snapshot"
)

// Run checks the store that open makes; each call must give an empty one. The
// stores' own resources are freed by t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) snapshot.Store) {
	t.Run("PutGet", func(t *testing.T) { putGet(t, open(t)) })
	t.Run("Missing", func(t *testing.T) { missing(t, open(t)) })
	t.Run("Keys", func(t *testing.T) { keys(t, open(t)) })
	t.Run("List", func(t *testing.T) { list(t, open(t)) })
	t.Run("FailedPut", func(t *testing.T) { failedPut(t, open(t)) })
	t.Run("Cancelled", func(t *testing.T) { cancelled(t, open(t)) })
	t.Run("Concurrent", func(t *testing.T) { concurrent(t, open(t)) })
	t.Run("Snapshots", func(t *testing.T) { snapshots(t, open(t)) })
}

var bg = context.Background()

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, s snapshot.Store, key string, b []byte) {
	t.Helper()
	must(t, s.Put(bg, key, bytes.NewReader(b), int64(len(b))))
}

func get(s snapshot.Store, key string, off, n int64) ([]byte, error) {
	r, err := s.Get(bg, key, off, n)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return b, err
}

func putGet(t *testing.T, s snapshot.Store) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 9<<20/16) // more than one pack
	for _, c := range []struct {
		key  string
		body []byte
	}{{"packs/small", []byte("hello")}, {"packs/big", big}} {
		put(t, s, c.key, c.body)
		for _, r := range [][2]int64{{0, -1}, {0, 3}, {1, 2}, {2, -1}, {3, 1 << 30}, {int64(len(c.body)) - 1, 5}} {
			off, n := r[0], r[1]
			want := c.body[off:]
			if n >= 0 {
				want = want[:min(n, int64(len(want)))]
			}
			got, err := get(s, c.key, off, n)
			must(t, err)
			if !bytes.Equal(got, want) {
				t.Errorf("%s [%d,%d): %d bytes, want %d", c.key, off, n, len(got), len(want))
			}
		}
		ok, err := s.Has(bg, c.key)
		must(t, err)
		if !ok {
			t.Errorf("%s is not there", c.key)
		}
	}
	put(t, s, "packs/small", []byte("replaced"))
	got, err := get(s, "packs/small", 0, -1)
	must(t, err)
	if string(got) != "replaced" {
		t.Errorf("a second Put: %q", got)
	}
	must(t, s.Delete(bg, "packs/small"))
	if ok, err := s.Has(bg, "packs/small"); ok || err != nil {
		t.Errorf("after Delete: %v %v", ok, err)
	}
}

func missing(t *testing.T, s snapshot.Store) {
	if _, err := get(s, "packs/none", 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get of a missing object: %v", err)
	}
	if _, err := get(s, "packs/none", 5, 5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ranged Get of a missing object: %v", err)
	}
	ok, err := s.Has(bg, "packs/none")
	if ok || err != nil {
		t.Errorf("Has of a missing object: %v %v", ok, err)
	}
	must(t, s.Delete(bg, "packs/none"))
	l, err := s.List(bg, "packs/")
	if len(l) != 0 || err != nil {
		t.Errorf("List of nothing: %v %v", l, err)
	}
}

// keys: whatever reaches a store from crafted data must not leave it (AC-14).
func keys(t *testing.T, s snapshot.Store) {
	for _, k := range []string{"", "/abs", "../out", "packs/../../out", "packs//x", "packs/.", ".hidden", "packs/\x00", "PACKS/x", "packs/a b"} {
		if err := s.Put(bg, k, bytes.NewReader(nil), 0); err == nil {
			t.Errorf("Put took the key %q", k)
		}
		if _, err := get(s, k, 0, -1); err == nil {
			t.Errorf("Get took the key %q", k)
		}
	}
}

func list(t *testing.T, s snapshot.Store) {
	start := time.Now().Add(-time.Hour)
	for i := 1100; i >= 0; i -= 100 { // not in order
		put(t, s, fmt.Sprintf("index/%05d", i), make([]byte, i+1))
	}
	put(t, s, "snapshots/x", []byte("1"))
	put(t, s, "indexes", []byte("1"))
	l, err := s.List(bg, "index/")
	must(t, err)
	if len(l) != 12 {
		t.Fatalf("%d objects listed, want 12: %v", len(l), l)
	}
	for i, o := range l {
		if o.Key != fmt.Sprintf("index/%05d", i*100) || o.Size != int64(i*100+1) {
			t.Errorf("object %d: %+v", i, o)
		}
		if o.Time.Before(start) || o.Time.After(time.Now().Add(time.Hour)) {
			t.Errorf("object %d was stored at %v", i, o.Time)
		}
	}
	l, err = s.List(bg, "index/001")
	must(t, err)
	if len(l) != 1 {
		t.Errorf("prefix within a name: %v", l)
	}
}

// failing has no WriteTo, unlike what it wraps.
type failing struct{ r *bytes.Reader }

func (f failing) Seek(off int64, whence int) (int64, error) { return f.r.Seek(off, whence) }

func (f failing) Read(b []byte) (int, error) {
	n, err := f.r.Read(b[:min(len(b), 1000)])
	if f.r.Len() < 5000 {
		return n, errors.New("the source broke")
	}
	return n, err
}

// failedPut: nothing half is ever visible.
func failedPut(t *testing.T, s snapshot.Store) {
	put(t, s, "packs/old", []byte("old"))
	for _, key := range []string{"packs/new", "packs/old"} {
		src := failing{bytes.NewReader(make([]byte, 100_000))}
		if err := s.Put(bg, key, src, 100_000); err == nil {
			t.Errorf("Put of a broken source to %s succeeded", key)
		}
	}
	if err := s.Put(bg, "packs/short", bytes.NewReader(make([]byte, 10)), 20); err == nil {
		t.Error("Put of fewer bytes than said succeeded")
	}
	l, err := s.List(bg, "packs/")
	must(t, err)
	if len(l) != 1 || l[0].Size != 3 {
		t.Errorf("after failed Puts: %v", l)
	}
}

func cancelled(t *testing.T, s snapshot.Store) {
	put(t, s, "packs/x", []byte("x"))
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if err := s.Put(ctx, "packs/y", bytes.NewReader([]byte("y")), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Put: %v", err)
	}
	if r, err := s.Get(ctx, "packs/x", 0, -1); err == nil {
		_, err = io.ReadAll(r)
		r.Close()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Get: %v", err)
		}
	}
	if ok, _ := s.Has(bg, "packs/y"); ok {
		t.Error("a cancelled Put left an object")
	}
}

func concurrent(t *testing.T, s snapshot.Store) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := range 5 {
				b := bytes.Repeat([]byte{byte(i)}, 1000)
				if err := s.Put(bg, fmt.Sprintf("packs/k%d", j), bytes.NewReader(b), 1000); err != nil {
					t.Error(err)
				}
				got, err := get(s, fmt.Sprintf("packs/k%d", j), 0, -1)
				if err != nil || len(got) != 1000 || bytes.Count(got, got[:1]) != 1000 {
					t.Errorf("a torn object: %d bytes, %v", len(got), err)
				}
			}
		}()
	}
	wg.Wait()
}

// snapshots: the whole way through the store.
func snapshots(t *testing.T, s snapshot.Store) {
	ws := t.TempDir()
	write := func(name, content string) {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(ws, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(ws, name), []byte(content), 0o644))
	}
	for i := range 300 {
		write(fmt.Sprintf("d%d/f%d", i%7, i), fmt.Sprint("file ", i))
	}
	r, err := snapshot.New(s, snapshot.Options{Root: ws})
	must(t, err)
	defer r.Close()
	first, err := r.Create(bg, snapshot.CreateRequest{Label: "first"})
	must(t, err)
	for i := 0; i < 300; i += 3 {
		write(fmt.Sprintf("d%d/f%d", i%7, i), fmt.Sprint("changed ", i))
	}
	must(t, os.RemoveAll(filepath.Join(ws, "d3")))
	second, err := r.Create(bg, snapshot.CreateRequest{Label: "second"})
	must(t, err)
	must(t, r.Delete(bg, second.ID))
	_, err = r.Prune(bg)
	must(t, err)
	// Another process, with nothing in memory.
	r2, err := snapshot.New(s, snapshot.Options{Root: ws})
	must(t, err)
	defer r2.Close()
	res, err := r2.Restore(bg, snapshot.RestoreRequest{ID: first.ID})
	must(t, err)
	if res.Added == 0 || res.Changed == 0 {
		t.Errorf("restore: %+v", res)
	}
	for i := range 300 {
		b, err := os.ReadFile(filepath.Join(ws, fmt.Sprintf("d%d/f%d", i%7, i)))
		if err != nil || string(b) != fmt.Sprint("file ", i) {
			t.Fatalf("file %d: %q %v", i, b, err)
		}
	}
	c, err := r2.Check(bg, first.ID)
	must(t, err)
	if c.DamagedCount != 0 || c.Files != 300 {
		t.Errorf("check: %+v", c)
	}
	l, err := r2.List(bg)
	must(t, err)
	if len(l) != 2 || l[0].Label != "first" || !l[1].Auto {
		t.Errorf("list: %+v", l)
	}
}
