// Package fsuser gives threads of a server that is root the rights over files of
// the user whose session they work for, so that the file tools and snapshots reach
// what the session's commands reach, and no more.
//
// Start at New and Enter. It changes the calling thread alone, and knows nothing
// of sessions.
package fsuser

// User is whose rights over files a thread takes. nil is the server itself.
type User struct {
	uid, gid int
	groups   []uint32 // supplementary groups of the server
}
