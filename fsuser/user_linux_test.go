package fsuser

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestEnter: within, a thread may read what the user may and nothing else, what it
// makes is the user's, and afterwards it is the server's again.
func TestEnter(t *testing.T) {
	if os.Geteuid() != 0 {
		if u, err := New(4, 4); u != nil || err != nil {
			t.Errorf("an ordinary server acts as %v, %v", u, err)
		}
		return
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && len(d) > 1; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, uid := range []int{0, 4321, 4322} {
		name := filepath.Join(dir, strconv.Itoa(uid))
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Chown(name, uid, uid)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := New(-1, 0); err == nil {
		t.Error("nobody's rights are taken")
	}
	for _, uid := range []int{0, 4321} {
		u, err := New(uid, uid)
		if err != nil {
			t.Fatal(err)
		}
		leave, err := u.Enter()
		if err != nil {
			t.Fatal(err)
		}
		got := map[int]error{}
		for _, other := range []int{0, 4321, 4322} {
			f, err := os.Open(filepath.Join(dir, strconv.Itoa(other)))
			if got[other] = err; err == nil {
				f.Close()
			}
		}
		made := filepath.Join(dir, "made"+strconv.Itoa(uid))
		err = os.WriteFile(made, nil, 0o600)
		leave()
		for other, err := range got {
			if other == uid && err != nil || other != uid && !errors.Is(err, fs.ErrPermission) {
				t.Errorf("user %d opens the file of %d: %v", uid, other, err)
			}
		}
		var st unix.Stat_t
		if err := errors.Join(err, unix.Stat(made, &st)); err != nil || int(st.Uid) != uid || int(st.Gid) != uid {
			t.Errorf("what %d makes is %d:%d, %v", uid, st.Uid, st.Gid, err)
		}
		f, err := os.Open(filepath.Join(dir, "4322"))
		if err != nil {
			t.Fatalf("after %d the thread is not root's: %v", uid, err)
		}
		f.Close()
	}
	if leave, err := (*User)(nil).Enter(); err != nil {
		t.Error(err)
	} else {
		leave()
	}
}
