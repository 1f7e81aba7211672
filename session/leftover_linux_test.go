package session

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// TestRemoveStateStage: a stage that a review has open stays, and goes when it is closed.
func TestRemoveStateStage(t *testing.T) {
	dir := t.TempDir()
	one := filepath.Join(dir, "stages", "one")
	if err := os.MkdirAll(one, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"key": "0123456789abcdef0123456789abcdef", "stages/one/stage.json": `{"root":"/nowhere"}`, "stages/one/lock": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(one, "lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	c := Config{StateDir: dir}
	var e *sandbox.Error
	if err := RemoveState(c); !errors.As(err, &e) || e.Code() != "already_exists" {
		t.Errorf("with an open stage: %v", err)
	}
	if _, err := os.Stat(one); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "key")); err != nil {
		t.Error(err)
	}
	lock.Close()
	if err := RemoveState(c); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
}
