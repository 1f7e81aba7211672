//go:build !linux

package gitstage

import (
	"errors"
	"log/slog"
	"os"
	"time"
)

// Options of a Publisher.
type Options struct {
	UID, GID int
	Outside  map[string]*os.File
	Writable func(path string) bool
	Log      *slog.Logger
	Now      func() time.Time
}

// Publisher publishes the stage of one session; there is none on this system.
type Publisher struct{}

// New fails: an overlay needs Linux.
func New(root, stage *os.File, o Options) (*Publisher, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (p *Publisher) Close() {}

// Publish does nothing.
func (p *Publisher) Publish() (Report, error) { return Report{}, nil }

// Changed is false.
func (p *Publisher) Changed() bool { return false }

// Crowded is false.
func (p *Publisher) Crowded() bool { return false }

// Prune does nothing.
func (p *Publisher) Prune() error { return nil }

// Look does nothing.
func (p *Publisher) Look() error { return nil }

// KeepMoved keeps nothing: it has a sentence for each move.
func KeepMoved(root *os.File, dir string, moves []Move, o Options) []string {
	m := mover{
		reached: func(string) bool { return false },
		leads:   func(string, string) bool { return false },
		keep:    func(string, string) (string, error) { return "", errors.ErrUnsupported },
	}
	return m.tell(dir, moves)
}

// Left is nothing.
func (p *Publisher) Left() []Left { return nil }

// LookLeft fails.
func LookLeft(root *os.File, l *Left, o Options) (LeftNow, error) {
	return LeftNow{}, errors.ErrUnsupported
}

// ApplyLeft fails.
func ApplyLeft(root *os.File, l *Left, agreed func(LeftNow) error, o Options) error {
	return errors.ErrUnsupported
}
