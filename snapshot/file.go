package snapshot

import "context"

// File gives the content of a file of at most 256 KiB, and its mtime in nanoseconds, as
// a snapshot holds it; ok is false where it holds no such file. Codes:
// snapshot_not_found, snapshot_failed.
func (r *Repo) File(ctx context.Context, id, path string) (text []byte, mtime int64, ok bool, err error) {
	done, err := r.share(ctx)
	if err != nil {
		return nil, 0, false, err
	}
	defer done()
	m, err := r.manifest(ctx, id)
	if err != nil {
		return nil, 0, false, err
	}
	defer m.close()
	for {
		e, err := m.next()
		if err != nil || e == nil {
			return nil, 0, false, err
		}
		if e.path != path {
			continue
		}
		if e.kind != kindFile || e.size > maxTextDiff {
			return nil, 0, false, nil
		}
		mtime := e.mtime
		text, err := r.content(ctx, e, false)
		return text, mtime, err == nil, err
	}
}
