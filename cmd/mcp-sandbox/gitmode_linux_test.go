package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGitModes: a hook that its user has switched off is switched on inside alone, and
// nothing makes a git directory unreadable outside, by whatever call comes first.
func TestGitModes(t *testing.T) {
	if !staged() {
		t.Skip("git directories are not staged at this level")
	}
	dirs := []string{".git", "in/.git", "q/q/q/q/far/.git", "b.git", "q/q/q/q/far.git"}
	python := func(lines string) string { return "python3 - <<'E'\nimport os,sys,ctypes\n" + lines + "\nE" }
	for name, way := range map[string]string{
		"path":       `for d in $DIRS; do chmod +x $d/hooks/post-commit; done; for d in $DIRS; do chmod 0 $d/objects; done`,
		"directory":  `for d in $DIRS; do chmod 700 $d/hooks $d/objects $d; done`,
		"link":       `for d in $DIRS; do ln -s $PWD/$d/hooks/post-commit l; chmod +x l; rm l; ln -s $PWD/$d l; chmod 700 l/objects/; chmod 700 l/; rm l; done`,
		"descriptor": python("for d in os.environ['DIRS'].split():\n for n,m in(('hooks/post-commit',0o755),('objects',0)):\n  f=os.open(d+'/'+n,os.O_RDONLY)\n  for c in(lambda:os.fchmod(f,m),lambda:os.chmod('/proc/self/fd/%d'%f,m),lambda:os.chmod('/dev/fd/%d'%f,m),lambda:ctypes.CDLL(None).syscall(452,f,b'',m,0x1000)):\n   try:c()\n   except OSError:pass"),
		"list":       python("a=b'\\2\\0\\0\\0'+b''.join(t.to_bytes(2,'little')+p.to_bytes(2,'little')+b'\\xff'*4 for t,p in((1,7),(4,5),(32,5)))\nfor d in os.environ['DIRS'].split():\n p=d+'/hooks/post-commit'\n f=os.open(p,os.O_RDONLY)\n for x in(p,f):\n  try:os.setxattr(x,'system.posix_acl_access',a)\n  except OSError:pass"),
		"no list":    python("for d in os.environ['DIRS'].split():\n p=d+'/hooks/post-commit'\n f=os.open(p,os.O_RDONLY)\n for x in(p,f):\n  try:os.removexattr(x,'system.posix_acl_access')\n  except OSError:pass"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newGitProject(t).repository()
			if out, err := p.shell(`git init -q in; git init -q q/q/q/q/far; git init -q --bare b.git; git init -q --bare q/q/q/q/far.git; for d in ` + strings.Join(dirs, " ") +
				`; do echo '#!/bin/sh' > $d/hooks/post-commit; done`); err != nil {
				t.Fatal(out)
			}
			const access = "system.posix_acl_access"
			// user::rw-, group::---, mask::r--, other::r--: without it its group may read.
			listed := []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 4, 0, 0, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255}
			for _, d := range dirs {
				if err := unix.Setxattr(filepath.Join(p.dir, d, "hooks/post-commit"), access, listed, 0); name == "no list" && err != nil {
					t.Skip("no access lists on this file system")
				} else if name != "no list" {
					_ = unix.Removexattr(filepath.Join(p.dir, d, "hooks/post-commit"), access)
				}
			}
			c := p.serve()
			c.exec(map[string]any{"cmd": "export DIRS='" + strings.Join(dirs, " ") + "'; " + way})
			for _, d := range dirs {
				for n, want := range map[string]os.FileMode{"hooks/post-commit": 0o644, "hooks": 0o755, "objects": 0o755, ".": 0o755} {
					fi, err := os.Stat(filepath.Join(p.dir, d, n))
					switch {
					case err != nil:
						t.Error(err)
					case fi.Mode().Perm() != want && (n != "." || strings.HasSuffix(d, "/.git")): // a bare one is a directory like any other
						t.Errorf("%s/%s has mode %o outside", d, n, fi.Mode().Perm())
					}
				}
			}
			for _, d := range dirs {
				if _, err := unix.Getxattr(filepath.Join(p.dir, d, "hooks/post-commit"), access, nil); name == "no list" && err != nil {
					t.Errorf("%s has lost its access list outside: %v", d, err)
				}
			}
			// What tools do meanwhile works.
			o := c.exec(map[string]any{"cmd": "set -e; echo x > x; chmod 700 x; chmod u-w x; cp -p x y; install -m 755 x z; mkdir e; chmod 711 e; ln -s x s; chmod +r s; tar -cf t.tar x y e; tar -xpf t.tar -C e; chmod -R go+r e; ! chmod 1 none; ! chmod 644 /etc/passwd; chmod 600 /tmp; stat -c %a x y z e /tmp"})
			if o.ExitCode == nil || *o.ExitCode != 0 || !strings.HasSuffix(strings.TrimSpace(o.Output), "544\n500\n755\n755\n600") {
				t.Errorf("exit %v: %s", o.ExitCode, o.Output)
			}
		})
	}
}
