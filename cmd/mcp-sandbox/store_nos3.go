//go:build !s3

package main

import "mcp-sandbox/snapshot"

// The client of object storage is only in a build with -tags s3: it would make
// everyone's binary larger for the few who want it.
func checkS3(string) error {
	return badSetting("snapshot-store names object storage, which this build is without: use one made with go build -tags s3 ./cmd/mcp-sandbox, or name a directory")
}

func openS3(address, _ string) (snapshot.Store, error) { return nil, checkS3(address) }
