package snapshot

import (
	"context"
	"sync"
)

// known are records that were read or written, so that a store which is far away is
// not asked for each of them at every Create. Only this Repo changes the records of
// such a store, see package s3store; a store on this machine may have other writers.
type known struct {
	mu    sync.Mutex
	infos map[string]Info // without what was skipped
	last  *record
}

// far says whether a request of the store is a round trip.
func (r *Repo) far() bool {
	w, ok := r.store.(windower)
	return ok && w.Window() > 0
}

// note remembers a record as it is in the store.
func (k *known) note(rec *record) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.infos == nil {
		k.infos = map[string]Info{}
	}
	info := rec.Info
	info.Skipped, info.Unchanged = nil, false
	k.infos[info.ID] = info
	if k.last == nil || k.last.Info.ID <= info.ID {
		last := *rec
		last.Info.Unchanged = false
		k.last = &last
	}
}

// newest is the record of that id if it is the newest one known.
func (k *known) newest(r *Repo, id string) *record {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !r.far() || k.last == nil || k.last.Info.ID != id {
		return nil
	}
	rec := *k.last
	return &rec
}

// recall is List for retention, which needs no more of a record than what never
// changes.
func (r *Repo) recall(ctx context.Context) ([]Info, error) {
	if !r.far() {
		return r.List(ctx)
	}
	ids, err := r.ids(ctx)
	if err != nil {
		return nil, fail(err, "the snapshots could not be listed")
	}
	out := make([]Info, 0, len(ids))
	for _, id := range ids {
		r.known.mu.Lock()
		info, ok := r.known.infos[id]
		r.known.mu.Unlock()
		if !ok {
			rec, err := r.load(ctx, id)
			if err != nil {
				if ctx.Err() != nil {
					return nil, fail(ctx.Err(), "the snapshots could not be listed")
				}
				continue // List tells of it
			}
			info = rec.Info
		}
		out = append(out, info)
	}
	r.known.mu.Lock()
	defer r.known.mu.Unlock()
	if len(r.known.infos) > 2*len(out)+16 {
		for id := range r.known.infos {
			if !contains(out, id) {
				delete(r.known.infos, id)
			}
		}
	}
	return out, nil
}

func contains(list []Info, id string) bool {
	for _, in := range list {
		if in.ID == id {
			return true
		}
	}
	return false
}
