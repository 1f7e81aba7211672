package session

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"mcp-sandbox/snapshot"
	"mcp-sandbox/workspace"
)

// transfers are archives on their way out or in, in the scratch directory: a
// message holds only a part of a large one.
type transfers struct {
	mu   sync.Mutex
	byID map[string]*transfer
}

// transfer is one archive. Its file has no other user than the calls that name it.
type transfer struct {
	mu   sync.Mutex
	file *os.File
	in   bool
	gone bool
	last time.Time // when a call named it; under the mutex of all
}

// maxTransfers bounds the archives of a session that are on their way.
const maxTransfers = 8

func (t *transfers) add(s *Session, in bool) (string, *transfer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.byID) >= maxTransfers && !t.dropIdle() {
		return "", nil, errorf("limit_reached", nil, "%d archives of this session are on their way; finish one first", maxTransfers)
	}
	f, err := os.CreateTemp(s.scratch, "archive-")
	if err != nil {
		return "", nil, errorf("disk_full", err, "the archive has no place in the state directory; make room there")
	}
	// By its descriptor alone, so that a killed server leaves none.
	if err := os.Remove(f.Name()); err != nil {
		return "", nil, errorf("internal", errors.Join(err, f.Close()), "the archive has no place in the state directory; check --state-dir")
	}
	id, one := randomHex(8), &transfer{file: f, in: in, last: time.Now()}
	if t.byID == nil {
		t.byID = map[string]*transfer{}
	}
	t.byID[id] = one
	return id, one, nil
}

// dropIdle drops the one that no call has named for the longest time: the reply with
// its id may have been lost, and then nobody can end it. The caller holds t.mu.
func (t *transfers) dropIdle() bool {
	oldest := ""
	for id, one := range t.byID {
		if !one.mu.TryLock() {
			continue // a call is in it
		}
		one.mu.Unlock()
		if oldest == "" || one.last.Before(t.byID[oldest].last) {
			oldest = id
		}
	}
	if oldest == "" {
		return false
	}
	one := t.byID[oldest]
	if !one.mu.TryLock() {
		return false
	}
	defer one.mu.Unlock()
	delete(t.byID, oldest)
	one.gone = true
	_ = one.file.Close()
	return true
}

// take finds one and locks it.
func (t *transfers) take(id string, in bool) (*transfer, error) {
	t.mu.Lock()
	one := t.byID[id]
	if one != nil {
		one.last = time.Now()
	}
	t.mu.Unlock()
	if one == nil || one.in != in {
		return nil, errorf("not_found", nil, "there is no archive %q on its way; begin again without an id", id)
	}
	one.mu.Lock()
	if one.gone {
		one.mu.Unlock()
		return nil, errorf("not_found", nil, "the archive %q is complete; begin again without an id", id)
	}
	return one, nil
}

// drop forgets one that its caller has locked.
func (t *transfers) drop(id string, one *transfer) {
	t.mu.Lock()
	delete(t.byID, id)
	t.mu.Unlock()
	one.gone = true
	_ = one.file.Close()
}

func (t *transfers) close() {
	t.mu.Lock()
	all := t.byID
	t.byID = nil
	t.mu.Unlock()
	for id, one := range all {
		one.mu.Lock()
		if !one.gone {
			t.drop(id, one)
		}
		one.mu.Unlock()
	}
}

// ExportRequest asks for a part of the workspace as a tar.
type ExportRequest struct {
	// ID names an archive that was begun; "" begins one.
	ID string
	// Offset is the first byte wanted, Limit the most, in bytes.
	Offset int64
	Limit  int
	// Skip are paths to leave out, relative to the workspace, with all below.
	Skip []string
}

// ExportPart is a part of an archive of Size bytes.
type ExportPart struct {
	ID   string
	Data []byte
	Size int64
}

// Export writes the workspace as a tar, as a snapshot sees it: without what is
// hidden or ephemeral. The call that gets the last byte ends it. Codes:
// session_not_found, invalid_argument, not_found, limit_reached, snapshot_failed,
// disk_full, cancelled.
func (s *Session) Export(ctx context.Context, r ExportRequest) (ExportPart, error) {
	if err := s.requireRunning(); err != nil {
		return ExportPart{}, err
	}
	id, one, err := r.ID, (*transfer)(nil), error(nil)
	if id != "" {
		one, err = s.transfers.take(id, false)
	} else if id, one, err = s.transfers.add(s, false); err == nil {
		one.mu.Lock()
		if err = s.pack(ctx, one.file, r.Skip); err != nil {
			s.transfers.drop(id, one)
			one.mu.Unlock()
		}
	}
	if err != nil {
		return ExportPart{}, err
	}
	defer one.mu.Unlock()
	fi, err := one.file.Stat()
	if err != nil {
		return ExportPart{}, errorf("internal", err, "the archive cannot be read; begin again without an id")
	}
	part := ExportPart{ID: id, Size: fi.Size()}
	part.Data = make([]byte, max(0, min(int64(r.Limit), part.Size-r.Offset)))
	if _, err := one.file.ReadAt(part.Data, r.Offset); err != nil && !errors.Is(err, io.EOF) {
		return ExportPart{}, errorf("internal", err, "the archive cannot be read; begin again without an id")
	}
	if r.Offset+int64(len(part.Data)) >= part.Size {
		s.transfers.drop(id, one)
	}
	return part, nil
}

// pack writes a snapshot of now to w.
func (s *Session) pack(ctx context.Context, w io.Writer, skip []string) error {
	repo, err := s.Snapshots()
	if err != nil {
		return err
	}
	in, err := repo.Create(ctx, snapshot.CreateRequest{Label: "export", Auto: true})
	if err != nil {
		return err
	}
	if len(skip) == 0 {
		return repo.Persist(ctx, in.ID, w, snapshot.Tar)
	}
	r, to := io.Pipe()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		to.CloseWithError(repo.Persist(ctx, in.ID, to, snapshot.Tar))
	}()
	err = leaveOut(w, r, skip)
	_ = r.CloseWithError(context.Canceled)
	<-sent
	return err
}

// leaveOut copies a tar without some paths and what is below them.
func leaveOut(w io.Writer, r io.Reader, skip []string) error {
	in, out := tar.NewReader(r), tar.NewWriter(w)
	skips := func(name string) bool {
		name = filepath.Clean(name)
		for _, s := range skip {
			if s = filepath.Clean(s); name == s || within(name, s) {
				return true
			}
		}
		return false
	}
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if skips(h.Name) {
			continue
		}
		if h.Typeflag == tar.TypeLink && skips(h.Linkname) {
			return errorf("snapshot_failed", nil, "%q is a hard link to a file that is to be left out; leave both out, or neither", strings.TrimPrefix(h.Name, "./"))
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
	return out.Close()
}

// ImportRequest is a part of a tar to unpack.
type ImportRequest struct {
	// ID names an archive that was begun; "" begins one.
	ID   string
	Data []byte
	// More: parts follow, and nothing is unpacked yet.
	More    bool
	Extract ExtractRequest
}

// ImportResult tells what Import did.
type ImportResult struct {
	ID       string
	Received int64 // bytes, so far
	workspace.ExtractResult
}

// Import takes a part of a tar, and with the last one unpacks it as
// [workspace.FS.Extract] does: all of it or nothing, under the session's policy and
// limits. Codes: those of Extract, session_not_found, limit_reached, disk_full.
func (s *Session) Import(ctx context.Context, r ImportRequest) (_ ImportResult, err error) {
	if err := s.requireRunning(); err != nil {
		return ImportResult{}, err
	}
	id, one := r.ID, (*transfer)(nil)
	if id != "" {
		one, err = s.transfers.take(id, true)
	} else if id, one, err = s.transfers.add(s, true); err == nil {
		one.mu.Lock()
	}
	if err != nil {
		return ImportResult{}, err
	}
	defer one.mu.Unlock()
	defer func() {
		if err != nil || !r.More {
			s.transfers.drop(id, one)
		}
	}()
	fi, err := one.file.Stat()
	if err != nil {
		return ImportResult{}, errorf("internal", err, "the archive cannot be kept; send it again from the beginning")
	}
	res := ImportResult{ID: id, Received: fi.Size() + int64(len(r.Data))}
	if most := r.Extract.InputLimit(); res.Received > most {
		return ImportResult{}, errorf("too_large", nil, "the archive is over %d bytes long, the most that is taken; send a smaller one", most)
	}
	if _, err := one.file.WriteAt(r.Data, fi.Size()); err != nil {
		return ImportResult{}, errorf("disk_full", err, "the archive has no room in the state directory; make room there")
	}
	if r.More {
		return res, nil
	}
	r.Extract.Path, r.Extract.File = "the archive", one.file
	res.ExtractResult, err = s.files.Extract(ctx, r.Extract)
	s.watch.stale()
	return res, err
}
