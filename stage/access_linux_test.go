package stage

import (
	enc "encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/treecopy"
)

// list is the value of an access list of an owner who may read and write, and of the entries
// given as "u33=6 m=7 g=5 o=4".
func list(entries string) []byte {
	b := enc.LittleEndian.AppendUint32(nil, 2)
	add := func(tag, perm uint16, id uint32) {
		b = enc.LittleEndian.AppendUint16(b, tag)
		b = enc.LittleEndian.AppendUint16(b, perm)
		b = enc.LittleEndian.AppendUint32(b, id)
	}
	add(aclOwner, 6, ^uint32(0))
	for e := range strings.FieldsSeq(entries) {
		name, perm, _ := strings.Cut(e, "=")
		bits := uint16(perm[0] - '0')
		switch name {
		case "u33":
			add(aclUser, bits, 33)
		case "G44":
			add(aclGroups, bits, 44)
		default:
			add(map[string]uint16{"g": aclGroup, "m": aclMask, "o": aclOther}[name], bits, ^uint32(0))
		}
	}
	return b
}

// TestStageAccess: who may read or change something after an apply and may not before
// is told, and a person's to agree to; what closes it is not.
func TestStageAccess(t *testing.T) {
	type side struct {
		mode   os.FileMode
		acl    string
		preset string // of a directory, for what is made in it
		user   string // a user attribute
		text   string
	}
	rows := []struct {
		name     string
		dir      bool
		was, now side
		added    bool
		access   string
		lines    []string
	}{
		{name: "mode opened", was: side{mode: 0o600}, now: side{mode: 0o644}, access: "its group may read; others may read"},
		{name: "mode opened with new text", was: side{mode: 0o600}, now: side{mode: 0o644, text: "new"}, access: "its group may read; others may read"},
		{name: "mode closed", was: side{mode: 0o664}, now: side{mode: 0o600}},
		{name: "a program", was: side{mode: 0o644}, now: side{mode: 0o755}},
		{name: "directory opened", dir: true, was: side{mode: 0o700}, now: side{mode: 0o755}, access: "its group may read, enter; others may read, enter"},
		{name: "directory without its sticky bit", dir: true, was: side{mode: 0o777 | os.ModeSticky}, now: side{mode: 0o777}, access: "who may write may remove what others have in it"},
		{name: "new", added: true, now: side{mode: 0o644}},
		{name: "new, for everybody to write", added: true, now: side{mode: 0o666}, access: "others may write"},
		{name: "new directory, for everybody to write", dir: true, added: true, now: side{mode: 0o777}, access: "others may write"},
		{name: "user added", was: side{mode: 0o600}, now: side{mode: 0o660, acl: "u33=6 g=0 m=6 o=0"}, access: "user 33 may read, write",
			lines: []string{"access list: its owner rw-", "access list: user 33 rw-", "access list: its group ---", "access list: mask rw-", "access list: others ---"}},
		{name: "user behind a mask", was: side{mode: 0o600}, now: side{mode: 0o600, acl: "u33=6 g=0 m=0 o=0"}},
		{name: "mask lifted", was: side{mode: 0o600, acl: "u33=6 g=0 m=0 o=0"}, now: side{mode: 0o640, acl: "u33=6 g=0 m=4 o=0"}, access: "user 33 may read", lines: []string{"access list: mask --- -> r--"}},
		{name: "what keeps a user out removed", was: side{mode: 0o644, acl: "u33=0 g=4 m=4 o=4"}, now: side{mode: 0o644}, access: "user 33 may read"},
		{name: "group added", dir: true, was: side{mode: 0o700}, now: side{mode: 0o770, acl: "g=0 G44=7 m=7 o=0"}, access: "group 44 may read, write, enter"},
		{name: "user removed", was: side{mode: 0o660, acl: "u33=6 g=0 m=6 o=0"}, now: side{mode: 0o600}},
		{name: "preset added", dir: true, was: side{mode: 0o700}, now: side{mode: 0o700, preset: "u33=6 g=0 m=6 o=0"}, access: "what is made in it: user 33 may read, write"},
		{name: "new with a list", added: true, now: side{mode: 0o660, acl: "u33=6 g=0 m=6 o=0"}, access: "user 33 may read, write"},
		{name: "user attribute", was: side{mode: 0o600, user: "1\n"}, now: side{mode: 0o600, user: "2\x1b"}, lines: []string{`attribute user.a: "1\n" -> "2\x1b"`}},
		{name: "attribute removed of a directory", dir: true, was: side{mode: 0o700, user: "1"}, now: side{mode: 0o700}, lines: []string{`attribute user.a removed, it was "1"`}},
	}
	s, root, upper := newTestStage(t, nil)
	put := func(name string, dir bool, x side) {
		if dir {
			if err := os.Mkdir(name, 0o700); err != nil {
				t.Fatal(err)
			}
		} else {
			putFile(t, name, "x"+x.text)
		}
		for attr, value := range map[string][]byte{treecopy.AccessList: list(x.acl), treecopy.DefaultList: list(x.preset), "user.a": []byte(x.user)} {
			if attr == treecopy.AccessList && x.acl == "" || attr == treecopy.DefaultList && x.preset == "" || attr == "user.a" && x.user == "" {
				continue
			}
			if err := unix.Setxattr(name, attr, value, 0); err == unix.ENOTSUP {
				t.Skipf("no %s here", attr)
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(name, x.mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range rows {
		if !row.added {
			put(root+"/"+row.name, row.dir, row.was)
		}
	}
	settle(t)
	s.Scan(os.Getuid(), os.Getgid(), nil)
	s.ready()
	for _, row := range rows {
		put(upper+"/"+row.name, row.dir, row.now)
	}
	all, err := s.Changes()
	if err != nil || len(all) != len(rows) {
		t.Fatalf("%+v %v", all, err)
	}
	res, err := s.Apply([]string{"."}, Choice{Executable: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		c := all[slices.IndexFunc(all, func(c Change) bool { return c.Path == row.name })]
		if c.Access != row.access || c.Conflict != "" || row.lines != nil && !slices.Equal(c.Attributes, row.lines) {
			t.Errorf("%s: access %q, want %q; %q, want %q; conflict %q", row.name, c.Access, row.access, c.Attributes, row.lines, c.Conflict)
		}
		shown := s.Diff(&c)
		for _, l := range c.Attributes {
			if !strings.Contains(shown, "# "+l+"\n") {
				t.Errorf("%s: the diff lacks %q: %s", row.name, l, shown)
			}
		}
		if c.Access != "" && !strings.Contains(shown, "# access: "+c.Access+"\n") {
			t.Errorf("%s: the diff lacks %q: %s", row.name, c.Access, shown)
		}
		if left := slices.ContainsFunc(res.Left, func(l Left) bool { return l.Path == row.name }); left != (row.access != "") {
			t.Errorf("%s: left by a plain apply: %v", row.name, left)
		}
	}
	if res, err := s.Apply([]string{"."}, Choice{Access: true}); err != nil || len(res.Left) > 0 {
		t.Errorf("with a yes: %+v %v", res, err)
	}
	for _, row := range rows {
		if fi, err := os.Lstat(root + "/" + row.name); err != nil || fi.Mode().Perm() != row.now.mode.Perm() {
			t.Errorf("%s: applied: %v %v", row.name, fi, err)
		}
	}
	if got := kinds(t, s); len(got) > 0 {
		t.Errorf("after the apply: %q", got)
	}
}

// TestStageAttributesMoved: attributes of a directory that either side has changed since
// they were listed are neither applied nor overwritten.
func TestStageAttributesMoved(t *testing.T) {
	set := func(name, value string) {
		t.Helper()
		if err := unix.Setxattr(name, "user.a", []byte(value), 0); err != nil {
			t.Skipf("no user attributes here: %v", err)
		}
	}
	s, root, upper := newTestStage(t, map[string]string{"theirs/x": "x", "mine/x": "x", "gone/x": "x", "at/x": "x"})
	for _, d := range []string{"theirs", "mine", "new", "at"} {
		if err := os.MkdirAll(upper+"/"+d, 0o755); err != nil {
			t.Fatal(err)
		}
		set(upper+"/"+d, "1")
	}
	set(root+"/theirs", "2")
	set(root+"/gone", "2")
	marks := unix.Mknod(upper+"/gone", unix.S_IFCHR, 0) == nil
	putFile(t, root+"/mine/x", "what lies in it is another matter")
	a, all := newTestApplier(t, s, Choice{})
	want := map[string]string{"theirs": "its attributes were changed", "mine": "", "new": "", "at": ""}
	if marks {
		want["gone"] = "the attributes of gone were changed"
	}
	for _, c := range all {
		if w, ok := want[c.Path]; !ok || (w == "") != (c.Conflict == "") || !strings.HasPrefix(c.Conflict, w) {
			t.Errorf("%s: conflict %q, want %q", c.Path, c.Conflict, w)
		}
	}
	if len(all) != len(want) {
		t.Errorf("%+v", all)
	}
	set(upper+"/mine", "3")
	set(upper+"/new", "3")
	set(root+"/at", "4")
	for i := range all {
		a.take(&all[i])
	}
	if len(a.res.Done) > 0 || len(a.res.Left) != len(all) {
		t.Errorf("%+v", a.res)
	}
	if err := a.j.end(); err != nil {
		t.Fatal(err)
	}
	if res, err := s.Apply([]string{"mine", "new"}, Choice{}); err != nil || len(res.Left) > 0 {
		t.Errorf("%+v %v", res, err)
	}
	var b [4]byte
	if n, err := unix.Getxattr(root+"/mine", "user.a", b[:]); err != nil || string(b[:n]) != "3" {
		t.Errorf("%q %v", b[:n], err)
	}
}
