package gitstage

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// BenchmarkPublishNothing is what the end of a command costs when it wrote nothing to
// a git directory with 5,000 objects and 500 refs, of which the session made 1,000.
func BenchmarkPublishNothing(b *testing.B) {
	root, stage := b.TempDir(), b.TempDir()
	git := func(args ...string) {
		cmd := exec.Command("git", args...)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "HOME="+stage, "GIT_AUTHOR_NAME=u", "GIT_AUTHOR_EMAIL=u@h", "GIT_COMMITTER_NAME=u", "GIT_COMMITTER_EMAIL=u@h")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	git("init", "-q", "-b", "main")
	for i := range 4900 {
		if err := os.WriteFile(filepath.Join(root, fmt.Sprint("f", i)), fmt.Append(nil, i), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	git("add", ".")
	git("commit", "-q", "-m", "all")
	for i := range 500 {
		git("update-ref", fmt.Sprint("refs/heads/b", i), "HEAD")
	}
	upper := filepath.Join(stage, ".git", "upper", "objects")
	for i := range 1000 {
		if err := os.MkdirAll(fmt.Sprintf("%s/%02x", upper, i%256), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	open := func(dir string) *os.File {
		f, err := os.Open(dir)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { f.Close() })
		return f
	}
	p, err := New(open(root), open(stage), Options{UID: -1, GID: -1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	if err := p.Look(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := p.Publish(); err != nil {
			b.Fatal(err)
		}
		if p.Changed() {
			b.Fatal("something changed")
		}
	}
}
