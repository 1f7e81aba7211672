package gitstage

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestObjectsWithoutRenameFlags: objects reach a file system that takes no flags for
// renames, and one that cannot be put there is an error, so that no ref follows.
func TestObjectsWithoutRenameFlags(t *testing.T) {
	defer func() { renameat2 = unix.Renameat2 }()
	body := []byte("blob 1\x00a")
	sum := sha1.Sum(body)
	name := hex.EncodeToString(sum[:])
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	z.Write(body)
	z.Close()
	at := "objects/" + name[:2] + "/" + name[2:]
	for _, c := range []struct {
		errno unix.Errno
		want  int
	}{{0, 1}, {unix.EINVAL, 1}, {unix.ENOSYS, 1}, {unix.EIO, 0}} {
		renameat2 = func(fromDir int, from string, toDir int, to string, flags uint) error {
			if c.errno != 0 {
				return c.errno
			}
			return unix.Renameat2(fromDir, from, toDir, to, flags)
		}
		var sides [2]tree
		var dirs [2]string
		for i := range sides {
			dirs[i] = t.TempDir()
			fd, err := unix.Open(dirs[i], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			sides[i] = tree{fd}
		}
		file := filepath.Join(dirs[0], at)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, packed.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
		n, err := publishObjects(objectTree{sides[0], "objects"}, sides[1], map[string]sig{}, map[string]bool{})
		got, rerr := os.ReadFile(filepath.Join(dirs[1], at))
		if n != c.want || (err == nil) != (c.want == 1) || c.want == 1 && (rerr != nil || !bytes.Equal(got, packed.Bytes())) {
			t.Errorf("%v: published %d, %v; %v", c.errno, n, err, rerr)
		}
		left, _ := filepath.Glob(filepath.Join(dirs[1], "objects/*/tmp_obj*"))
		if len(left) > 0 {
			t.Errorf("%v: left %q", c.errno, left)
		}
		// One that is there is no failure.
		if c.want == 1 {
			if err := sides[1].create(at, 0o444, false, func(w io.Writer) error { return nil }); err != unix.EEXIST {
				t.Errorf("%v: again: %v", c.errno, err)
			}
		}
	}
}
