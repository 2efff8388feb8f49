package collect

import (
	"context"

	"github.com/berthhq/berth/blobstore/catalog"
)

// collectAliases condemns and removes the aliases of blobs that have no record. An alias
// outlives its record for as long as a session may need it.
func (r *run) collectAliases(ctx context.Context) error {
	shards := r.shards(catalog.AliasesPrefix, catalog.AliasesPrefix+"sha512/")
	return r.walkShards(ctx, "aliases", shards, func(ctx context.Context, s span) error {
		return r.walk(ctx, s, func(ctx context.Context, o listed) error {
			if r.old(o.Object) {
				r.collectAlias(ctx, o)
			}
			return ctx.Err()
		})
	})
}

// collectAlias reads the alias before it asks for the record.
func (r *run) collectAlias(ctx context.Context, o listed) {
	settle(ctx, r, object[catalog.Alias]{
		key:  o.Key,
		due:  r.deadline(),
		kind: &r.report.total.Aliases,
		decide: func(ctx context.Context, s *catalog.StoredAlias) (verdict, error) {
			_, found, err := exists(r.meter.Stat(ctx, catalog.RecordKey(s.Value.Digest)))
			switch {
			case err != nil || !r.old(s.Object):
			case found && s.Value.Condemned:
				s.Value.Condemned = false
				return restore, nil
			case found:
			case s.Value.Condemned:
				return remove, nil
			case r.before(s.Object, r.limits.Session+r.cfg.Grace):
				s.Value.Condemned = true
				return condemn, nil
			}
			return keep, err
		},
	})
}
