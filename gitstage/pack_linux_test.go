package gitstage

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPackIndex: the index of a pack is the one that git makes of it, and there is none
// of what is no whole pack.
func TestPackIndex(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git")
	}
	for name, c := range map[string]struct {
		hexLen        int
		format, delta string
	}{"by offset": {40, "sha1", "true"}, "by name": {40, "sha1", "false"}, "SHA-256": {64, "sha256", "true"}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			git := func(args ...string) {
				t.Helper()
				cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=u", "-c", "user.email=u@e", "-c", "repack.useDeltaBaseOffset=" + c.delta, "-c", "pack.writeReverseIndex=false"}, args...)...)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("git %v: %v %s", args, err, out)
				}
			}
			git("init", "-q", "--object-format="+c.format)
			var text strings.Builder
			for i := range 5 {
				for j := range 200 {
					fmt.Fprintf(&text, "line %d of %d\n", j*(i+7), i)
				}
				if err := os.WriteFile(filepath.Join(dir, "a"), []byte(text.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				git("add", "a")
				git("commit", "-q", "-m", fmt.Sprint(i))
			}
			git("tag", "-a", "-m", "t", "v1")
			git("repack", "-q", "-a", "-d", "-f")
			packs, _ := filepath.Glob(filepath.Join(dir, ".git/objects/pack/*.pack"))
			if len(packs) != 1 {
				t.Fatalf("packs: %v", packs)
			}
			want, err := os.ReadFile(strings.TrimSuffix(packs[0], ".pack") + ".idx")
			if err != nil {
				t.Fatal(err)
			}
			pack, err := os.ReadFile(packs[0])
			if err != nil {
				t.Fatal(err)
			}
			index := func(b []byte) ([]byte, error) {
				name := filepath.Join(dir, "x.pack")
				if err := os.WriteFile(name, b, 0o644); err != nil {
					t.Fatal(err)
				}
				f, err := os.Open(name)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				return packIndex(f, c.hexLen)
			}
			if got, err := index(pack); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("another index than git's: %v, %d and %d bytes", err, len(got), len(want))
			}
			for n := 0; n < len(pack); n += 1 + len(pack)/50 {
				if _, err := index(pack[:n]); err == nil {
					t.Errorf("%d bytes of %d are a pack", n, len(pack))
				}
				bad := bytes.Clone(pack)
				bad[n] ^= 0x41
				if got, err := index(bad); err == nil && n < len(pack)-c.hexLen/2 && bytes.Equal(got, want) {
					t.Errorf("with another byte %d the index is the same", n)
				}
			}
		})
	}
}
