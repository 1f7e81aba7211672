package confine

import (
	"os"
	"path/filepath"
	"slices"

	"mcp-sandbox/sandbox"
)

// nameFiles say where a session's programs look up hosts and accounts: in its own
// files, and at its gate. Where nothing answers there, a look-up still fails at
// once: without a network its socket is refused, of which init tells, and without
// a gate there is no route to the server.
func nameFiles(n sandbox.Network) []file {
	if n == sandbox.NetworkHost {
		return nil
	}
	sources := "hosts: files dns\n"
	if n == sandbox.NetworkNone {
		// The last word is that of the files, by which there is no such name: without
		// a socket dns says that it may be found later.
		sources = "hosts: files dns files\n"
	}
	for _, db := range []string{"passwd", "group", "shadow", "networks", "protocols", "services", "ethers", "rpc"} {
		sources += db + ": files\n"
	}
	return []file{
		{actualPath("/etc/resolv.conf"), "nameserver " + GateAddress + "\n", 0o644},
		{actualPath("/etc/nsswitch.conf"), sources, 0o644},
	}
}

// actualPath is where a link leads to: the link itself is shown as the host has
// it.
func actualPath(p string) string {
	if real, err := filepath.EvalSymlinks(p); err == nil {
		return real
	}
	return p
}

// replaced says whether a regular file of /etc is one of files.
func replaced(files []file, e os.DirEntry) bool {
	return e.Type().IsRegular() && slices.ContainsFunc(files, func(f file) bool { return f.Path == "/etc/"+e.Name() })
}

// grantOver is the grant of p that lies over a file of the base, "" for none.
func grantOver(p *sandbox.Policy, name string) string {
	for _, g := range grantsOf(p) {
		if real := actualPath(g.path); within(name, real) {
			return real
		}
	}
	return ""
}

// nameFilesOver are those to put over a grant. A grant of such a file itself is
// somebody's wish to have the host's.
func (l *layout) nameFilesOver() []file {
	return slices.DeleteFunc(nameFiles(l.p.Network), func(f file) bool {
		g := grantOver(l.p, f.Path)
		return g == "" || g == f.Path
	})
}
