package session

import (
	"context"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
	"time"

	"mcp-sandbox/manifest"
	"mcp-sandbox/snapshot"
)

// Opening says how a new session begins, and when it ends. It comes from a client,
// so it names nothing of the host.
type Opening struct {
	// Snapshot is the ID, label or latest of a snapshot of the session of the key
	// Source, whose content the new workspace starts with; "" starts empty.
	Source, Snapshot string
	// Manifest is JSON with entries of type file and dir, which are written as by
	// the file tools; nil writes nothing.
	Manifest []byte
	// TTL is after how long the session is deleted, whatever it does; 0 is
	// Config.MaxAge, which is also the most.
	TTL time.Duration

	source *Session
	id     string // of the snapshot
}

// leastTTL is the least of Opening.TTL; ages are looked at this often or less.
const leastTTL = time.Second

// Open makes a client's session, which must not exist. The session is deleted again
// when its content cannot be made. Codes: already_exists, invalid_argument,
// not_found, and those of Get, Commit and the file tools.
func (m *Manager) Open(ctx context.Context, key string, o Opening) (*Session, error) {
	if o.TTL != 0 && o.TTL < leastTTL || m.config.MaxAge > 0 && o.TTL > m.config.MaxAge {
		most := "no bound"
		if m.config.MaxAge > 0 {
			most = m.config.MaxAge.String()
		}
		return nil, errorf("invalid_argument", nil, "the time to live %s is out of range; use %s to %s", o.TTL, leastTTL, most)
	}
	if o.Snapshot != "" && m.config.Staged {
		return nil, errorf("invalid_argument", nil, "a staged workspace starts as the project it is of; leave from_snapshot out")
	}
	entries, err := entriesOf(o.Manifest)
	if err != nil {
		return nil, err
	}
	if m.Known(key) {
		return nil, errAlreadyOpen()
	}
	if o.Snapshot != "" {
		source, done, err := m.Use(ctx, o.Source)
		if err != nil {
			return nil, err
		}
		defer done()
		repo, err := source.Snapshots()
		if err != nil {
			return nil, err
		}
		if o.id, err = repo.Resolve(ctx, o.Snapshot); err != nil {
			return nil, err
		}
		o.source = source
	}
	e, err := m.hold(ctx, key, &o)
	if err != nil {
		return nil, err
	}
	defer m.release(e)
	select {
	case <-e.ready:
	case <-ctx.Done():
		return nil, errorf("cancelled", ctx.Err(), "the call was cancelled while the sandbox was starting; call again")
	}
	switch {
	case e.err != nil:
		return nil, e.err
	case e.session.opening != &o:
		return nil, errAlreadyOpen()
	}
	end, ok := e.session.uses.begin()
	if !ok {
		return nil, errorf("session_not_found", nil, "the sandbox was ended while it was opened; open it again")
	}
	defer end()
	if err := e.session.writeEntries(ctx, "", entries); err != nil {
		return nil, errors.Join(err, m.Delete(key))
	}
	// Like every answer, that of an open is told when it is stored. What a sandbox was to
	// begin with is stored in any case: without it, it would be another one.
	err = nil
	if m.state.lease != nil && (o.Snapshot != "" || len(entries) > 0) && !m.config.Durable.Call {
		_, err = e.session.Stop(ctx)
	}
	if err := errors.Join(err, e.session.Commit(ctx), e.session.Held()); err != nil {
		return nil, errors.Join(err, m.Delete(key))
	}
	return e.session, nil
}

// ErrAlreadyOpen is the cause of already_exists for a session of this server.
var ErrAlreadyOpen = errors.New("the session is open")

func errAlreadyOpen() error {
	return errorf("already_exists", ErrAlreadyOpen, "there is a sandbox of that name; use it as it is, or choose another name")
}

// entriesOf reads a client's manifest, of which only entries that could be written
// by the file tools mean something: the rest is the operator's.
func entriesOf(text []byte) (map[string]manifest.Entry, error) {
	if len(text) == 0 {
		return nil, nil
	}
	m, err := manifest.Parse(text, false, "/")
	if err != nil {
		return nil, err
	}
	if m.Root != "" || m.From != "" || len(m.Environment)+len(m.Grants)+len(m.Ports) > 0 {
		return nil, errorf("invalid_argument", nil, "a manifest of session_open can have entries alone; leave the rest out, send env with each command, and from_snapshot to start from a snapshot")
	}
	return m.Entries, checkEntries(m.Entries)
}

func checkEntries(entries map[string]manifest.Entry) error {
	for name, e := range entries {
		switch {
		case e.Type != "file" && e.Type != "dir":
			return errorf("invalid_argument", nil, "the entry %q is a %s; session_open writes entries of type file and dir", name, e.Type)
		case e.Ephemeral:
			return errorf("invalid_argument", nil, "the entry %q is ephemeral, which session_open does not do; leave that out", name)
		case e.Permissions != "" && (e.Type == "dir" || e.Permissions != "0644" && e.Permissions != "0755"):
			return errorf("invalid_argument", nil, "the entry %q has permissions %s; session_open writes files with 0644 or 0755", name, e.Permissions)
		}
		if err := checkEntries(e.Children); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) writeEntries(ctx context.Context, below string, entries map[string]manifest.Entry) error {
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		e, at := entries[name], path.Join(below, name)
		if e.Type == "dir" {
			if _, err := s.Files().Mkdir(ctx, at, true); err != nil {
				return err
			}
			if err := s.writeEntries(ctx, at, e.Children); err != nil {
				return err
			}
			continue
		}
		runs := e.Permissions == "0755"
		req := WriteRequest{Path: at, Content: e.ContentBase64, Binary: true, Executable: &runs}
		if e.Content != nil {
			req.Content, req.Binary = []byte(*e.Content), false
		}
		if err := s.HasRoom(); err != nil {
			return err
		}
		if _, err := s.Files().WriteFile(ctx, req); err != nil {
			return err
		}
	}
	if below == "" && len(entries) > 0 {
		s.CountMutation()
	}
	return nil
}

// fork puts the content of the opening's snapshot into the new workspace.
func (s *Session) fork(ctx context.Context, repo *snapshot.Repo) error {
	source, err := s.opening.source.Snapshots()
	if err != nil {
		return err
	}
	return carry(ctx, source, s.opening.id, repo)
}

// carry puts the content of a snapshot of one repository into the workspace of
// another.
func carry(ctx context.Context, from *snapshot.Repo, id string, to *snapshot.Repo) error {
	r, w := io.Pipe()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		w.CloseWithError(from.Persist(ctx, id, w, snapshot.Tar))
	}()
	_, err := to.Hydrate(ctx, r, snapshot.ImportRequest{Label: "start", Trusted: true})
	// The writer ends when nobody reads.
	_ = r.CloseWithError(context.Canceled)
	<-sent
	return err
}

// expired says whether the session's time to live is over.
func expired(until, now time.Time) bool { return !until.IsZero() && now.After(until) }
