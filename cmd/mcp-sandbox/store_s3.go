//go:build s3

package main

import (
	"context"
	"path"
	"time"

	"mcp-sandbox/snapshot"
	"mcp-sandbox/snapshot/s3store"
)

// s3OpenTime bounds reaching the bucket at first use, retries included.
const s3OpenTime = time.Minute

func checkS3(address string) error {
	if _, err := s3store.ParseURL(address); err != nil {
		return badSetting("snapshot-store cannot be used: %v", err)
	}
	return nil
}

// openS3 opens the bucket for one workspace. The credentials come from the
// server's environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), its shared
// files or its machine's role; commands get none of the server's environment.
func openS3(address, key string) (snapshot.Store, error) {
	o, err := s3store.ParseURL(address)
	if err != nil {
		return nil, badSetting("snapshot-store cannot be used: %v", err)
	}
	o.Prefix = path.Join(o.Prefix, key)
	ctx, cancel := context.WithTimeout(context.Background(), s3OpenTime)
	defer cancel()
	store, err := s3store.New(ctx, o)
	if err != nil {
		return nil, badSetting("snapshot-store cannot be used: %v", err)
	}
	return store, nil
}
