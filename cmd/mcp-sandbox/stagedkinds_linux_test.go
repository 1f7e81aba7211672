package main

import (
	enc "encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// accessList is an ACL of posix_acl_xattr(5) that gives the named user the bits.
func accessList(user uint32, bits uint16) []byte {
	b := enc.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 6, ^uint32(0)}, {2, bits, user}, {4, 4, ^uint32(0)}, {16, bits | 4, ^uint32(0)}, {32, 4, ^uint32(0)}} {
		b = enc.LittleEndian.AppendUint16(b, e.tag)
		b = enc.LittleEndian.AppendUint16(b, e.perm)
		b = enc.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// attributesOf tells all there is to one path but its content.
func attributesOf(t *testing.T, name string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return "gone"
	}
	out := fmt.Sprintf("%o %d", st.Mode, st.Mtim.Nano())
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		to, _ := os.Readlink(name)
		return fmt.Sprintf("%o -> %s", st.Mode&unix.S_IFMT, to)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		b, _ := os.ReadFile(name)
		out += fmt.Sprintf(" %d %q", st.Nlink, b)
	}
	list := make([]byte, 4096)
	n, _ := unix.Llistxattr(name, list)
	names := strings.Split(strings.TrimSuffix(string(list[:max(n, 0)]), "\x00"), "\x00")
	slices.Sort(names)
	for _, x := range names {
		if strings.HasPrefix(x, "user.") || strings.HasPrefix(x, "system.posix_acl") {
			v := make([]byte, 4096)
			n, _ := unix.Lgetxattr(name, x, v)
			out += fmt.Sprintf(" %s=%x", x, v[:max(n, 0)])
		}
	}
	return out
}

// TestStagedKinds: every kind of thing and attribute arrives as a session without a
// stage would have left it: the same script is run in both, on copies of one project.
func TestStagedKinds(t *testing.T) {
	const script = `import os, socket, stat
T=(1700000000123456789,)*2
def put(p, s, mode=0o644):
    open(p,'w').write(s); os.chmod(p, mode); os.utime(p, ns=T)
# files and modes
put('new','new'); put('new600','x',0o600); put('mod','changed'); os.chmod('mode',0o600); put('empty','')
os.chmod('dirmode',0o750)
# attributes: set, changed, removed; of files and directories
os.setxattr('xset','user.a',b'1'); os.setxattr('xchange','user.a',b'2'); os.removexattr('xgone','user.a'); os.removexattr('xgone','user.b')
os.setxattr('dset','user.a',b'1'); os.setxattr('dchange','user.a',b'2'); os.removexattr('dgone','user.a')
put('xnew','x'); os.setxattr('xnew','user.n',b'\x00bin\xff'); os.utime('xnew', ns=T)
os.mkdir('dnew'); os.setxattr('dnew','user.n',b'd'); os.chmod('dnew',0o700)
open('xkeep','a').write('more'); os.utime('xkeep', ns=T)
open('acl','a').write('more'); os.utime('acl', ns=T)
# times
os.utime('mod', ns=(1,1600000000000000001))
# links
os.symlink('nowhere','dangling'); os.unlink('link'); os.symlink('mod','link')
os.link('new','hard')
# pipes and sockets
os.mkfifo('pipe',0o640); os.utime('pipe', ns=T); s=socket.socket(socket.AF_UNIX); s.bind('sock')
# removed
os.unlink('gone'); os.unlink('gonelink'); os.unlink('tree/a/b'); os.rmdir('tree/a'); os.rmdir('tree')
# kinds that change
os.unlink('fd'); os.mkdir('fd'); put('fd/in','in'); os.unlink('df/x'); os.rmdir('df'); put('df','file'); os.unlink('fl'); os.symlink('mod','fl')
# empty directories, sparse and odd names
os.makedirs('e1/e2'); put('odd \n name','odd')
f=open('sparse','w'); f.truncate(1<<20); f.seek(500000); f.write('x'); f.close(); os.utime('sparse', ns=T)
for d in ('fd','dnew','e1/e2','e1','dset','dchange','dgone','dirmode','.'): os.utime(d, ns=T)
`
	project := func() *stagedProject {
		p := newStagedProject(t)
		for _, f := range []string{"mod", "mode", "xset", "xchange", "xgone", "xkeep", "acl", "gone", "tree/a/b", "fd", "df/x", "fl"} {
			if i := strings.LastIndexByte(f, '/'); i > 0 {
				if err := os.MkdirAll(p.dir+"/"+f[:i], 0o755); err != nil {
					t.Fatal(err)
				}
			}
			put(t, p.dir+"/"+f, f)
		}
		for _, d := range []string{"dset", "dchange", "dgone", "dirmode"} {
			if err := os.Mkdir(p.dir+"/"+d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for _, l := range []string{"link", "gonelink"} {
			if err := os.Symlink("gone", p.dir+"/"+l); err != nil {
				t.Fatal(err)
			}
		}
		for _, x := range []string{"xchange a", "xgone a", "xgone b", "xkeep a", "dchange a", "dgone a", "dgone b"} {
			name, attr, _ := strings.Cut(x, " ")
			if err := unix.Setxattr(p.dir+"/"+name, "user."+attr, []byte("0"), 0); err != nil {
				t.Skipf("no user attributes here: %v", err)
			}
		}
		if err := unix.Setxattr(p.dir+"/acl", "system.posix_acl_access", accessList(4321, 2), 0); err != nil {
			t.Logf("no access lists here: %v", err)
		}
		old := time.Unix(1_600_000_000, 0)
		for rel, text := range allOf(t, p.dir) {
			if strings.Contains(text, " -> ") {
				continue
			}
			if err := os.Chtimes(p.dir+"/"+rel, old, old); err != nil {
				t.Fatal(err)
			}
		}
		p.settled()
		return p
	}
	plain, staged := project(), project()
	line := "python3 - <<'E'\n" + script + "E"
	out, err := plain.plain(line)
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	before := allOf(t, staged.dir)
	staged.session(line)
	sameTree(t, "before the apply", allOf(t, staged.dir), before)
	r := staged.review("--apply", ".")
	for _, l := range r.Applied.Left {
		if l.Path != "sock" {
			t.Errorf("left: %+v", l)
		}
	}
	names := map[string]bool{}
	for _, p := range []*stagedProject{plain, staged} {
		for name := range allOf(t, p.dir) {
			names[name] = true
		}
	}
	if len(names) < 35 {
		t.Fatalf("only %d paths", len(names))
	}
	for name := range names {
		got, want := attributesOf(t, staged.dir+"/"+name), attributesOf(t, plain.dir+"/"+name)
		if name == "sock" { // it leads to a process of the session
			want = "gone"
		}
		if got != want {
			t.Errorf("%q is %s\nwant %s", name, got, want)
		}
	}
	var a, b unix.Stat_t
	if unix.Lstat(staged.dir+"/new", &a) != nil || unix.Lstat(staged.dir+"/hard", &b) != nil || a.Ino != b.Ino {
		t.Error("two names of one file are two files")
	}
	if unix.Lstat(staged.dir+"/sparse", &a) != nil || a.Blocks > 1024 {
		t.Errorf("the holes of a file are gone: %d blocks", a.Blocks)
	}
	if r := staged.review(); len(r.Changes) != 1 || r.Changes[0].Path != "sock" {
		t.Errorf("waits even so: %+v", r.Changes)
	}
}

// plain runs one command in the project, without a stage.
func (p *stagedProject) plain(line string) (string, error) {
	cmd := exec.Command(binary, "exec", "--root", p.dir, "--state-dir", p.state+"-plain", "--", line)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
