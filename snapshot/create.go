package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"
)

// CreateRequest asks for a snapshot.
type CreateRequest struct {
	Label string // shown in lists, up to 200 bytes
	// Auto marks a checkpoint that the server makes by itself. It is not
	// stored when nothing changed since the newest snapshot, and goes first
	// when Retention.Count is passed.
	Auto bool
	// Baseline marks the state before the first change: retention keeps it, see
	// [Retention].
	Baseline bool
	// WithoutIgnored leaves out what version control ignores, see
	// Options.Ignored. A restore of such a snapshot leaves that alone too.
	WithoutIgnored bool
	// MaxBytes, if not 0, fails the call with limit_reached as soon as the files
	// that have to be read, those the newest snapshot does not know, are larger
	// together.
	MaxBytes int64
}

const maxLabel = 200

// Create stores the workspace as it is. A failed or killed Create leaves no
// snapshot and all older ones whole.
func (r *Repo) Create(ctx context.Context, q CreateRequest) (Info, error) {
	if len(q.Label) > maxLabel {
		return Info{}, invalid("the label has %d bytes; use at most %d", len(q.Label), maxLabel)
	}
	if q.Label == Latest {
		return Info{}, invalid("the label %s means the newest snapshot everywhere; choose another", q.Label)
	}
	done, err := r.begin(ctx)
	if err != nil {
		return Info{}, err
	}
	rec, s, err := r.create(ctx, q)
	if err == nil && rec.Info.Unchanged {
		done()
		return s.unread(rec.Info), nil
	}
	if err == nil {
		err = r.retain(ctx, rec.Info.ID)
	}
	done()
	if err != nil {
		return Info{}, fail(err, "the snapshot could not be made")
	}
	if r.collectDue(ctx) {
		if _, err := r.Prune(ctx); err != nil {
			r.log.Warn("collecting garbage failed", "cause", err)
		}
	}
	return s.unread(rec.Info), nil
}

// unread adds what the walk could not read. A record does not say it: an unchanged
// snapshot is that of an earlier walk.
func (s *scan) unread(i Info) Info {
	for _, p := range s.skipped {
		if p.Reason != skipUnreadable && p.Reason != skipLong {
			continue
		}
		if i.UnreadCount++; i.UnreadCount <= maxSkipped {
			i.Unread = append(i.Unread, printable(p.Path))
		}
	}
	return i
}

// create does it under the locks and also returns what the walk left out.
func (r *Repo) create(ctx context.Context, q CreateRequest) (*record, *scan, error) {
	prev, last, err := r.newest(ctx)
	if err != nil {
		return nil, nil, err
	}
	w, err := r.newWriter(ctx, prev)
	if err != nil {
		return nil, nil, err
	}
	defer w.abandon()
	s := &scan{r: r, save: w.save, sink: w.add, most: q.MaxBytes}
	if q.WithoutIgnored {
		if s.leave, err = r.ignored(ctx); err != nil {
			return nil, nil, err
		}
	}
	if prev != nil {
		m, err := r.openManifest(ctx, prev)
		if err != nil && ctx.Err() != nil {
			return nil, nil, ctx.Err()
		} else if err != nil {
			r.log.Warn("the newest snapshot cannot be read, reading all files", "cause", err)
		} else {
			defer m.close()
			s.prev = m
		}
	}
	if err := s.run(ctx); err != nil {
		return nil, nil, err
	}
	r.log.Debug("workspace scanned", "files", w.info.Files, "read", s.read)
	w.skip(s.skipped)
	w.info.Label, w.info.Auto, w.info.Baseline, w.info.WithoutIgnored = q.Label, q.Auto, q.Baseline, q.WithoutIgnored
	rec, err := w.commit(ctx, last)
	return rec, s, err
}

// newest returns the newest record that can be read, if any, and the id that
// the next must sort after.
func (r *Repo) newest(ctx context.Context) (*record, string, error) {
	ids, err := r.ids(ctx)
	if err != nil || len(ids) == 0 {
		return nil, "", err
	}
	last := ids[len(ids)-1]
	for i := len(ids) - 1; i >= 0; i-- {
		if rec := r.known.newest(r, ids[i]); rec != nil {
			return rec, last, nil
		}
		rec, err := r.load(ctx, ids[i])
		if err == nil {
			return rec, last, nil
		}
		if ctx.Err() != nil {
			return nil, "", ctx.Err()
		}
		r.log.Warn("a snapshot's record cannot be read", "snapshot", ids[i], "cause", err)
	}
	return nil, last, nil
}

// saver tells new chunks from stored ones.
type saver struct {
	store *chunkStore
	data  *packer

	mu      sync.Mutex
	claimed map[chunkID]struct{}
}

// claim returns true to the one caller that must store id.
func (s *saver) claim(ctx context.Context, id chunkID) (bool, error) {
	x, err := s.store.index(ctx)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Only learn and forget change the index, and neither runs concurrently with this.
	if _, ok := x.chunks[id]; ok {
		return false, nil
	}
	if _, ok := s.claimed[id]; ok {
		return false, nil
	}
	s.claimed[id] = struct{}{}
	return true, nil
}

// writer builds one snapshot: entries in, a record out.
type writer struct {
	r    *Repo
	ctx  context.Context
	info Info
	prev *record
	save *saver
	meta *packer // the manifest's chunks, kept together for reading it in one go
	comp *compressor
	m    *manifestWriter
	buf  []byte // manifest bytes not yet cut
	next int    // as many of them are worth a try
	out  []byte
	man  []chunkID
	old  map[chunkID]recordChunk // of prev's manifest
	raw  map[chunkID]uint32
}

const localUploads = 2

func (r *Repo) newWriter(ctx context.Context, prev *record) (*writer, error) {
	comp, err := newCompressor()
	if err != nil {
		return nil, err
	}
	w := &writer{r: r, ctx: ctx, prev: prev, comp: comp, old: map[chunkID]recordChunk{}, raw: map[chunkID]uint32{}}
	w.save = &saver{store: r.chunks, data: newPacker(ctx, r.store, localUploads), claimed: map[chunkID]struct{}{}}
	w.meta = newPacker(ctx, r.store, 1)
	w.m = newManifestWriter(w)
	w.next = 2 * manifestCuts().avg
	if prev != nil {
		pieces, _, err := prev.chunks()
		if err != nil {
			r.log.Warn("the newest snapshot's record is damaged", "cause", err)
		}
		for i, p := range pieces {
			w.old[p.id] = prev.Manifest[i]
		}
	}
	return w, nil
}

func (w *writer) abandon() {
	w.save.data.abandon()
	w.meta.abandon()
	if w.comp != nil {
		w.comp.rest()
		w.comp = nil
	}
}

// add takes the next entry.
func (w *writer) add(e *entry) error {
	switch e.kind {
	case kindDir:
		w.info.Directories++
	case kindFile:
		w.info.Files++
		if e.hard != "" {
			w.info.HardLinks++
		} else {
			w.info.Bytes += e.size
		}
	case kindLink:
		w.info.Links++
	}
	return w.m.add(e)
}

func (w *writer) skip(all []Skipped) {
	w.info.SkippedCount = len(all)
	w.info.Skipped = append([]Skipped(nil), all[:min(len(all), maxSkipped)]...)
	for i := range w.info.Skipped {
		// JSON holds no arbitrary bytes; a path is shown as a person can read it.
		w.info.Skipped[i].Path = printable(w.info.Skipped[i].Path)
	}
}

// Write takes manifest bytes and cuts them.
func (w *writer) Write(b []byte) (int, error) {
	w.buf = append(w.buf, b...)
	for c := manifestCuts(); len(w.buf) >= w.next; {
		n := c.cut(w.buf)
		// A cut at the end may only be the end of what is there.
		if n == len(w.buf) && n < c.max {
			w.next = 2 * n
			break
		}
		w.next = 2 * c.avg
		if err := w.cut(n); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// cut takes the first n bytes of buf as a chunk.
func (w *writer) cut(n int) error {
	plain := w.buf[:n]
	id := chunkID(sha256.Sum256(plain))
	w.man = append(w.man, id)
	w.raw[id] = uint32(n)
	if _, ok := w.old[id]; !ok {
		isNew, err := w.save.claim(w.ctx, id)
		if err != nil {
			return err
		}
		if isNew {
			w.out = w.comp.compress(w.out, plain)
			if err := w.meta.add(id, w.out, n); err != nil {
				return err
			}
		}
	}
	w.buf = w.buf[:copy(w.buf, w.buf[n:])]
	return nil
}

// commit makes the snapshot visible: packs, then the index over them, then the
// record. Each is safe on disk before the next names it.
func (w *writer) commit(ctx context.Context, last string) (*record, error) {
	if err := w.m.close(); err != nil {
		return nil, err
	}
	for len(w.buf) > 0 {
		if err := w.cut(manifestCuts().cut(w.buf)); err != nil {
			return nil, err
		}
	}
	if w.info.Auto && w.unchanged() {
		rec := *w.prev
		if w.info.Baseline && !rec.Info.Baseline {
			rec.Info.Baseline = true
			if err := w.r.putRecord(ctx, &rec); err != nil {
				return nil, err
			}
		}
		rec.Info.Unchanged = true
		return &rec, nil
	}
	if err := w.save.data.absorb(w.meta); err != nil {
		return nil, err
	}
	rows, err := w.save.data.finish()
	if err != nil {
		return nil, err
	}
	more, err := w.meta.finish()
	if err != nil {
		return nil, err
	}
	rows = append(rows, more...)
	if len(rows) > 0 {
		key, err := putIndex(ctx, w.r.store, rows)
		if err != nil {
			return nil, err
		}
		w.r.chunks.learn(key, rows)
	}
	w.info.StoredBytes = w.save.data.stored + w.meta.stored
	w.info.Time = w.r.opt.Now().UTC()
	w.info.ID = newID(w.info.Time, last)
	rec := &record{Version: recordVersion, Info: w.info}
	if rec.Manifest, err = w.places(ctx, rows); err != nil {
		return nil, err
	}
	return rec, w.r.putRecord(ctx, rec)
}

func (r *Repo) putRecord(ctx context.Context, rec *record) error {
	b, err := rec.encode()
	if err != nil {
		return err
	}
	if len(b) > maxRecord {
		return errors.New("the record is too large")
	}
	err = r.store.Put(ctx, recordPrefix+rec.Info.ID, bytes.NewReader(b), int64(len(b)))
	if err == nil && r.far() {
		r.known.note(rec)
	}
	return err
}

func (w *writer) unchanged() bool {
	if w.prev == nil || w.prev.Info.WithoutIgnored != w.info.WithoutIgnored || len(w.prev.Manifest) != len(w.man) {
		return false
	}
	for i, id := range w.man {
		if w.prev.Manifest[i].ID != id.String() {
			return false
		}
	}
	return true
}

func (w *writer) places(ctx context.Context, rows []located) ([]recordChunk, error) {
	fresh := map[chunkID]place{}
	for _, r := range rows {
		if _, ok := w.raw[r.id]; ok {
			fresh[r.id] = r.place
		}
	}
	out := make([]recordChunk, len(w.man))
	for i, id := range w.man {
		if c, ok := w.old[id]; ok {
			out[i] = c
			continue
		}
		p, ok := fresh[id]
		if !ok {
			var err error
			if p, err = w.r.chunks.find(ctx, id); err != nil {
				return nil, err
			}
		}
		out[i] = recordChunk{ID: id.String(), Pack: hex.EncodeToString(p.pack[:]), Off: p.off, Size: p.size, Raw: p.raw}
	}
	return out, nil
}
