//go:build !linux || (!amd64 && !arm64)

package snapshot

func lstatEntry(dir int, d dirent) (stat, error) { return lstatAt(dir, d.name) }
