package collect

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
)

// link settles a link, if its repository was read whole and may lose links.
func (w *blobWalk) link(ctx context.Context, o listed, d digest.Digest, name string) error {
	repo := w.byName[name]
	if repo == nil {
		w.stays = true
		return nil
	}
	repo.linked.Store(true)
	if !repo.whole || !repo.collect || repo.kept {
		w.stays = true
		return nil
	}
	n, err := newName(d, repo.index)
	if err != nil {
		return err
	}
	named, err := w.names.has(n)
	if err != nil {
		return err
	}
	if !w.concerns(repo, o.Object, named) {
		w.stays = true
		return nil
	}
	before := w.failures.count()
	var size int64
	v := settle(ctx, w.run, object[catalog.Record]{
		key:  o.Key,
		due:  w.deadline(),
		kind: &w.report.total.Links,
		decide: func(_ context.Context, s *catalog.StoredRecord) (verdict, error) {
			size = s.Value.Size
			return w.decideLink(named, s), nil
		},
		size: func(s catalog.Record) int64 { return s.Size },
	})
	if w.failures.count() != before { // at the latest, by this link
		repo.failed.Store(true)
	}
	repo.count(func(lost *RepositoryReport) *Counts { return &lost.Links }, v, size)
	switch {
	case v != remove && v != condemn:
		w.stays = true
	case w.goes == nil:
		w.goes, w.size = repo, size
	}
	return ctx.Err()
}

// concerns reports whether a link has to be read. A link that is named and condemned was
// condemned since the last finished run that has read the repository, or that run would
// have taken the mark off.
func (w *blobWalk) concerns(repo *repository, o drivers.Object, named bool) bool {
	if named {
		return !o.Modified.Before(w.finished.of(repo.name).Add(-w.cfg.Grace))
	}
	return w.old(o)
}

// decideLink decides by what was read just now.
func (w *blobWalk) decideLink(named bool, s *catalog.StoredRecord) verdict {
	switch {
	case named:
		if s.Value.Condemned && !w.cfg.Broken.KeepNamedMarks {
			s.Value.Condemned = false
			return restore
		}
	case s.Value.State == catalog.Damaged:
		if w.old(s.Object) {
			return remove
		}
	case w.cfg.UnreferencedAfter == 0:
	case s.Value.Condemned:
		if w.before(s.Object, max(w.cfg.Grace, w.cfg.UnreferencedAfter)) {
			return remove
		}
	case w.old(s.Object):
		if w.cfg.Broken.RemoveAtOnce {
			return remove
		}
		s.Value.Condemned = true
		return condemn
	}
	return keep
}

// collectOrphans removes the old links of a digest that has no record. A push may create
// the record between the two reads, and then replaces the link, because it names another
// record.
func (r *run) collectOrphans(ctx context.Context, d digest.Digest) {
	err := r.walk(ctx, span{prefix: catalog.LinksPrefix(d)}, func(ctx context.Context, o listed) error {
		if !r.old(o.Object) {
			return nil
		}
		settle(ctx, r, object[catalog.Record]{
			key:  o.Key,
			due:  r.deadline(),
			kind: &r.report.total.Links,
			decide: func(ctx context.Context, s *catalog.StoredRecord) (verdict, error) {
				if !r.old(s.Object) {
					return keep, nil
				}
				_, found, err := exists(r.meter.Stat(ctx, catalog.RecordKey(d)))
				if err != nil || found {
					return keep, err
				}
				return remove, nil
			},
		})
		return ctx.Err()
	})
	r.failures.add(catalog.LinksPrefix(d), err)
}
