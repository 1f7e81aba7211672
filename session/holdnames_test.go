package session

import (
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mcp-sandbox/sandbox"
)

// A file tool that waits for a command's names ends when its call does.
func TestHoldNames(t *testing.T) {
	dir := t.TempDir()
	lock, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	s := &Session{staged: &gitStage{lock: lock}}
	init, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer init.Close()
	if err := unix.Flock(int(init.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	if _, err := s.HoldNames(ctx); err == nil || sandbox.CodeOf(err) != "cancelled" {
		t.Errorf("a cancelled call has %v", err)
	}
	if err := unix.Flock(int(init.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	release, err := s.HoldNames(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if unix.Flock(int(init.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		t.Error("the names are not held")
	}
	release()
	if err := unix.Flock(int(init.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("the names are still held: %v", err)
	}
}
