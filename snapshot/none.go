package snapshot

import (
	"context"
	"io"
	"io/fs"
)

// NoStore is the store of a workspace that has no snapshots, for what only looks:
// nothing is in it, and nothing can be put there.
type NoStore struct{}

func (NoStore) Put(context.Context, string, io.ReadSeeker, int64) error { return fs.ErrNotExist }

func (NoStore) Get(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return nil, fs.ErrNotExist
}

func (NoStore) List(context.Context, string) ([]Object, error) { return nil, nil }

func (NoStore) Delete(context.Context, string) error { return nil }

func (NoStore) Has(context.Context, string) (bool, error) { return false, nil }
