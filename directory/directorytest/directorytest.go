// Package directorytest is the contract of a directory.Directory, as tests.
package directorytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"mcp-sandbox/directory"
)

// Run checks what open makes; each call must give an empty directory twice, as two
// servers see it.
func Run(t *testing.T, open func(t *testing.T) (a, b directory.Directory)) {
	for name, test := range map[string]func(*testing.T, directory.Directory, directory.Directory){
		"Values": values, "Conflicts": conflicts, "List": list, "Keys": keys, "Counter": counter, "Cancelled": cancelled, "Check": check,
	} {
		t.Run(name, func(t *testing.T) {
			a, b := open(t)
			test(t, a, b)
		})
	}
}

var bg = context.Background()

func put(t *testing.T, d directory.Directory, key, value, version string) string {
	t.Helper()
	next, err := d.PutIf(bg, key, []byte(value), version)
	if err != nil || next == "" {
		t.Fatalf("%s: %q %v", key, next, err)
	}
	return next
}

func values(t *testing.T, a, b directory.Directory) {
	if _, _, err := a.Get(bg, "saved/x.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing entry: %v", err)
	}
	if err := a.Delete(bg, "saved/x.json"); err != nil {
		t.Errorf("deleting a missing entry: %v", err)
	}
	long := strings.Repeat("long ", 100_000)
	version := ""
	for _, v := range []string{"one", "two", long, "one"} {
		version = put(t, a, "saved/x.json", v, version)
		for _, d := range []directory.Directory{a, b} {
			got, seen, err := d.Get(bg, "saved/x.json")
			if err != nil || string(got) != v || seen != version {
				t.Fatalf("%.20q of %d bytes, version %q, %v, want %.20q, version %q", got, len(got), seen, err, v, version)
			}
		}
	}
	if err := b.Delete(bg, "saved/x.json"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Get(bg, "saved/x.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Delete: %v", err)
	}
	put(t, b, "saved/x.json", "again", "")
	if _, err := a.PutIf(bg, "big", bytes.Repeat([]byte("x"), directory.MaxValue+1), ""); err == nil {
		t.Error("a value over the limit was taken")
	}
}

func conflicts(t *testing.T, a, b directory.Directory) {
	conflict := func(d directory.Directory, key, version string) {
		t.Helper()
		if next, err := d.PutIf(bg, key, []byte("no"), version); !errors.Is(err, directory.ErrConflict) || next != "" {
			t.Errorf("%s with version %q: %q %v", key, version, next, err)
		}
	}
	first := put(t, a, "k", "1", "")
	conflict(b, "k", "")
	second := put(t, b, "k", "2", first)
	conflict(a, "k", first)
	conflict(a, "other", second)
	if v, _, err := a.Get(bg, "k"); err != nil || string(v) != "2" {
		t.Errorf("%q %v", v, err)
	}
	if _, _, err := a.Get(bg, "other"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused write made an entry: %v", err)
	}
	if err := b.Delete(bg, "k"); err != nil {
		t.Fatal(err)
	}
	conflict(a, "k", second)
}

func list(t *testing.T, a, b directory.Directory) {
	began := time.Now().Add(-time.Hour)
	if l, err := a.List(bg, "saved/"); err != nil || len(l) != 0 {
		t.Errorf("an empty directory: %v %v", l, err)
	}
	for _, k := range []string{"saved/b-2.json", "saved/b-1.json", "saved/a.gone", "servers/b-3", "instance"} {
		put(t, a, k, k, "")
	}
	for prefix, want := range map[string]string{
		"saved/": "saved/a.gone saved/b-1.json saved/b-2.json", "saved/b-": "saved/b-1.json saved/b-2.json", "servers/": "servers/b-3", "none/": "", "saved/c": "",
	} {
		l, err := b.List(bg, prefix)
		var got []string
		for _, e := range l {
			got = append(got, e.Key)
			if e.Modified.Before(began) || e.Modified.After(time.Now().Add(time.Hour)) {
				t.Errorf("%s was written at %v", e.Key, e.Modified)
			}
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v %v, want %s", prefix, got, err, want)
		}
	}
}

// keys: names come from clients in part.
func keys(t *testing.T, a, _ directory.Directory) {
	for _, k := range []string{"", "/abs", "../out", "a/../b", "a//b", ".hidden", "a/.b", "a b", "a\x00", "é", strings.Repeat("x", 257)} {
		if _, err := a.PutIf(bg, k, nil, ""); err == nil {
			t.Errorf("PutIf took the key %q", k)
		}
		if _, _, err := a.Get(bg, k); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get took the key %q: %v", k, err)
		}
		if err := a.Delete(bg, k); err == nil {
			t.Errorf("Delete took the key %q", k)
		}
	}
}

// counter: no increment is lost between two servers with several writers each.
func counter(t *testing.T, a, b directory.Directory) {
	const writers, each = 3, 8
	put(t, a, "n", "0", "")
	var wg sync.WaitGroup
	for i := range 2 * writers {
		d := []directory.Directory{a, b}[i%2]
		wg.Go(func() {
			for done := 0; done < each; {
				v, version, err := d.Get(bg, "n")
				n := 0
				if _, e := fmt.Sscan(string(v), &n); err != nil || e != nil {
					t.Errorf("%q %v %v", v, err, e)
					return
				}
				_, err = d.PutIf(bg, "n", fmt.Append(nil, n+1), version)
				switch {
				case err == nil:
					done++
				case !errors.Is(err, directory.ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if v, _, err := b.Get(bg, "n"); err != nil || string(v) != fmt.Sprint(2*writers*each) {
		t.Errorf("%q %v", v, err)
	}
}

func cancelled(t *testing.T, a, _ directory.Directory) {
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if _, err := a.PutIf(ctx, "k", []byte("v"), ""); !errors.Is(err, context.Canceled) {
		t.Errorf("PutIf: %v", err)
	}
	if _, _, err := a.Get(ctx, "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	if _, err := a.List(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("List: %v", err)
	}
}

func check(t *testing.T, a, b directory.Directory) {
	if err := directory.Check(bg, a); err != nil {
		t.Error(err)
	}
	if l, err := b.List(bg, ""); err != nil || len(l) != 0 {
		t.Errorf("Check left %v %v", l, err)
	}
}
