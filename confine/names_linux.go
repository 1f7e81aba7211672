package confine

import (
	"os"
	"path/filepath"
	"slices"

	"mcp-sandbox/sandbox"
)

// nameFiles say where a session's programs look up hosts and accounts: in its own
// files, and with an allow-list network at its gate. Without a network a name is
// unknown at once, instead of after tries with servers that cannot be reached.
func nameFiles(n sandbox.Network) []file {
	if n == sandbox.NetworkHost {
		return nil
	}
	hosts, server := "files", "127.0.0.1" // where nothing answers
	if n == sandbox.NetworkAllow {
		hosts, server = "files dns", GateAddress
	}
	sources := "hosts: " + hosts + "\n"
	for _, db := range []string{"passwd", "group", "shadow", "networks", "protocols", "services", "ethers", "rpc"} {
		sources += db + ": files\n"
	}
	return []file{
		{actualPath("/etc/resolv.conf"), "nameserver " + server + "\n", 0o644},
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
