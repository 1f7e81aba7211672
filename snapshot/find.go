package snapshot

import (
	"context"
	"errors"

	"mcp-sandbox/sandbox"
)

// Latest names the newest snapshot wherever an id is taken; of those the
// workspace is compared with or restored from, the newest that differs from it.
const Latest = "latest"

// Resolve returns the id of the snapshot that ref names: an id, a label, of which
// the newest snapshot with it is meant, or [Latest]. snapshot_not_found if there
// is none.
func (r *Repo) Resolve(ctx context.Context, ref string) (string, error) {
	if validID(ref) {
		_, err := r.load(ctx, ref)
		if err == nil || errors.Is(err, errDamaged) || sandbox.CodeOf(err) != codeNotFound {
			return ref, nil
		}
	}
	list, err := r.List(ctx)
	if err != nil {
		return "", err
	}
	for i := len(list) - 1; i >= 0; i-- {
		if ref == Latest || ref != "" && list[i].Label == ref {
			return list[i].ID, nil
		}
	}
	if ref == Latest {
		return "", sandbox.Errorf(codeNotFound, nil, "there are no snapshots; create one first")
	}
	return "", notFound(ref)
}

// errDiffers ends a comparison at the first difference.
var errDiffers = errors.New("differs")

func (r *Repo) differs(ctx context.Context, id string) (bool, error) {
	err := r.compare(ctx, id, "", "", &scan{r: r}, func(a, b *entry) error {
		if _, ok := changeOf(a, b); ok {
			return errDiffers
		}
		return nil
	})
	if errors.Is(err, errDiffers) {
		return true, nil
	}
	return false, err
}

// Find is Resolve for a comparison with the workspace or a restore: Latest is the
// snapshot prefer, if not "", or else the newest one, that differs from the
// workspace. Where none does it is the newest.
func (r *Repo) Find(ctx context.Context, ref, prefer string) (string, error) {
	if ref != Latest {
		return r.Resolve(ctx, ref)
	}
	if prefer != "" {
		if ok, err := r.differs(ctx, prefer); err == nil && ok {
			return prefer, nil
		}
	}
	ids, err := r.ids(ctx)
	if err != nil {
		return "", fail(err, "the snapshots could not be listed")
	}
	newest := ""
	for i := len(ids) - 1; i >= 0; i-- {
		if ids[i] == prefer {
			continue
		}
		ok, err := r.differs(ctx, ids[i])
		if errors.Is(err, errDamaged) || sandbox.CodeOf(err) == codeNotFound {
			continue // dropped since, or of no use
		}
		if err != nil {
			return "", err
		}
		if ok {
			return ids[i], nil
		}
		if newest == "" {
			newest = ids[i]
		}
	}
	if newest == "" {
		return r.Resolve(ctx, Latest)
	}
	return newest, nil
}
