//go:build !s3

package main

import (
	"mcp-sandbox/directory"
	"mcp-sandbox/snapshot"
)

// The client of object storage is only in a build with -tags s3: it would make
// everyone's binary 3 MB larger, and 2 ms slower to start, for the few who want it.
func checkS3(name, _ string) error {
	return badSetting("%s names object storage, which this build is without; use the release mcp-sandbox-s3 or one made with go build -tags s3 ./cmd/mcp-sandbox, or name a directory", name)
}

func openSnapshotsS3(address, _ string) (snapshot.Store, error) {
	return nil, checkS3("snapshot-store", address)
}

func openSharedS3(address string) (directory.Directory, func(id string) (snapshot.Store, error), error) {
	return nil, nil, checkS3("store", address)
}
