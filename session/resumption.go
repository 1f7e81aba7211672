package session

import (
	"context"
	"errors"
	"time"
)

// ErrElsewhere is the cause of already_exists for a session that another server
// holds at the moment: nothing of the call was done, and it may be sent again.
var ErrElsewhere = errors.New("the session is in use by another server")

// Elsewhere is an ErrElsewhere with what is known of the server: where to send the
// call. Its ID is "" where no server is known, as when the directory is away.
type Elsewhere struct {
	Holder
	Name string // of the session
}

func (e *Elsewhere) Error() string { return ErrElsewhere.Error() }

// ElsewhereText tells a client why its call was not done, for an ErrElsewhere.
func ElsewhereText(err error) string {
	if at := (*Elsewhere)(nil); errors.As(err, &at) && at.ID == "" && at.Name == "" {
		return err.Error() // nobody has it: the directory is away
	}
	return "this sandbox is in use at another server; retry in a moment"
}

// Unwrap makes every Elsewhere an ErrElsewhere.
func (e *Elsewhere) Unwrap() error { return ErrElsewhere }

// Resumption says from what a session came back, and what did not come back.
type Resumption struct {
	// From is "workspace", where the files are as the last write left them,
	// "snapshot", where the workspace was gone or on another machine and what was
	// written after the snapshot is lost, or "nothing", where there was none yet.
	From string `json:"from"`
	// Snapshot and Time are those of the snapshot, in UTC.
	Snapshot string     `json:"snapshot_id,omitempty"`
	Time     *time.Time `json:"time,omitempty"`
	// Lost are sentences: processes, /tmp and, after a snapshot, changes.
	Lost []string `json:"lost"`
}

// Text is one sentence for the reader of a result.
func (r *Resumption) Text() string {
	text := "this session was resumed: its files are as they were last written"
	if r.From == "nothing" {
		text = "this session began again: its server was lost before anything of it was stored"
	}
	if r.From == "snapshot" {
		text = "this session was resumed from snapshot " + r.Snapshot
		if r.Time != nil {
			text += " of " + r.Time.Format(time.RFC3339)
		}
	}
	for i, l := range r.Lost {
		if i == 0 {
			text += "; "
		} else {
			text += ", "
		}
		text += l
	}
	return text
}

// noteResumption prepares what the first result after a resume tells.
func (s *Session) noteResumption(ctx context.Context) {
	r := &Resumption{From: "workspace", Lost: []string{"processes that ran in it have ended", "/tmp is empty"}}
	if s.recreated {
		r.From, r.Snapshot = "snapshot", s.snapshotID
		if !s.resumed.Clean {
			r.Lost = append([]string{s.config.Durable.lost()}, r.Lost...)
		}
		if s.resumed.Unread != "" {
			r.Lost = append([]string{"files that could not be read when it was stored are lost: " + s.resumed.Unread}, r.Lost...)
		}
		if s.resumed.Workspace != s.root {
			r.Lost = append(r.Lost, "the workspace is now "+s.root)
		}
		if repo, err := s.Snapshots(); err == nil {
			if info, err := repo.Get(ctx, s.snapshotID); err == nil {
				at := info.Time.UTC()
				r.Time = &at
			}
		}
	}
	s.resumption.Store(r)
}

// noteNothing is noteResumption for a session of which nothing came back.
func (s *Session) noteNothing() {
	s.resumption.Store(&Resumption{From: "nothing", Lost: []string{"its files are lost", "processes that ran in it have ended"}})
}

// TakeResumption gives it once, nil from then on and for a session that is new.
func (s *Session) TakeResumption() *Resumption { return s.resumption.Swap(nil) }
