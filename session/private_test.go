package session

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestPrivateFiles(t *testing.T) {
	base := t.TempDir()
	root, read := filepath.Join(base, "w"), filepath.Join(base, "r")
	if err := errors.Join(os.Mkdir(root, 0o755), os.Mkdir(read, 0o755), os.Symlink(root, filepath.Join(base, "alias"))); err != nil {
		t.Fatal(err)
	}
	for path, code := range map[string]string{
		"audit": "", "w/audit": "invalid_argument", "r/audit": "invalid_argument", "alias/audit": "invalid_argument", "no/audit": "not_found", "w": "invalid_argument",
	} {
		c := Config{Root: root, Read: []string{read}, Private: []string{filepath.Join(base, path)}}
		if err := c.CheckPrivate(); codeOf(err) != code {
			t.Errorf("%s: %v, want %q", path, err, code)
		}
	}
}
