package snapshot

import (
	"context"
	"io"
	"strings"
	"time"
)

// Store holds named immutable objects: the packs, indexes and records that
// snapshots are made of. Keys are slash-separated lower-case ASCII, without
// "." or ".." elements. An object is either wholly there or not there at all:
// a Put that fails or is killed leaves nothing visible under its key.
//
// Every implementation must pass [mcp-sandbox/snapshot/storetest].
type Store interface {
	// Put stores size bytes of r, at least one, under key, replacing what was there. When it
	// returns nil the object survives a crash. r may be read more than once
	// (rewound) to retry an upload.
	Put(ctx context.Context, key string, r io.ReadSeeker, size int64) error
	// Get reads n bytes from offset off, or all from off when n < 0. A missing
	// object gives an error that is fs.ErrNotExist.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)
	// List returns the objects whose key starts with prefix, sorted by key.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Delete removes key; a missing key is not an error.
	Delete(ctx context.Context, key string) error
	// Has tells whether key is there.
	Has(ctx context.Context, key string) (bool, error)
}

// ValidKey tells whether key is one that a [Store] may be given: 1 to 512 bytes
// of elements of a-z, 0-9, "-", "_" and ".", none starting with a dot. Stores
// check it, since a key is a file's name to some of them.
func ValidKey(key string) bool {
	if key == "" || len(key) > 512 {
		return false
	}
	for _, part := range strings.Split(key, "/") {
		if part == "" || part[0] == '.' {
			return false
		}
		for _, c := range []byte(part) {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
				return false
			}
		}
	}
	return true
}

// Object is one entry of a [Store] listing.
type Object struct {
	Key  string
	Size int64
	Time time.Time // when it was stored, by the store's clock
}

// Locker is what a [Store] shared by several processes may also offer.
// Collecting garbage takes the exclusive lock, all else a shared one. Without
// it, garbage younger than an hour is left alone instead.
type Locker interface {
	Lock(ctx context.Context, exclusive bool) (unlock func(), err error)
}
