package main

import (
	"math"
	"strings"

	"github.com/spf13/pflag"

	"mcp-sandbox/session"
	"mcp-sandbox/snapshot"
)

func registerSnapshots(f *pflag.FlagSet, s *settings) {
	s.session.Retention = session.DefaultRetention()
	keep := &s.session.Retention
	f.StringVar(&s.session.SnapshotStore, "snapshot-store", "", "directory of snapshots, or s3://BUCKET/PREFIX?endpoint=HOST&region=NAME (default: below --state-dir; for a temporary workspace, gone with it)")
	f.IntVar(&s.session.CheckpointEvery, "checkpoint-every", 0, "snapshot after every N modifying calls (0: only at the end of a kept session and before a restore)")
	f.BoolVar(&s.noBaseline, "no-baseline", false, "take no automatic snapshots in a --root directory or a kept session: only what is stored on demand can be undone")
	s.session.BaselineLimit = 4 << 30
	f.Var((*size)(&s.session.BaselineLimit), "baseline-limit", "most bytes of files that an automatic snapshot reads; above it, or after 10 s, ignored files are left out, and if that is not enough none is taken")
	f.StringSliceVar(&s.session.SnapshotIgnore, "snapshot-ignore", nil, "globs of paths that snapshots leave out, such as node_modules")
	f.IntVar(&keep.Count, "snapshot-keep", keep.Count, "most snapshots kept of a workspace; automatic ones are dropped first (0: no limit)")
	f.DurationVar(&keep.Age, "snapshot-keep-age", keep.Age, "age at which snapshots are dropped (0: never)")
	f.Var((*size)(&keep.Bytes), "snapshot-keep-size", "largest total size of a workspace's snapshots; the oldest are dropped first")
}

// loadSnapshots checks what was given and sees to a store in object storage.
func (s *settings) loadSnapshots() error {
	keep := &s.session.Retention
	if s.session.CheckpointEvery < 0 {
		return badSetting("checkpoint-every is %d; use a positive number, or 0 for never", s.session.CheckpointEvery)
	}
	s.session.Baseline = !s.noBaseline
	if s.session.BaselineLimit <= 0 {
		return badSetting("baseline-limit is %d; use a positive number, or --no-baseline", s.session.BaselineLimit)
	}
	if keep.Count < 0 || keep.Age < 0 {
		return badSetting("snapshot-keep and snapshot-keep-age cannot be negative; use 0 for no bound")
	}
	if keep.Count == 0 {
		// Zeros throughout would stand for the default.
		keep.Count = math.MaxInt
	}
	address := s.session.SnapshotStore
	scheme, _, isAddress := strings.Cut(address, "://")
	if !isAddress {
		return nil
	}
	if scheme != "s3" {
		return badSetting("snapshot-store has the scheme %q; name a directory or s3://BUCKET/PREFIX", scheme)
	}
	if err := checkS3("snapshot-store", address); err != nil {
		return err
	}
	// Opened when a session first needs it: a server whose store is away for a
	// moment still starts.
	s.session.OpenStore = func(key string) (snapshot.Store, error) { return openSnapshotsS3(address, key) }
	return nil
}
