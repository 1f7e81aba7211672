package snapshot

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

func tarOf(t *testing.T, members ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range members {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len("content"))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		must(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := w.Write([]byte("content"))
			must(t, err)
		}
	}
	must(t, w.Close())
	return b.Bytes()
}

// AC-14: members that would escape, and all the reference refuses.
func TestArchiveRefusals(t *testing.T) {
	w := newWorld(t, Options{})
	w.write("mine", "untouched")
	must(t, os.Symlink(filepath.Join(w.base, "outside"), w.path("out")))
	want := describe(t, w.ws)
	dir := func(n string) tar.Header { return tar.Header{Name: n, Typeflag: tar.TypeDir, Mode: 0o755} }
	link := func(n, to string) tar.Header { return tar.Header{Name: n, Typeflag: tar.TypeSymlink, Linkname: to} }
	hard := func(n, to string) tar.Header { return tar.Header{Name: n, Typeflag: tar.TypeLink, Linkname: to} }
	file := func(n string) tar.Header { return tar.Header{Name: n} }
	cases := []struct {
		name    string
		members []tar.Header
		trusted bool // refused even then
	}{
		{"dot dot", []tar.Header{file("../x")}, true},
		{"inner dot dot", []tar.Header{file("a/../../x")}, true},
		{"absolute", []tar.Header{file("/etc/x")}, true},
		{"backslash", []tar.Header{file(`a\..\x`)}, false},
		{"drive", []tar.Header{file("C:x")}, false},
		{"absolute link", []tar.Header{link("l", "/etc/passwd")}, false},
		{"link out", []tar.Header{dir("d"), link("d/l", "../../x")}, false},
		{"empty link", []tar.Header{link("l", "")}, true},
		{"link then file", []tar.Header{link("l", "d"), file("l/x")}, true},
		{"file then link below", []tar.Header{file("l/x"), link("l", "d")}, true},
		{"file below file", []tar.Header{file("f"), file("f/x")}, true},
		{"hard link out", []tar.Header{hard("h", "../outside/secret")}, true},
		{"hard link absolute", []tar.Header{hard("h", "/etc/passwd")}, true},
		{"hard link to nothing", []tar.Header{hard("h", "later"), file("later")}, true},
		{"hard link to link", []tar.Header{link("l", "x"), hard("h", "l")}, true},
		{"fifo", []tar.Header{{Name: "p", Typeflag: tar.TypeFifo}}, true},
		{"device", []tar.Header{{Name: "p", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}}, true},
		{"block device", []tar.Header{{Name: "p", Typeflag: tar.TypeBlock, Devmajor: 8}}, true},
		{"twice", []tar.Header{file("f"), file("./f")}, true},
		{"file as directory", []tar.Header{dir("f"), file("f")}, true},
		{"root is a link", []tar.Header{link(".", "x")}, true},
		{"long name", []tar.Header{file(strings.Repeat("n", 300))}, true},
	}
	for _, c := range cases {
		for _, trusted := range []bool{false, true} {
			if trusted && !c.trusted {
				continue
			}
			_, err := w.repo.Hydrate(bg, bytes.NewReader(tarOf(t, append([]tar.Header{file("ok/first")}, c.members...)...)), ImportRequest{Trusted: trusted})
			if got := code(t, err); got != codeUnsafe {
				t.Errorf("%s (trusted %v): code %q, %v", c.name, trusted, got, err)
			}
			equalTrees(t, c.name, want, describe(t, w.ws))
		}
	}
	if l, err := w.repo.List(bg); err != nil || len(l) != 0 {
		t.Errorf("a refused archive left snapshots: %v %v", l, err)
	}
	for _, bad := range [][]byte{[]byte("not an archive at all, surely"), tarOf(t, file("a"))[:300], {0x1f, 0x8b, 1}} {
		_, err := w.repo.Import(bg, bytes.NewReader(bad), ImportRequest{})
		if got := code(t, err); got != codeUnsafe {
			t.Errorf("a broken archive: code %q", got)
		}
	}
}

func TestArchiveLimits(t *testing.T) {
	var zeros bytes.Buffer
	z := gzip.NewWriter(&zeros)
	tw := tar.NewWriter(z)
	must(t, tw.WriteHeader(&tar.Header{Name: "bomb", Typeflag: tar.TypeReg, Size: 64 << 20}))
	_, err := io.CopyN(tw, zeroReader{}, 64<<20)
	must(t, err)
	must(t, tw.Close())
	must(t, z.Close())
	many := tarOf(t, tar.Header{Name: "1"}, tar.Header{Name: "2"}, tar.Header{Name: "3"})
	for _, c := range []struct {
		name string
		l    limits
		b    []byte
		want string
	}{
		{"bytes", limits{bytes: 10 << 20}, zeros.Bytes(), codeUnsafe},
		{"members", limits{members: 2}, many, codeUnsafe},
		{"input", limits{input: 100}, many, codeUnsafe},
		{"exactly", limits{members: 3, bytes: 21, input: int64(len(many))}, many, ""},
		{"none", limits{members: -1, bytes: -1, input: -1}, zeros.Bytes(), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, Options{limits: c.l})
			_, err := w.repo.Import(bg, bytes.NewReader(c.b), ImportRequest{})
			if got := code(t, err); got != c.want {
				t.Errorf("code %q, want %q: %v", got, c.want, err)
			}
		})
	}
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// What Persist writes, Hydrate and GNU tar bring back exactly.
func TestPersistHydrate(t *testing.T) {
	w := newWorld(t, Options{})
	w.fill()
	want := describe(t, w.ws)
	info := w.create("")
	for _, format := range []Format{Tar, TarZst} {
		var b bytes.Buffer
		must(t, w.repo.Persist(bg, info.ID, &b, format))
		v := newWorld(t, Options{})
		_, err := v.repo.Hydrate(bg, bytes.NewReader(b.Bytes()), ImportRequest{})
		if got := code(t, err); got != codeUnsafe {
			t.Errorf("an untrusted archive with absolute links: %q", got)
		}
		got, err := v.repo.Import(bg, bytes.NewReader(b.Bytes()), ImportRequest{Trusted: true, Label: "in"})
		must(t, err)
		v.restore(got.ID, "")
		equalTrees(t, string(format), want, describe(t, v.ws))
		if format == Tar {
			dst := filepath.Join(v.base, "tar")
			must(t, os.Mkdir(dst, 0o755))
			cmd := exec.Command("tar", "xpf", "-", "-C", dst)
			if os.Getenv("PATH") == "" {
				t.Skip("no PATH")
			}
			cmd.Stdin = bytes.NewReader(b.Bytes())
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("tar: %v: %s", err, out)
			}
			a, z := describe(t, dst), want
			for k := range z {
				// tar drops attributes unless asked; all else must agree.
				if strings.Contains(z[k], "xattrs") {
					z[k], a[k] = cutXattrs(z[k]), cutXattrs(a[k])
				}
			}
			equalTrees(t, "GNU tar", z, a)
			want = describe(t, w.ws)
		}
	}
}

func cutXattrs(s string) string {
	if i := strings.Index(s, " xattrs ["); i >= 0 {
		return s[:i] + s[i+strings.IndexByte(s[i:], ']')+1:]
	}
	return s
}

// Hydrate goes over what is there and removes nothing.
func TestHydrateMerges(t *testing.T) {
	w := newWorld(t, Options{})
	w.write("mine", "mine")
	w.write("d/both", "old")
	must(t, os.Chmod(w.path("d"), 0o711))
	must(t, os.Symlink(filepath.Join(w.base, "outside"), w.path("out")))
	plain := tarOf(t, tar.Header{Name: "d/both"}, tar.Header{Name: "out/secret"}, tar.Header{Name: "suid", Mode: 0o6755})
	var gz, xzb, zs bytes.Buffer
	g := gzip.NewWriter(&gz)
	g.Write(plain)
	g.Close()
	x, err := xz.NewWriter(&xzb)
	must(t, err)
	x.Write(plain)
	x.Close()
	z, err := zstd.NewWriter(&zs)
	must(t, err)
	z.Write(plain)
	z.Close()
	for i, b := range [][]byte{plain, gz.Bytes(), xzb.Bytes(), zs.Bytes()} {
		res, err := w.repo.Hydrate(bg, bytes.NewReader(b), ImportRequest{Label: fmt.Sprint(i)})
		must(t, err)
		if i == 0 && (res.Added != 2 || res.Changed != 2 || res.Removed != 0) {
			t.Errorf("result: %+v", res)
		}
		for name, want := range map[string]string{"mine": "mine", "d/both": "content", "out/secret": "content"} {
			if b, err := os.ReadFile(w.path(name)); err != nil || string(b) != want {
				t.Errorf("%s: %q %v", name, b, err)
			}
		}
		fi, err := os.Stat(w.path("suid"))
		must(t, err)
		if fi.Mode() != 0o755 {
			t.Errorf("suid: %v", fi.Mode())
		}
		if fi, _ := os.Stat(w.path("d")); fi.Mode().Perm() != 0o711 {
			t.Errorf("the directory's mode became %v", fi.Mode())
		}
	}
}

// TestHydrateCut: an archive that ends between two members is not a smaller one.
func TestHydrateCut(t *testing.T) {
	w := newWorld(t, Options{})
	w.write("mine", "mine")
	whole := tarOf(t, tar.Header{Name: "a"}, tar.Header{Name: "b"}, tar.Header{Name: strings.Repeat("long/", 50) + "c"})
	for cut := 512; cut < len(whole); cut += 512 {
		_, err := w.repo.Hydrate(bg, bytes.NewReader(whole[:cut]), ImportRequest{})
		// The first of two blocks of zeros is an end as well.
		if cut < len(whole)-512 && err == nil {
			t.Errorf("%d of %d bytes were taken", cut, len(whole))
		}
	}
	if _, err := w.repo.Hydrate(bg, bytes.NewReader(whole), ImportRequest{}); err != nil {
		t.Error(err)
	}
}
