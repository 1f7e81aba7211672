package main

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/spf13/pflag"

	"mcp-sandbox/session"
)

// principalLimits are the limits that the token file gives to principals of their
// own. They are read again with the file and hold for the sessions begun afterwards.
type principalLimits struct {
	general *settings
	now     atomic.Pointer[map[string]session.PrincipalLimits]
}

// limitFlags are the settings a line of the token file may have, by their flags.
var limitFlags = []string{"max-sessions-per-principal", "max-kept-per-principal", "limit-workspace", "limit-memory", "limit-cpu", "limit-procs", "limit-open-files", "limit-file-size", "limit-tmp"}

func (p *principalLimits) of(principal string) session.PrincipalLimits {
	all := p.now.Load()
	if all == nil {
		return session.PrincipalLimits{}
	}
	return (*all)[principal]
}

// read takes the settings of a token file, all or nothing. Code: invalid_argument.
func (p *principalLimits) read(of map[string][]string) error {
	all := map[string]session.PrincipalLimits{}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		var s settings
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		s.register(f)
		for _, word := range of[name] {
			flag, value, _ := strings.Cut(word, "=")
			if !slices.Contains(limitFlags, flag) {
				return badSetting("the token file gives %s an unknown setting; use some of %s", name, strings.Join(limitFlags, ", "))
			}
			if flag == "limit-workspace" && !p.general.limitsWorkspace() {
				return badSetting("the token file, settings of %s: %s", name, unlimitedRoot)
			}
			if err := f.Set(flag, value); err != nil {
				return badSetting("the token file gives %s the %s %q; %s", name, flag, value, formOf(f.Lookup(flag), err))
			}
		}
		s.limits = p.general.limits
		if err := s.loadLimits(f); err != nil {
			return badSetting("the token file, settings of %s: %v", name, err)
		}
		s.session.Level = p.general.session.Level
		if err := s.checkLimits(); err != nil {
			return badSetting("the token file, settings of %s: %v", name, err)
		}
		l := session.PrincipalLimits{Workspace: s.session.WorkspaceLimit, Limits: s.session.Limits}
		for flag, to := range map[string]struct{ from, to *int }{"max-sessions-per-principal": {&s.session.MaxPerPrincipal, &l.MaxSessions}, "max-kept-per-principal": {&s.session.MaxKept, &l.MaxKept}} {
			if !f.Lookup(flag).Changed {
				continue
			}
			if *to.from < 1 {
				return badSetting("the token file gives %s %s=%d; use a positive number", name, flag, *to.from)
			}
			*to.to = *to.from
		}
		all[name] = l
	}
	p.now.Store(&all)
	return nil
}
