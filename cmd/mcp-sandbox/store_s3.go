//go:build s3

package main

import (
	"context"
	"errors"
	"path"
	"time"

	"mcp-sandbox/directory"
	"mcp-sandbox/sandbox"
	"mcp-sandbox/snapshot"
	"mcp-sandbox/snapshot/s3store"
)

// s3OpenTime bounds reaching the bucket at first use, retries included.
const s3OpenTime = time.Minute

func checkS3(name, address string) error {
	if _, err := s3store.ParseURL(address); err != nil {
		return badSetting("%s cannot be used (%v); check address and credentials", name, err)
	}
	return nil
}

// openS3 opens the bucket for one workspace. The credentials come from the
// server's environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), its shared
// files or its machine's role; commands get none of the server's environment.
func openS3(name, address, key string) (*s3store.Store, error) {
	o, err := s3store.ParseURL(address)
	if err != nil {
		return nil, badSetting("%s cannot be used (%v); check address and credentials", name, err)
	}
	o.Prefix = path.Join(o.Prefix, key)
	ctx, cancel := context.WithTimeout(context.Background(), s3OpenTime)
	defer cancel()
	store, err := s3store.New(ctx, o)
	var refused *s3store.RefusedError
	if errors.As(err, &refused) {
		return nil, sandbox.Errorf("internal", refused.Cause, "%s: %s", name, refused.What)
	}
	if err != nil {
		return nil, badSetting("%s cannot be used (%v); check address and credentials", name, err)
	}
	return store, nil
}

func openSnapshotsS3(address, key string) (snapshot.Store, error) {
	store, err := openS3("snapshot-store", address, key)
	if err != nil {
		return nil, err
	}
	return store, nil
}

// openSharedS3 gives a directory of sessions and the snapshots of each, over the same
// connections.
func openSharedS3(address string) (directory.Directory, func(id string) (snapshot.Store, error), error) {
	store, err := openS3("store", address, "")
	if err != nil {
		return nil, nil, err
	}
	return store.Directory(), func(id string) (snapshot.Store, error) { return store.Sub(path.Join("snapshots", id)), nil }, nil
}
