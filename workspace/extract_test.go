package workspace

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"mcp-sandbox/sandbox"
)

// tarOf makes a tar file of headers; a header of a regular file has its content
// in Uname, which is cleared.
func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		body := h.Uname
		h.Uname = ""
		h.Size = int64(len(body))
		// A global header has nothing but its records.
		if h.Typeflag != tar.TypeXGlobalHeader {
			if h.Mode == 0 {
				h.Mode = 0o644
			}
			h.ModTime = time.Unix(1_000_000_000, 0)
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func reg(name, body string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Uname: body}
}

func link(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
}

func hard(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}
}

func directory(name string, mode int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}
}

type zipFile struct {
	name, body string
	mode       fs.FileMode
	flags      uint16
}

func zipOf(t testing.TB, files ...zipFile) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Flags: f.flags}
		if f.mode != 0 {
			h.SetMode(f.mode)
		}
		fw, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		fw.Write([]byte(f.body))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compressed(t testing.TB, kind string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	switch kind {
	case "gz":
		w := gzip.NewWriter(&b)
		w.Write(data)
		w.Close()
	case "xz":
		w, err := xz.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(data)
		w.Close()
	case "zst":
		w, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(data)
		w.Close()
	case "bz2":
		c := exec.Command("bzip2", "-c")
		c.Stdin = bytes.NewReader(data)
		out, err := c.Output()
		if err != nil {
			t.Skip("bzip2 is not there: ", err)
		}
		return out
	}
	return b.Bytes()
}

func TestExtract(t *testing.T) {
	plain := tarOf(t, directory("./", 0o755), directory("d/", 0o700), reg("d/f", "hello"), tar.Header{Typeflag: tar.TypeReg, Name: "run.sh", Mode: 0o4755, Uname: "#!"},
		link("d/l", "../run.sh"), hard("h", "d/f"), reg("implicit/x/y", "y"), directory("ro", 0o555), reg("ro/f", "z"))
	want := map[string]string{
		".": "drwxr-xr-x ", "d": "drwx------ ", "d/f": "-rw-r--r-- hello", "run.sh": "-rwxr-xr-x #!", "d/l": "Lrwxrwxrwx ../run.sh",
		"h": "-rw-r--r-- hello", "implicit": "drwxr-xr-x ", "implicit/x": "drwxr-xr-x ", "implicit/x/y": "-rw-r--r-- y", "ro": "drwxr-xr-x ", "ro/f": "-rw-r--r-- z",
	}
	for _, kind := range []string{"", "gz", "xz", "zst", "bz2"} {
		t.Run("tar."+kind, func(t *testing.T) {
			data, format := plain, "tar"
			if kind != "" {
				data, format = compressed(t, kind, plain), "tar."+kind
			}
			f, dir, _ := newFS(t, Options{})
			put(t, dir, map[string]string{"a.bin": string(data)})
			res, err := f.Extract(ctx, ExtractRequest{Path: "a.bin", Destination: "new/out"})
			wantCode(t, err, "")
			got := snapshotTree(t, dir+"/new/out")
			for n, s := range want {
				if runtimeUmask != 0o022 {
					break
				}
				if got[n] != s {
					t.Errorf("%s is %q, want %q", n, got[n], s)
				}
			}
			if len(got) != len(want) {
				t.Errorf("got %v", got)
			}
			if res.Format != format || res.Files != 4 || res.Links != 2 || res.Destination != "new/out" || res.Bytes != int64(len("hello#!yz")) {
				t.Errorf("result is %+v", res)
			}
			if st, _ := os.Stat(dir + "/new/out/d/f"); st.ModTime().Unix() != 1_000_000_000 {
				t.Errorf("time is %v", st.ModTime())
			}
		})
	}
	t.Run("zip", func(t *testing.T) {
		f, dir, _ := newFS(t, Options{})
		put(t, dir, map[string]string{"a.zip": string(zipOf(t, zipFile{"d/", "", fs.ModeDir | 0o755, 0}, zipFile{"d/x.sh", "run", 0o755, 0}, zipFile{"plain", "p", 0, 0}, zipFile{"l", "d/x.sh", fs.ModeSymlink | 0o777, 0}))})
		res, err := f.Extract(ctx, ExtractRequest{Path: "a.zip", Format: "zip"})
		wantCode(t, err, "")
		if got := get(t, dir+"/l"); got != "run" || res.Format != "zip" || res.Files != 2 || res.Destination != "." {
			t.Errorf("%q %+v", got, res)
		}
		if st, _ := os.Stat(dir + "/d/x.sh"); st.Mode().Perm() != 0o755 {
			t.Errorf("mode %v", st.Mode())
		}
	})
	for _, kind := range []string{"gz", "xz", "zst", "bz2"} {
		t.Run("single "+kind, func(t *testing.T) {
			f, dir, _ := newFS(t, Options{})
			put(t, dir, map[string]string{"sub/log.txt." + kind: string(compressed(t, kind, []byte("text\n")))})
			_, err := f.Extract(ctx, ExtractRequest{Path: "sub/log.txt." + kind})
			wantCode(t, err, "")
			if got := get(t, dir+"/sub/log.txt"); got != "text\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// Existing trees are merged, files replaced, and nothing else touched.
func TestExtractMerge(t *testing.T) {
	f, dir, _ := newFS(t, Options{})
	put(t, dir, map[string]string{"a.tar": string(tarOf(t, reg("d/old", "new"), reg("d/fresh", "f"), reg("top", "t"))), "d/old": "old", "d/other": "o"})
	res, err := f.Extract(ctx, ExtractRequest{Path: "a.tar"})
	wantCode(t, err, "")
	if res.Replaced != 1 {
		t.Errorf("replaced %d", res.Replaced)
	}
	for n, s := range map[string]string{"d/old": "new", "d/fresh": "f", "d/other": "o", "top": "t"} {
		if got := get(t, filepath.Join(dir, n)); got != s {
			t.Errorf("%s holds %q", n, got)
		}
	}
}

// Every refusal leaves the workspace exactly as it was (AC-14).
func TestExtractRefuses(t *testing.T) {
	big := strings.Repeat("x", 100_000)
	many := make([]tar.Header, 0, 60)
	for i := range 60 {
		many = append(many, reg(fmt.Sprintf("m%d", i), ""))
	}
	tarCases := map[string]struct {
		h    []tar.Header
		code string
	}{
		"parent":                {[]tar.Header{reg("ok", "x"), reg("../outside/x", "x")}, codeUnsafeArchive},
		"parent inside":         {[]tar.Header{reg("a/../../x", "x")}, codeUnsafeArchive},
		"absolute":              {[]tar.Header{reg("/tmp/x", "x")}, codeUnsafeArchive},
		"backslash":             {[]tar.Header{reg("a\\..\\x", "x")}, codeUnsafeArchive},
		"drive":                 {[]tar.Header{reg("C:/x", "x")}, codeUnsafeArchive},
		"link absolute":         {[]tar.Header{reg("ok", "x"), link("l", "/etc")}, codeUnsafeArchive},
		"link out":              {[]tar.Header{link("d/l", "../../outside")}, codeUnsafeArchive},
		"link through link":     {[]tar.Header{link("a", "."), link("b", "a/..")}, codeUnsafeArchive},
		"member below link":     {[]tar.Header{link("l", "d"), reg("l/x", "x")}, codeUnsafeArchive},
		"member below file":     {[]tar.Header{reg("f", "x"), reg("f/x", "x")}, codeUnsafeArchive},
		"file over implicit":    {[]tar.Header{reg("d/x", "x"), reg("d", "x")}, codeUnsafeArchive},
		"hard link out":         {[]tar.Header{hard("h", "../outside/canary")}, codeUnsafeArchive},
		"hard link absolute":    {[]tar.Header{hard("h", "/etc/passwd")}, codeUnsafeArchive},
		"hard link to existing": {[]tar.Header{hard("h", "existing")}, codeUnsafeArchive},
		"hard link to link":     {[]tar.Header{link("l", "x"), hard("h", "l")}, codeUnsafeArchive},
		"hard link to itself":   {[]tar.Header{hard("h", "./h")}, codeUnsafeArchive},
		"device":                {[]tar.Header{{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}}, codeUnsafeArchive},
		"fifo":                  {[]tar.Header{{Typeflag: tar.TypeFifo, Name: "p"}}, codeUnsafeArchive},
		"duplicate":             {[]tar.Header{reg("x", "1"), reg("./x", "2")}, codeUnsafeArchive},
		"root is a file":        {[]tar.Header{reg(".", "x")}, codeUnsafeArchive},
		"existing link":         {[]tar.Header{reg("outlink/x", "x")}, codeUnsafeArchive},
		"existing link leaf":    {[]tar.Header{reg("outlink", "x")}, codeUnsafeArchive},
		"file over directory":   {[]tar.Header{reg("a", "x"), reg("dir", "x")}, codeExists},
		"directory over file":   {[]tar.Header{reg("a", "x"), reg("existing/x", "x")}, codeExists},
		"link over file":        {[]tar.Header{link("existing", "dir")}, codeExists},
		"protected":             {[]tar.Header{reg("a", "x"), reg(".git/hooks/pre-commit", "x")}, codeProtected},
		"protected case":        {[]tar.Header{reg(".GIT/Hooks/pre-commit", "x")}, codeProtected},
		"protected by link":     {[]tar.Header{link(".git", "a")}, codeProtected},
		"protected deep":        {[]tar.Header{reg("some/.envrc", "x")}, codeProtected},
		"too many":              {many, codeTooLarge},
		"too large":             {[]tar.Header{reg("a", "x"), reg("b", big)}, codeTooLarge},
		"long name":             {[]tar.Header{reg(strings.Repeat("n", 300), "x")}, codeUnsafeArchive},
		"deep":                  {[]tar.Header{reg(strings.Repeat("d/", 300)+"x", "x")}, codeUnsafeArchive},
	}
	cases := map[string]struct {
		data []byte
		code string
	}{
		"zip parent":    {zipOf(t, zipFile{"../x", "x", 0, 0}), codeUnsafeArchive},
		"zip absolute":  {zipOf(t, zipFile{"/x", "x", 0, 0}), codeUnsafeArchive},
		"zip backslash": {zipOf(t, zipFile{"a\\x", "x", 0, 0}), codeUnsafeArchive},
		"zip link out":  {zipOf(t, zipFile{"l", "../outside", fs.ModeSymlink | 0o777, 0}), codeUnsafeArchive},
		"zip device":    {zipOf(t, zipFile{"d", "", fs.ModeDevice | 0o600, 0}), codeUnsafeArchive},
		"zip encrypted": {zipOf(t, zipFile{"s", "x", 0, 1}), codeUnsafeArchive},
		"zip bomb":      {zipOf(t, zipFile{"z", strings.Repeat("\x00", 1<<20), 0, 0}), codeTooLarge},
		"zip cut":       {zipOf(t, zipFile{"s", big, 0, 0})[:200], codeUnsafeArchive},
		"tar cut":       {tarOf(t, reg("a", "x"), reg("b", "yyyyyyyyyyyyyyyyyyyyyyy"))[:1536], codeUnsafeArchive},
		"tar cut after": {tarOf(t, reg("a", "x"), reg("b", "yyy"))[:1024], codeUnsafeArchive},
		"tar cut zeros": {tarOf(t, reg("a", strings.Repeat("\x00", 1024)), reg("b", "yyy"))[:1536], codeUnsafeArchive},
		"tar no end":    {tarOf(t, reg("a", "x"), reg("b", "yyy"))[:2048], codeUnsafeArchive},
		"gz of cut":     {compressed(t, "gz", tarOf(t, reg("a", "x"), reg("b", "yyy"))[:1024]), codeUnsafeArchive},
		"gz cut":        {compressed(t, "gz", tarOf(t, reg("a", "x")))[:40], codeUnsafeArchive},
		"gz damaged":    {damage(compressed(t, "gz", []byte("some text"))), codeUnsafeArchive},
		"gz bomb":       {compressed(t, "gz", make([]byte, 4<<20)), codeTooLarge},
		"not archive":   {[]byte(strings.Repeat("hello ", 200)), codeUnsupported},
		"empty":         {nil, codeUnsupported},
	}
	for n, c := range tarCases {
		cases[n] = struct {
			data []byte
			code string
		}{tarOf(t, c.h...), c.code}
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			f, dir, outside := newFS(t, Options{Protect: []string{".git/hooks", "**/.envrc"}})
			put(t, dir, map[string]string{"arc": string(tc.data), "existing": "e", "dir/f": "f", "outlink": "-> " + outside})
			before := snapshotTree(t, dir)
			limits := ExtractLimits{MaxOutput: 50_000, MaxMembers: 50}
			_, err := f.Extract(ctx, ExtractRequest{Path: "arc", Limits: limits})
			wantCode(t, err, tc.code)
			if after := snapshotTree(t, dir); !reflect.DeepEqual(before, after) {
				t.Errorf("the tree changed to %v", after)
			}
			// The same into a directory that does not exist yet.
			if _, err := f.Extract(ctx, ExtractRequest{Path: "arc", Destination: "n/e/w", Limits: limits}); err != nil {
				if after := snapshotTree(t, dir); !reflect.DeepEqual(before, after) {
					t.Errorf("the tree changed to %v", after)
				}
			}
		})
	}
}

func TestExtractArguments(t *testing.T) {
	f, dir, outside := newFS(t, Options{})
	put(t, dir, map[string]string{"a.tar": string(tarOf(t, reg("x", "x"))), "f": "f", "out": "-> " + outside, "a.gz": string(compressed(t, "gz", []byte("x")))})
	for _, tc := range []struct {
		req  ExtractRequest
		code string
	}{
		{ExtractRequest{Path: "none"}, codeNotFound},
		{ExtractRequest{Path: "."}, codeIsDirectory},
		{ExtractRequest{Path: "out/canary"}, codeOutside},
		{ExtractRequest{Path: "a.tar", Destination: "../outside"}, codeOutside},
		{ExtractRequest{Path: "a.tar", Destination: "out"}, codeOutside},
		{ExtractRequest{Path: "a.tar", Destination: "out/new"}, codeOutside},
		{ExtractRequest{Path: "a.tar", Destination: "f"}, codeNotDirectory},
		{ExtractRequest{Path: "a.tar", Format: "rar"}, codeInvalid},
		{ExtractRequest{Path: "a.tar", Format: "gz"}, codeInvalid},
		{ExtractRequest{Path: "a.gz", Format: "tar"}, codeUnsupported},
		{ExtractRequest{Path: "a.tar", Format: "zip"}, codeUnsafeArchive},
		{ExtractRequest{Path: "a.tar", Limits: ExtractLimits{MaxMembers: -1}}, codeInvalid},
		{ExtractRequest{Path: "a.tar", Limits: ExtractLimits{MaxInput: 10}}, codeTooLarge},
	} {
		_, err := f.Extract(ctx, tc.req)
		wantCode(t, err, tc.code)
	}
	c, cancel := context.WithCancel(ctx)
	cancel()
	_, err := f.Extract(c, ExtractRequest{Path: "a.tar"})
	wantCode(t, err, codeCancelled)
}

// A dictionary of 1.5 GiB is refused before the library makes it.
func TestXZDictionary(t *testing.T) {
	data := compressed(t, "xz", []byte("hello"))
	if err := checkXZ(ctx, bytes.NewReader(data), int64(len(data)), maxWindow); err != nil {
		t.Fatalf("an honest file is refused: %v", err)
	}
	two := append(append([]byte(nil), data...), data...)
	if err := checkXZ(ctx, bytes.NewReader(two), int64(len(two)), maxWindow); err != nil {
		t.Fatalf("two streams are refused: %v", err)
	}
	if out, err := exec.Command("sh", "-c", "head -c 3000000 /dev/urandom | xz -9 -T2 --block-size=500000").Output(); err == nil {
		if err := checkXZ(ctx, bytes.NewReader(out), int64(len(out)), maxWindow); err != nil {
			t.Errorf("a file of many blocks is refused: %v", err)
		}
	}
	i := bytes.Index(data, []byte{0x21, 1})
	data[i+2] = 37
	if err := checkXZ(ctx, bytes.NewReader(data), int64(len(data)), maxWindow); sandbox.CodeOf(err) != codeTooLarge {
		t.Errorf("a huge dictionary: %v", err)
	}
}

// damage spoils the checksum of a gzip file.
func damage(b []byte) []byte { b[len(b)-6] ^= 0xff; return b }

// TestInputLimit: what is asked for an archive outside of the workspace only lowers
// the limit.
func TestInputLimit(t *testing.T) {
	for asked, want := range map[int64]int64{0: 1 << 30, 10: 10, 1 << 53: 1 << 30} {
		r := ExtractRequest{Limits: ExtractLimits{MaxInput: asked}}
		if got := r.InputLimit(); got != want {
			t.Errorf("%d asked: %d, want %d", asked, got, want)
		}
	}
}
