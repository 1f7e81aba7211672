package confine

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"

	"mcp-sandbox/sandbox"
)

// identity is who commands run as.
type identity struct {
	uid, gid int
	owner    ownerMap // exchanges a workspace's root with uid and gid
	name     string
	home     string // private home inside
	hostHome string // home on the host, "" when it has none
	shell    string
}

// identify derives the identity of a policy: its own for an ordinary server, the
// owner of the workspace under root, so that what commands make belongs to the
// right user. Where that is the real root, an ordinary id takes its place.
func identify(p *sandbox.Policy) (identity, error) {
	uid, gid := p.UID, p.GID
	self := os.Geteuid()
	var owner ownerMap
	switch {
	case self != 0:
		if (uid != -1 && uid != self) || (gid != -1 && gid != os.Getegid()) {
			return identity{}, errorf("invalid_argument", nil, "only a root server can run commands as another user; leave uid and gid unset")
		}
		uid, gid = self, os.Getegid()
	default:
		st, err := workspaceStat(p)
		if err != nil {
			return identity{}, err
		}
		if uid == -1 {
			uid = int(st.Uid)
		}
		if gid == -1 {
			gid = int(st.Gid)
		}
		if !p.AllowRoot && realRoot() && uid >= 0 && gid >= 0 {
			if owner = mapOwner(uid, gid, st); owner.needed() {
				uid, gid = owner.uid.inside, owner.gid.inside
			}
		}
	}
	if uid < 0 || gid < 0 {
		return identity{}, errorf("invalid_argument", nil, "uid or gid is below -1; use -1 or a number from 0")
	}
	id := identity{uid: uid, gid: gid, owner: owner, name: "sandbox", home: "/home/sandbox", shell: "/bin/sh"}
	if uid == 0 {
		id.name, id.home = "root", "/root"
	}
	if name, home, ok := lookupUser(uid); ok {
		id.name = name
		// Service accounts have homes like / or /nonexistent, over which nothing
		// private can be put.
		if dir := path.Dir(home); path.IsAbs(home) && (dir == "/home" || home == "/root" || strings.HasPrefix(home, "/home/")) {
			id.home, id.hostHome = path.Clean(home), path.Clean(home)
		}
	}
	if fi, err := os.Stat("/bin/bash"); err == nil && fi.Mode().IsRegular() {
		id.shell = "/bin/bash"
	}
	return id, nil
}

// workspaceStat looks at the workspace through the server's descriptor, where it
// has one.
func workspaceStat(p *sandbox.Policy) (*syscall.Stat_t, error) {
	var st syscall.Stat_t
	if p.WorkspaceFile == nil {
		if err := syscall.Stat(p.Workspace, &st); err != nil {
			return nil, errorf("not_found", err, "the workspace cannot be opened (%s); check that it exists", errnoText(err))
		}
		return &st, nil
	}
	rc, err := p.WorkspaceFile.SyscallConn()
	if err == nil {
		var serr error
		err = errors.Join(rc.Control(func(fd uintptr) { serr = syscall.Fstat(int(fd), &st) }), serr)
	}
	if err != nil {
		return nil, errorf("invalid_argument", err, "the workspace descriptor cannot be read; open the directory again")
	}
	return &st, nil
}

// lookupUser reads the account of uid from the host's file. Network directories
// are not asked: a session must not wait for one.
func lookupUser(uid int) (name, home string, ok bool) {
	f, err := os.Open("/etc/passwd")
	if err != nil {
		return "", "", false
	}
	defer f.Close()
	want := strconv.Itoa(uid)
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if field := strings.Split(sc.Text(), ":"); len(field) >= 7 && field[2] == want {
			return field[0], field[5], true
		}
	}
	return "", "", false
}

// passwd is the account file of the sandbox: root, nobody (who owns all that is
// not mapped) and the session's user.
func (id identity) passwd(home string) string {
	var b strings.Builder
	if id.uid != 0 {
		b.WriteString("root:x:0:0:root:/root:/usr/sbin/nologin\n")
	}
	fmt.Fprintf(&b, "%s:x:%d:%d::%s:%s\n", id.name, id.uid, id.gid, home, id.shell)
	b.WriteString("nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n")
	return b.String()
}

func (id identity) groups() string {
	var b strings.Builder
	if id.gid != 0 {
		b.WriteString("root:x:0:\n")
	}
	fmt.Fprintf(&b, "%s:x:%d:\n", id.name, id.gid)
	b.WriteString("nogroup:x:65534:\n")
	return b.String()
}
