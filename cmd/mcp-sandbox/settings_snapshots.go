package main

import (
	"math"
	"strings"

	"github.com/spf13/pflag"

	"mcp-sandbox/session"
)

func registerSnapshots(f *pflag.FlagSet, s *settings) {
	s.session.Retention = session.DefaultRetention()
	keep := &s.session.Retention
	f.StringVar(&s.session.SnapshotStore, "snapshot-store", "", "folder of snapshots (default: below --state-dir; for a temporary workspace, gone with it)")
	f.StringSliceVar(&s.session.SnapshotIgnore, "snapshot-ignore", nil, "globs of paths that snapshots leave out, such as node_modules")
	f.IntVar(&keep.Count, "snapshot-keep", keep.Count, "most snapshots kept of a workspace, automatic ones go first; 0 is no bound")
	f.DurationVar(&keep.Age, "snapshot-keep-age", keep.Age, "age at which snapshots go; 0 is never")
	f.Var((*size)(&keep.Bytes), "snapshot-keep-size", "most that the snapshots of a workspace may take, oldest go first")
}

// loadSnapshots checks what was given.
func (s *settings) loadSnapshots() error {
	keep := &s.session.Retention
	if keep.Count < 0 || keep.Age < 0 {
		return badSetting("snapshot-keep and snapshot-keep-age cannot be negative, use 0 for no bound")
	}
	if keep.Count == 0 {
		// Zeros throughout would stand for the default.
		keep.Count = math.MaxInt
	}
	if scheme, _, is := strings.Cut(s.session.SnapshotStore, "://"); is {
		return badSetting("snapshot-store is an address (%s), name a folder: this program has no client of object storage", scheme)
	}
	return nil
}
