package main

import (
	"strconv"

	"github.com/spf13/pflag"

	"mcp-sandbox/confine"
)

// leastLimits is, by flag, the least a session can live with. Below it no command
// starts, and the number is most often one whose unit was forgotten.
var leastLimits = []struct {
	flag  string
	least float64
	text  string // of least
	such  string // what to write instead
	get   func(s *settings) float64
}{
	{"limit-memory", 16 << 20, "16M", "512M", func(s *settings) float64 { return float64(s.session.Limits.Memory) }},
	{"limit-cpu", 0.01, "0.01", "1.5", func(s *settings) float64 { return s.session.Limits.CPU }},
	{"limit-procs", 8, "8", "1024", func(s *settings) float64 { return float64(s.session.Limits.Procs) }},
	{"limit-open-files", 64, "64", "4096", func(s *settings) float64 { return float64(s.session.Limits.OpenFiles) }},
	{"limit-file-size", 4096, "4K", "4G", func(s *settings) float64 { return float64(s.session.Limits.FileSize) }},
	{"limit-tmp", 64 << 10, "64K", "1G", func(s *settings) float64 { return float64(s.session.Limits.Tmp) }},
	{"limit-workspace", 64 << 10, "64K", "10G", func(s *settings) float64 { return float64(s.session.WorkspaceLimit) }},
}

// loadLimits checks the limits themselves; that this host can enforce them is
// checked where sessions are about to start, see checkLimits.
func (s *settings) loadLimits(f *pflag.FlagSet) error {
	switch s.limits {
	case "strict":
	case "best-effort":
		s.session.Limits.BestEffort = true
	default:
		return badSetting("limits is %q; use strict or best-effort", s.limits)
	}
	for _, l := range leastLimits {
		n := l.get(s)
		if flag := f.Lookup(l.flag); flag == nil || !flag.Changed || n == 0 || n >= l.least {
			continue
		}
		unit := ""
		if f.Lookup(l.flag).Value.Type() == "size" {
			unit = " bytes"
		}
		return badSetting("%s is %s%s, and a session needs at least %s; write a value such as %s", l.flag, strconv.FormatFloat(n, 'f', -1, 64), unit, l.text, l.such)
	}
	return nil
}

// checkLimits refuses to start where a limit that was set cannot be enforced.
func (s *settings) checkLimits() error {
	return confine.CheckLimits(s.session.Limits, s.session.Level)
}
