package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"mcp-sandbox/sandbox"
)

// PruneResult says what a collection did.
type PruneResult struct {
	Snapshots int   `json:"snapshots"` // dropped by retention
	Removed   int64 `json:"removed"`   // bytes given back
	Kept      int64 `json:"kept"`      // bytes of packs left
}

const (
	// A pack is rewritten when less than this share of it is still needed.
	repackPercent = 60
	// orphanAge is how old an object nobody refers to must be before it is
	// removed from a store without locks: it may belong to a snapshot that
	// another process is writing.
	orphanAge = time.Hour
	// collectAfter is how many dropped records make a collection worth it.
	collectAfter = 16
)

// Prune applies the retention and gives back the space of chunks that no
// snapshot needs. Killed at any point, it leaves every snapshot whole: new
// packs and the index over them are written first, then the old ones go.
func (r *Repo) Prune(ctx context.Context) (PruneResult, error) {
	var res PruneResult
	select {
	case r.write <- struct{}{}:
	case <-ctx.Done():
		return res, fail(ctx.Err(), "another snapshot operation is running")
	}
	defer func() { <-r.write }()
	r.gc.Lock()
	defer r.gc.Unlock()
	grace := orphanAge
	if l, ok := r.store.(Locker); ok {
		unlock, err := l.Lock(ctx, true)
		if err != nil {
			return res, fail(err, "the snapshot store could not be locked")
		}
		defer unlock()
		grace = 0
	}
	r.chunks.forget()
	n, err := r.expire(ctx, nil)
	if err == nil {
		res, err = r.collect(ctx, grace)
		res.Snapshots += n
	}
	if err != nil {
		return res, fail(err, "the snapshot store could not be pruned")
	}
	r.dropped = 0
	return res, nil
}

func (r *Repo) collectDue(ctx context.Context) bool {
	select {
	case r.write <- struct{}{}:
	default:
		return false // another process collects and will look again
	}
	due := r.dropped >= collectAfter
	<-r.write
	if due || r.opt.Retention.Bytes <= 0 {
		return due
	}
	list, err := r.store.List(ctx, packPrefix)
	if err != nil {
		return false
	}
	var sum int64
	for _, o := range list {
		sum += o.Size
	}
	return sum > r.opt.Retention.Bytes
}

// retain applies the retention after a snapshot was made; keep are never
// dropped.
func (r *Repo) retain(ctx context.Context, keep ...string) error {
	_, err := r.expire(ctx, keep)
	return err
}

// keptBaselines is how many of the newest baselines Retention.Count spares.
const keptBaselines = 8

// spared are the snapshots that retention never drops: the newest, the newest
// baseline, and those pinned. all is sorted, the oldest first.
func (r *Repo) spared(all []Info) map[string]bool {
	safe := map[string]bool{}
	if len(all) > 0 {
		safe[all[len(all)-1].ID] = true
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Baseline {
			safe[all[i].ID] = true
			break
		}
	}
	r.pinMu.Lock()
	defer r.pinMu.Unlock()
	for id := range r.pinned {
		safe[id] = true
	}
	safe[r.held] = true
	return safe
}

// keepsAll says that neither count nor age drops one of these, which are sorted, so
// that their records need not be read.
func (k Retention) keepsAll(ids []string, now time.Time) bool {
	if len(ids) == 0 || k.Count > 0 && len(ids) > k.Count {
		return len(ids) == 0
	}
	// An id is later than its snapshot where the clock went back in between.
	return k.Age <= 0 || idMilli(ids[0]) >= now.Add(-k.Age).UnixMilli() && idMilli(ids[len(ids)-1]) <= now.UnixMilli()
}

// expire drops records by count and age; the write lock is held.
func (r *Repo) expire(ctx context.Context, keep []string) (int, error) {
	ret := r.opt.Retention
	if ret.Count <= 0 && ret.Age <= 0 {
		return 0, nil
	}
	if ids, err := r.ids(ctx); err != nil || ret.keepsAll(ids, r.opt.Now()) {
		return 0, err
	}
	all, err := r.recall(ctx)
	if err != nil || len(all) < 2 {
		return 0, err
	}
	safe := r.spared(all)
	for _, id := range keep {
		safe[id] = true
	}
	drop := map[string]bool{}
	if ret.Age > 0 {
		limit := r.opt.Now().Add(-ret.Age)
		for _, s := range all {
			if s.Time.Before(limit) && !safe[s.ID] {
				drop[s.ID] = true
			}
		}
	}
	// Other servers of the workspace have baselines too.
	for i, n := len(all)-1, 0; i >= 0 && n < keptBaselines; i-- {
		if all[i].Baseline {
			safe[all[i].ID] = true
			n++
		}
	}
	if ret.Count > 0 {
		excess := len(all) - len(drop) - ret.Count
		for _, auto := range []bool{true, false} {
			for _, s := range all {
				if excess > 0 && s.Auto == auto && !safe[s.ID] && !drop[s.ID] {
					drop[s.ID] = true
					excess--
				}
			}
		}
	}
	for id := range drop {
		if err := r.store.Delete(ctx, recordPrefix+id); err != nil {
			return 0, err
		}
	}
	r.dropped += len(drop)
	return len(drop), nil
}

// collect marks what the snapshots need and sweeps the rest.
func (r *Repo) collect(ctx context.Context, grace time.Duration) (PruneResult, error) {
	var res PruneResult
	x, err := r.chunks.index(ctx)
	if err != nil {
		return res, err
	}
	ids, err := r.ids(ctx)
	if err != nil {
		return res, err
	}
	live := map[chunkID]struct{}{}
	var stored int64
	var all []Info
	records := map[string]*record{}
	for _, id := range ids {
		rec, err := r.load(ctx, id)
		if err != nil {
			return res, unreadableRecord(id, err)
		}
		records[id], all = rec, append(all, rec.Info)
	}
	// Those that stay whatever they weigh are counted first.
	safe := r.spared(all)
	slices.SortStableFunc(ids, func(a, b string) int {
		switch {
		case safe[a] == safe[b]:
			return strings.Compare(a, b)
		case safe[a]:
			return 1
		}
		return -1
	})
	for i := len(ids) - 1; i >= 0; i-- {
		if err := r.mark(ctx, records[ids[i]], live, x, &stored); err != nil {
			return res, unreadableRecord(ids[i], err)
		}
		if r.opt.Retention.Bytes > 0 && stored > r.opt.Retention.Bytes && !safe[ids[i]] {
			// This one is one too many. What it alone needed stays marked until
			// the next collection, which is not worth a second pass.
			for _, id := range ids[:i+1] {
				if err := r.store.Delete(ctx, recordPrefix+id); err != nil {
					return res, err
				}
				res.Snapshots++
			}
			return r.collectAgain(ctx, grace, res)
		}
	}
	return r.sweep(ctx, x, live, grace, res)
}

// unreadableRecord: what a damaged snapshot still has must not be thrown away, it
// may be all there is of a file. Deleting it lets the rest be pruned.
func unreadableRecord(id string, err error) error {
	return sandbox.Errorf(codeFailed, err, "snapshot %s cannot be read, so nothing was pruned; delete it first", id)
}

// collectAgain marks again after records were dropped for size, so that their
// chunks go at once.
func (r *Repo) collectAgain(ctx context.Context, grace time.Duration, sum PruneResult) (PruneResult, error) {
	res, err := r.collect(ctx, grace)
	res.Snapshots += sum.Snapshots
	return res, err
}

// mark adds what a snapshot needs to live and its stored size to sum.
func (r *Repo) mark(ctx context.Context, rec *record, live map[chunkID]struct{}, x *index, sum *int64) error {
	need := func(id chunkID) {
		if _, ok := live[id]; ok {
			return
		}
		live[id] = struct{}{}
		if p, ok := x.find(id); ok {
			*sum += int64(p.size)
		}
	}
	pieces, _, err := rec.chunks()
	if err != nil {
		return err
	}
	for _, p := range pieces {
		need(p.id)
	}
	m, err := r.openManifest(ctx, rec)
	if err != nil {
		return err
	}
	defer m.close()
	for {
		e, err := m.next()
		if err != nil || e == nil {
			return err
		}
		for _, p := range e.pieces {
			if !p.hole() {
				need(p.id)
			}
		}
	}
}

// sweep rewrites packs that are mostly garbage, drops those that are all
// garbage, and replaces the indexes by one.
func (r *Repo) sweep(ctx context.Context, x *index, live map[chunkID]struct{}, grace time.Duration, res PruneResult) (PruneResult, error) {
	packs, err := r.store.List(ctx, packPrefix)
	if err != nil {
		return res, err
	}
	used := make([]int64, len(x.packs)) // live bytes by pack number
	for id, e := range x.chunks {
		if _, ok := live[id]; ok {
			used[e.pack] += int64(e.size)
		}
	}
	const (
		keep = iota
		repack
		drop
	)
	fate := make([]int, len(x.packs))
	for i := range fate {
		fate[i] = drop // unless it is there
	}
	var remove []Object
	for _, o := range packs {
		id, ok := parsePackKey(o.Key)
		if !ok {
			continue
		}
		n, known := x.number[id]
		switch {
		case !known:
			if r.opt.Now().Sub(o.Time) >= grace {
				remove = append(remove, o)
			}
		case used[n] == 0:
			remove = append(remove, o)
		case used[n]*100 < o.Size*repackPercent:
			fate[n] = repack
			remove = append(remove, o)
		default:
			fate[n] = keep
			res.Kept += o.Size
		}
	}
	// A chunk whose pack is gone stays in the index only if nothing can be done
	// about it: dropping the row lets the next snapshot store it again.
	var rows []located
	var move []located
	for id, e := range x.chunks {
		_, alive := live[id]
		l := located{id, place{x.packs[e.pack], e.off, e.size, e.raw}}
		switch {
		case fate[e.pack] == keep:
			rows = append(rows, l)
		case fate[e.pack] == repack && alive:
			move = append(move, l)
		}
	}
	if len(remove) == 0 && len(x.keys) <= 1 {
		return res, nil
	}
	moved, err := r.repack(ctx, move)
	if err != nil {
		return res, err
	}
	rows = append(rows, moved...)
	for _, l := range moved {
		res.Kept += int64(l.size)
	}
	fresh := ""
	if len(rows) > 0 {
		if fresh, err = putIndex(ctx, r.store, rows); err != nil {
			return res, err
		}
	}
	for k := range x.keys {
		if k != fresh {
			if err := r.store.Delete(ctx, k); err != nil {
				return res, err
			}
		}
	}
	r.chunks.forget()
	made := map[packID]bool{}
	for _, l := range moved {
		made[l.pack] = true
	}
	for _, o := range remove {
		// A pack rewritten whole has the name of its old self.
		if id, _ := parsePackKey(o.Key); made[id] {
			continue
		}
		if err := r.store.Delete(ctx, o.Key); err != nil {
			return res, err
		}
		res.Removed += o.Size
	}
	return res, nil
}

// repack copies chunks as they are stored, in their old order.
func (r *Repo) repack(ctx context.Context, move []located) ([]located, error) {
	if len(move) == 0 {
		return nil, nil
	}
	sortPlaces(move)
	p := newPacker(ctx, r.store, localUploads)
	defer p.abandon()
	dec, err := newExpander()
	if err != nil {
		return nil, err
	}
	defer restExpander(dec)
	var plain []byte
	for _, l := range move {
		b, err := r.chunks.stored(ctx, l.place)
		if errors.Is(err, fs.ErrNotExist) {
			err = damaged("a pack is missing")
		}
		if err == nil {
			// Verified before the old copy goes.
			plain, err = expand(dec, plain, b, l.id, l.raw)
		}
		if err != nil {
			return nil, err
		}
		if err := p.add(l.id, b, int(l.raw)); err != nil {
			return nil, err
		}
	}
	return p.finish()
}
