package main

import (
	"strings"

	"github.com/spf13/pflag"
)

// A need is another setting, without which those of flags would be ignored.
type need struct {
	with string // to add
	met  func(s *settings) bool
	// serving is set where only a server can tell: the environment and the file of a
	// network server are also those of the commands about its sessions, whose line
	// does not name the transport.
	serving bool
	flags   []string
}

// needs hold the flags that have no effect alone; TestNeeds walks them. A flag may have
// several, and the first that is not met is told.
var needs = []need{
	{"--transport http", (*settings).remote, true, []string{
		"listen", "token-file", "no-auth", "oauth-issuer", "oauth-audience", "oauth-resource", "oauth-claim", "oauth-scope",
		"tls-cert", "tls-key", "http-host", "http-origin", "default-sandbox", "share-signals", "max-connections", "max-sessions",
		"max-sessions-per-principal", "max-kept-per-principal", "session-idle", "session-max-age", "store", "peer-url", "lease-ttl",
	}},
	{"--session NAME or --transport http", func(s *settings) bool { return s.remote() || s.session.Name != "" }, true, []string{"key-file", "durable"}},
	{"--store", func(s *settings) bool { return s.store.address != "" }, true, []string{"peer-url", "lease-ttl"}},
	{"--oauth-issuer", func(s *settings) bool { return s.http.oauth.Issuer != "" }, true, []string{"oauth-audience", "oauth-resource", "oauth-claim", "oauth-scope"}},
	{"--network allow", func(s *settings) bool { return s.session.Network == "allow" }, false, []string{
		"allow-host", "deny-host", "allow-preset", "elicit-hosts", "limit-net-bytes", "limit-net-conns",
	}},
	{"--staged", func(s *settings) bool { return s.session.Staged }, false, []string{"stage-apply"}},
	{"--audit-log", func(s *settings) bool { return len(s.sessionFlags.auditLog) > 0 }, false, []string{"audit-strict"}},
}

// checkNeeds refuses what was set and would be ignored. A flag that the command does
// not show is refused on its line; the environment and the file may set it, as they may
// be those of a server.
func (s *settings) checkNeeds(f *pflag.FlagSet) error {
	var err error
	f.VisitAll(func(fl *pflag.Flag) {
		if err == nil && fl.Hidden && s.fromFlags[fl.Name] && s.asks(fl) && isTopicFlag(fl.Name) && !strings.HasPrefix(fl.Name, "log-") {
			err = badSetting("%s has no effect with this command; leave it out", fl.Name)
		}
	})
	if err != nil {
		return err
	}
	for _, n := range needs {
		if n.serving && !s.serving || n.met(s) {
			continue
		}
		for _, name := range n.flags {
			if fl := f.Lookup(name); fl != nil && !fl.Hidden && s.asks(fl) {
				return badSetting("%s has no effect without %s; add it or leave %s out", name, n.with, name)
			}
		}
	}
	if fl := f.Lookup("limit-workspace"); fl != nil && !fl.Hidden && s.asks(fl) && !s.limitsWorkspace() {
		return badSetting("%s", unlimitedRoot)
	}
	return nil
}

// limitsWorkspace says whether --limit-workspace holds: a directory of the user's is
// measured only in its stage.
func (s *settings) limitsWorkspace() bool { return s.session.Root == "" || s.session.Staged }

const unlimitedRoot = "limit-workspace has no effect on a directory that --root names, unless with --staged; leave it out"

// asks says whether a flag was set to have an effect. One that repeats the default has
// none to miss, except on the command's own line, where only a switch that is off says
// so itself.
func (s *settings) asks(fl *pflag.Flag) bool {
	if fl.Value.String() != fl.DefValue {
		return fl.Changed
	}
	return s.fromFlags[fl.Name] && fl.Value.Type() != "bool"
}
