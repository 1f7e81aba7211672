package snapshot

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mcp-sandbox/sandbox"
)

// FuzzHydrate: whatever the archive, what lies beside the workspace stays, no
// link in the workspace leads out of it, nothing but files, directories and links
// comes to be, and a refusal has changed nothing.
func FuzzHydrate(f *testing.F) {
	member := func(hs ...tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range hs {
			if h.Typeflag == 0 {
				h.Typeflag, h.Size = tar.TypeReg, 1
			}
			h.Mode |= 0o600
			if w.WriteHeader(&h) == nil && h.Size > 0 {
				_, _ = w.Write([]byte("x"))
			}
		}
		_ = w.Close()
		return b.Bytes()
	}
	f.Add(member(tar.Header{Name: "a/b"}, tar.Header{Name: "a/c", Typeflag: tar.TypeLink, Linkname: "a/b"}))
	f.Add(member(tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "a"}, tar.Header{Name: "l/x"}))
	f.Add(member(tar.Header{Name: "../outside"}))
	f.Add(member(tar.Header{Name: "p", Typeflag: tar.TypeFifo}))
	f.Add(member(tar.Header{Name: "d", Typeflag: tar.TypeDir, Mode: 0o4777}, tar.Header{Name: "mine"}))
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Add([]byte("\xfd7zXZ\x00"))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0})
	f.Fuzz(func(t *testing.T, archive []byte) {
		if len(archive) > 1<<16 {
			t.Skip("long inputs only take time")
		}
		base := fastDir(t)
		ws := filepath.Join(base, "ws")
		must(t, os.Mkdir(ws, 0o755))
		must(t, os.WriteFile(filepath.Join(base, "outside"), []byte("kept"), 0o644))
		must(t, os.WriteFile(filepath.Join(ws, "mine"), []byte("mine"), 0o644))
		store, err := NewLocalStore(filepath.Join(base, "store"))
		must(t, err)
		r, err := New(store, Options{Root: ws, limits: limits{input: 1 << 20, bytes: 1 << 20, members: 200}})
		must(t, err)
		defer func() { must(t, r.Close()); unlock(base) }()
		before := describe(t, ws)
		_, err = r.Hydrate(bg, bytes.NewReader(archive), ImportRequest{})
		if err != nil {
			var e *sandbox.Error
			if !errors.As(err, &e) || e.Code() == "" {
				t.Fatalf("an error without a code: %v", err)
			}
			equalTrees(t, "after a refusal", before, describe(t, ws))
		}
		if b, err := os.ReadFile(filepath.Join(base, "outside")); err != nil || string(b) != "kept" {
			t.Fatalf("outside: %q, %v", b, err)
		}
		beside, err := os.ReadDir(base)
		must(t, err)
		for _, e := range beside {
			if n := e.Name(); n != "ws" && n != "store" && n != "outside" {
				t.Fatalf("%s came to be beside the workspace", n)
			}
		}
		must(t, filepath.WalkDir(ws, func(path string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			switch d.Type() {
			case 0, os.ModeDir:
			case os.ModeSymlink:
				to, err := os.Readlink(path)
				must(t, err)
				rel, err := filepath.Rel(ws, filepath.Join(filepath.Dir(path), to))
				if filepath.IsAbs(to) || err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
					t.Fatalf("%s leads to %s", path, to)
				}
			default:
				t.Fatalf("%s is %v", path, d.Type())
			}
			if fi, err := d.Info(); err == nil && fi.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
				t.Fatalf("%s has the mode %v", path, fi.Mode())
			}
			return nil
		}))
	})
}

// fastDir is in memory where that can be had: a store and a restore wait for
// the disk several times, which would leave a handful of tries a second.
func fastDir(t *testing.T) string {
	if dir, err := os.MkdirTemp("/dev/shm", "mcp-sandbox-fuzz-"); err == nil {
		t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
		return dir
	}
	return t.TempDir()
}

// FuzzIndex: what is taken of an index is possible, and says the same when it is
// written again.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(indexMagic + "\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add(encodeIndex([]located{{id: chunkID{1}, place: place{pack: packID{2}, off: 3, size: 4, raw: 5}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		x := newIndex()
		if err := decodeIndex(b, x); err != nil {
			return
		}
		rows := uint64(0)
		if n := len(indexMagic) + 4; len(b) >= n {
			packs := uint64(b[n-4]) | uint64(b[n-3])<<8 | uint64(b[n-2])<<16 | uint64(b[n-1])<<24
			rows = (uint64(len(b)) - uint64(n) - 32*packs - 4) / indexRowSize
			for i := range rows {
				at := n + 32*int(packs) + 4 + int(i)*indexRowSize
				p, ok := x.find(chunkID(b[at : at+32]))
				if !ok || p.raw > maxChunk || p.size == 0 || p.size > maxStored {
					t.Fatalf("row %d became %+v, %v", i, p, ok)
				}
			}
		}
	})
}

// FuzzRecord: only a record with its checksum and its own ID is taken, and its
// chunks are possible.
func FuzzRecord(f *testing.F) {
	id := newID(time.Unix(1_700_000_000, 0), "")
	good := &record{Version: recordVersion, Info: Info{ID: id}}
	b, err := good.encode()
	if err != nil {
		f.Fatal(err)
	}
	_, body, _ := bytes.Cut(b, []byte("\n"))
	f.Add(body)
	f.Add([]byte(`{"version":1,"manifest":[{"id":"00","pack":"00"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := decodeRecord(append([]byte(strings.Repeat("0", 64)+"\n"), body...), id, false); err == nil {
			t.Fatal("a record with a wrong checksum was taken")
		}
		sum := sha256.Sum256(body)
		rec, err := decodeRecord(append([]byte(hex.EncodeToString(sum[:])+"\n"), body...), id, false)
		if err != nil {
			return
		}
		if rec.Info.ID != id || rec.Version != recordVersion {
			t.Fatalf("%q became %+v", body, rec)
		}
		pieces, places, err := rec.chunks()
		if err != nil {
			return
		}
		for i := range pieces {
			if places[i].raw == 0 || places[i].raw > maxChunk || places[i].size == 0 || places[i].size > maxStored {
				t.Fatalf("an impossible chunk: %+v", places[i])
			}
		}
	})
}
