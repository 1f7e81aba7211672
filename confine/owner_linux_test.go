package confine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

func TestExchange(t *testing.T) {
	look := func(p idPair, id int64) int64 {
		for _, r := range p.exchange() {
			if c := int64(r.ContainerID); id >= c && id < c+int64(r.Size) {
				return id - c + int64(r.HostID)
			}
		}
		return -1
	}
	const last = int64(1<<32 - 2)
	for _, p := range []idPair{{0, 61184}, {61184, 0}, {0, 1}, {7, 7}, {1000, 65519}} {
		for _, id := range []int64{0, 1, 6, 7, 8, 999, 1000, 1001, 61183, 61184, 61185, 65519, 65520, 65534, last} {
			want := id
			switch id {
			case int64(p.disk):
				want = int64(p.inside)
			case int64(p.inside):
				want = int64(p.disk)
			}
			if got := look(p, id); got != want {
				t.Errorf("%v: %d is shown as %d, want %d", p, id, got, want)
			}
		}
		if got := look(p, last+1); got != -1 {
			t.Errorf("%v maps what is no id to %d", p, got)
		}
	}
}

func TestMapOwner(t *testing.T) {
	st := &syscall.Stat_t{Dev: 3, Ino: 4}
	for _, c := range []struct {
		uid, gid int
		needed   bool
	}{{0, 0, true}, {0, 42, true}, {1000, 0, true}, {1000, 1000, false}, {1000, 1, false}} {
		m := mapOwner(c.uid, c.gid, st)
		if m.needed() != c.needed {
			t.Errorf("%d:%d: needed is %v", c.uid, c.gid, m.needed())
			continue
		}
		if !c.needed {
			continue
		}
		if m.uid.disk != c.uid || m.gid.disk != c.gid || m.uid.inside == 0 || m.gid.inside < mappedIDMin || m.gid.inside > mappedIDMax {
			t.Errorf("%d:%d is mapped as %+v", c.uid, c.gid, m)
		}
		if c.uid != 0 && m.uid.inside != c.uid {
			t.Errorf("%d:%d runs as another user, %+v", c.uid, c.gid, m)
		}
		if m != mapOwner(c.uid, c.gid, st) {
			t.Error("the same tree has two maps")
		}
	}
}

func needRealRoot(t *testing.T) {
	t.Helper()
	if !realRoot() {
		t.Skip("only the real root has trees to be mapped")
	}
}

// mappedPolicy is a workspace of root's with a read and a write grant, in all of
// which root keeps something from everybody else.
func mappedPolicy(t *testing.T, uid, gid int) sandbox.Policy {
	t.Helper()
	p := testPolicy(t)
	p.AllowRoot = false
	read, write := p.Workspace+"-read", p.Workspace+"-write"
	for _, d := range []string{read, write} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p.Read, p.Write = []string{read}, []string{write}
	for _, d := range []string{p.Workspace, read, write} {
		if err := os.WriteFile(d+"/private", []byte("root's"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d+"/other", []byte("another's"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{d, d + "/private"} {
			if err := os.Chown(f, uid, gid); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(d+"/other", 4321, 4321); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// TestRootIsNotRoot: whatever of the workspace's owner is root, the commands are
// not, work on what is the owner's, and leave it the owner's on disk.
func TestRootIsNotRoot(t *testing.T) {
	needRealRoot(t)
	for _, level := range []sandbox.Level{sandbox.LevelNamespaces, sandbox.LevelNamespacesNoProc, sandbox.LevelAuto} {
		for _, o := range []struct{ uid, gid int }{{0, 0}, {0, 4242}, {1234, 0}} {
			t.Run(string(level)+" "+itoa(o.uid)+":"+itoa(o.gid), func(t *testing.T) {
				p := mappedPolicy(t, o.uid, o.gid)
				p.Level = level
				p.Protect = []string{".git/config", "kept"}
				if err := os.WriteFile(p.Workspace+"/kept", []byte("k"), 0o644); err != nil {
					t.Fatal(err)
				}
				s := start(t, p)
				out, _ := sh(t, s, p.Workspace, "id -u; id -G; grep ^Uid: /proc/self/status")
				f := strings.Fields(out)
				if slices.Contains(f, "0") {
					t.Errorf("the command has root's number: %q", out)
				}
				for _, d := range []string{p.Workspace, p.Write[0]} {
					out, st := sh(t, s, d, "set -e; cat private; echo more >> private; mkdir d; echo x > d/f; ln d/f d/g; ln -s f d/l; mv d/g d/h; stat -c %U d/f; umask 0; mkfifo d/p; rm d/h")
					if st.Code != 0 {
						t.Errorf("%s: exit %d: %q", filepath.Base(d), st.Code, out)
					}
					for _, name := range []string{"private", "d", "d/f", "d/l", "d/p"} {
						var st unix.Stat_t
						if err := unix.Lstat(d+"/"+name, &st); err != nil || int(st.Uid) != o.uid || int(st.Gid) != o.gid {
							t.Errorf("%s is %d:%d on disk, want %d:%d (%v)", name, st.Uid, st.Gid, o.uid, o.gid, err)
						}
					}
				}
				if out, st := sh(t, s, p.Workspace, "cat '"+p.Read[0]+"/private'"); out != "root's" || st.Code != 0 {
					t.Errorf("the read grant: %q", out)
				}
				for _, c := range []struct{ cmd, why string }{
					{"cat other", "Permission denied"},
					{"echo x > '" + p.Read[0] + "/private'", "Read-only file system"},
					{"echo x > kept", "not permitted"},
					{"mkdir .git && echo x > .git/config", "not permitted"},
					{"chown 0:0 private", "Operation not permitted"},
					{"chown 4321 private", "Operation not permitted"},
					{"chmod u+s d/f", "Operation not permitted"},
					{"cat /etc/shadow", "Permission denied"},
					{"touch /usr/x", "Read-only file system"},
				} {
					if out, st := sh(t, s, p.Workspace, c.cmd); st.Code == 0 || !strings.Contains(out, c.why) {
						t.Errorf("%s: exit %d, %q", c.cmd, st.Code, out)
					}
				}
				uid, _, mapped := s.Owner()
				if !mapped || uid == 0 || o.uid != 0 && uid != o.uid {
					t.Errorf("the owner is %d, %v", uid, mapped)
				}
				checkView(t, s, p.Workspace, uid)
				checkView(t, s, p.Write[0], uid)
				checkView(t, s, p.Read[0], uid)
				if _, err := s.OpenDir(filepath.Dir(p.Workspace)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("a view of what is not granted: %v", err)
				}
			})
		}
	}
}

// checkView: the server's own descriptor shows what commands see.
func checkView(t *testing.T, s *Sandbox, dir string, uid int) {
	t.Helper()
	d, err := s.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.Fd()), "private", &st, 0); err != nil || int(st.Uid) != uid {
		t.Errorf("the file tools see user %d, want %d (%v)", st.Uid, uid, err)
	}
}

// TestRootIsRefused: where root's files cannot be another user's, nothing starts.
func TestRootIsRefused(t *testing.T) {
	needRealRoot(t)
	for _, level := range []sandbox.Level{sandbox.LevelLandlock, sandbox.LevelNone} {
		p := testPolicy(t)
		p.AllowRoot, p.Level = false, level
		s, err := Start(context.Background(), p)
		if err == nil {
			s.Close()
			t.Errorf("%s: root's workspace started", level)
			continue
		}
		if sandbox.CodeOf(err) != "confinement_unavailable" || !strings.Contains(err.Error(), "belongs to root") || !strings.Contains(err.Error(), "--allow-root") || strings.Contains(err.Error(), p.Workspace) {
			t.Errorf("%s: %v", level, err)
		}
	}
	p := testPolicy(t)
	p.Level = sandbox.LevelLandlock
	s := start(t, p)
	if out, _ := sh(t, s, p.Workspace, "id -u"); out != "0\n" || !slices.ContainsFunc(s.Report().Warnings, func(w string) bool { return strings.Contains(w, "--allow-root") }) {
		t.Errorf("with AllowRoot: %q, %q", out, s.Report().Warnings)
	}
}

// A file system without id-mapped mounts is told of: refused where the session
// writes, shown as it is where it reads.
func TestUnmappableTrees(t *testing.T) {
	needRealRoot(t)
	var no []string
	for _, dir := range []string{"/sys/kernel", "/proc/sys/kernel", "/dev/mqueue"} {
		ns, err := mapOwner(0, 0, &syscall.Stat_t{}).namespace()
		if err != nil {
			t.Fatal(err)
		}
		b := bind{Path: dir}
		tree, err := b.detach()
		if err != nil {
			continue
		}
		if unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns)}) == unix.EINVAL {
			no = append(no, dir)
		}
		unix.Close(tree)
	}
	i := slices.IndexFunc(no, func(d string) bool { return !strings.HasPrefix(d, "/proc") })
	if i < 0 {
		t.Skip("every file system here has id-mapped mounts")
	}
	p := testPolicy(t)
	p.AllowRoot = false
	p.Read = []string{no[i]}
	s := start(t, p)
	if !slices.ContainsFunc(s.Report().Warnings, func(w string) bool { return strings.Contains(w, no[i]) && strings.Contains(w, "its own owners") }) {
		t.Errorf("no word of %s: %q", no[i], s.Report().Warnings)
	}
	p.Read, p.Write = nil, []string{no[i]}
	if s, err := Start(context.Background(), p); err == nil {
		s.Close()
		t.Error("a write grant that cannot be mapped is taken")
	} else if !strings.Contains(err.Error(), "a write grant belongs to root") || !strings.Contains(err.Error(), "no id-mapped mounts") {
		t.Error(err)
	}
}
