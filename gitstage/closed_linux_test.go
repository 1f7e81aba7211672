package gitstage

import (
	"log/slog"
	"os"
	"testing"
)

// TestClosedPublisher: a call that outlives its session publishes nothing through numbers
// that stand for other directories by then.
func TestClosedPublisher(t *testing.T) {
	root, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	stage, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer stage.Close()
	p, err := New(root, stage, Options{UID: -1, GID: -1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	other := t.TempDir()
	var taken []*os.File
	for range 10 {
		f, err := os.Open(other)
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, f)
	}
	p.Close()
	report, err := p.Publish()
	if err != nil || len(report.Kept) > 0 || p.Changed() || p.Crowded() || p.Prune() != nil || p.Look() != nil || len(p.Left()) > 0 {
		t.Errorf("%+v, %v", report, err)
	}
	for _, f := range taken {
		if _, err := f.Stat(); err != nil {
			t.Errorf("somebody else's descriptor: %v", err)
		}
		f.Close()
	}
}
