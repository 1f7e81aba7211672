package main

import (
	"fmt"
	"strings"
	"testing"
)

// spellings are ways to reach a hidden file without its plain name; what one finds
// it prints.
var spellings = []string{
	`cat sub/../sub/./key`, `cat /proc/self/root$PWD/sub/key`, `cat /proc/self/cwd/sub/key`, `cat /proc/1/root$PWD/sub/key`,
	`exec 9<sub; cat /dev/fd/9/key`, `exec 9<sub/key; cat /proc/self/fd/9`, `tar cf - sub`, `cp -a sub copied; cat copied/key`,
	`ln sub/key linked; cat linked`, `ln -s sub/key soft; cat soft`, `mv sub sub2; cat sub2/key; mv sub2 sub`, `mv sub/key moved; cat moved`,
	`. sub/key`, `bash -v sub/key`, `env -i sh sub/key`, `cat SUB/KEY sub/KEY`, `dd if=sub/key`, `grep -rh CANARY .`, `find . -name key -exec cat {} +`,
	`git init -q g; cd g; git --work-tree=.. add -f ../sub/key; git --work-tree=.. show :sub/key`,
	`unshare -rm sh -c 'mount --bind sub /mnt; cat /mnt/key'`,
	`python3 -c 'import os; d=os.open("sub",os.O_PATH); print(os.read(os.open("key",0,dir_fd=d),99))'`,
	`python3 -c 'import os; f=os.open("sub/key",os.O_PATH); print(os.read(os.open("/proc/self/fd/%d"%f,0),99))'`,
	`python3 -c 'import os; o=os.open("sent",os.O_CREAT|os.O_WRONLY); os.sendfile(o,os.open("sub/key",0),0,99)'; cat sent`,
	`python3 -c 'import ctypes; ctypes.CDLL(None).renameat2(-100,b"sub/key",-100,b"plain",2)'; cat plain`,
	`python3 -c 'import ctypes; l=ctypes.CDLL(None); l.renameat2(-100,b"sub",-100,b"swap",2)'; cat swap/key; python3 -c 'import ctypes; ctypes.CDLL(None).renameat2(-100,b"sub",-100,b"swap",2)'`,
	`python3 -c 'import ctypes,os
l=ctypes.CDLL(None); b=ctypes.create_string_buffer(136); b[0]=128; m=ctypes.c_int()
l.name_to_handle_at(-100,b"sub/key",b,ctypes.byref(m),0)
print(os.read(l.open_by_handle_at(os.open(".",0),b,0),99))'`,
}

// TestHiddenBySpelling: no spelling, link, move, copy or call shows a hidden file to
// a command, and none changes it.
func TestHiddenBySpelling(t *testing.T) {
	if !staged() {
		return // such a session is refused there, which TestPolicyMatrix sees
	}
	for _, level := range []string{"namespaces", "namespaces-noproc"} {
		w := newPolicyWorld(t)
		put(t, w.ws+"/sub/key", secret)
		c := startServer(t, "--root", w.ws, "--deny-read", "sub/key", "--confine", level)
		c.initialize("2025-06-18")
		c.call("exec_command", map[string]any{"cmd": "mkdir swap"})
		for i, s := range spellings {
			r := c.call("exec_command", map[string]any{"cmd": s + fmt.Sprint(" # ", i)})
			if strings.Contains(r.text(), secret) {
				t.Errorf("%s: %s shows it: %s", level, s, r.text())
			}
			expect(t, w.ws+"/sub/key", secret)
		}
	}
	t.Logf("%d spellings at two levels", len(spellings))
}
