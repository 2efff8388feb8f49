package collect

import (
	"context"

	"github.com/berthhq/berth/blobstore/catalog"
)

// collectMarkers condemns and removes the markers of repositories that have nothing left,
// and takes the mark off those that have.
func (r *run) collectMarkers(ctx context.Context) error {
	return r.eachOf(ctx, "repositories", len(r.repos), func(ctx context.Context, i int) error {
		if r.repos[i].whole {
			r.collectMarker(ctx, r.repos[i])
		}
		return ctx.Err()
	})
}

// collectMarker reads the marker only if it may have to change. The marker of a repository
// whose links are never removed says nothing about its links.
func (r *run) collectMarker(ctx context.Context, repo *repository) {
	linked := repo.collect && repo.linked.Load() && !r.cfg.Broken.MarkersWithoutLinks
	if !repo.condemned && (repo.keys.Load() > 0 || linked) {
		return
	}
	settle(ctx, r, object[catalog.Marker]{
		key:  catalog.MarkerKey(repo.name),
		due:  r.deadline(),
		kind: &r.report.total.Markers,
		decide: func(ctx context.Context, s *catalog.StoredMarker) (verdict, error) {
			inUse, err := r.hasKeys(ctx, catalog.RepoPrefix(repo.name))
			inUse = inUse || linked
			switch {
			case err != nil:
			case inUse && s.Value.State == catalog.Condemned:
				s.Value.State = catalog.Live
				return restore, nil
			case inUse:
			case s.Value.State != catalog.Condemned:
				s.Value.State = catalog.Condemned
				return condemn, nil
			case r.old(s.Object):
				return remove, nil
			}
			return keep, err
		},
	})
}

// hasKeys reports whether a key has the prefix.
func (r *run) hasKeys(ctx context.Context, prefix string) (bool, error) {
	for _, err := range r.meter.List(ctx, prefix, "", 1) {
		return err == nil, err
	}
	return false, nil
}
