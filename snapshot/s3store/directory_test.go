package s3store

import (
	"errors"
	"testing"

	"mcp-sandbox/directory"
	"mcp-sandbox/directory/directorytest"
)

func TestDirectory(t *testing.T) {
	directorytest.Run(t, func(t *testing.T) (directory.Directory, directory.Directory) {
		srv := start(t)
		return open(t, srv, "team").Directory(), open(t, srv, "team").Directory()
	})
}

// TestOwnWriteIsNoConflict: a write whose answer was lost is repeated, and then
// refused by what it has written itself.
func TestOwnWriteIsNoConflict(t *testing.T) {
	srv := start(t)
	d := open(t, srv, "team").Directory()
	srv.lose.Store(1)
	version, err := d.PutIf(t.Context(), "k", []byte("mine"), "")
	if err != nil {
		t.Fatal(err)
	}
	srv.lose.Store(1)
	if version, err = d.PutIf(t.Context(), "k", []byte("mine too"), version); err != nil {
		t.Fatal(err)
	}
	if v, seen, err := d.Get(t.Context(), "k"); err != nil || string(v) != "mine too" || seen != version {
		t.Errorf("%q %q %v", v, seen, err)
	}
	if n := srv.puts.Load(); n != 4 {
		t.Errorf("%d uploads, want 4", n)
	}
	srv.lose.Store(1)
	if _, err := d.PutIf(t.Context(), "k", []byte("other"), "0123"); !errors.Is(err, directory.ErrConflict) {
		t.Errorf("another's: %v", err)
	}
}
