package confine

import (
	"os"
	"path/filepath"
)

// newTempDir makes a session's own directory on the host, 0700, and returns its
// path without links. A random name, or one the caller vouches for: a fixed or
// shared one could be planted by others (CVE-2026-46406), and so one that exists
// is refused.
func newTempDir(wanted string) (string, error) {
	dir, err := wanted, error(nil)
	if wanted == "" {
		dir, err = os.MkdirTemp("", "mcp-sandbox-")
	} else {
		err = os.Mkdir(wanted, 0o700)
	}
	if err == nil {
		var real string
		if real, err = filepath.EvalSymlinks(dir); err != nil {
			_ = os.Remove(dir)
		}
		dir = real
	}
	if err != nil {
		return "", errorf("internal", err, "the session's temporary directory cannot be made (%s); set TMPDIR to one that can", errnoText(err))
	}
	return dir, nil
}
