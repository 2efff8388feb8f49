package collect

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
)

// collectData enters data in the dead list that neither the record nor a link of its digest
// names. It looks at the data that came of age since each shard was last walked to its
// end: no session can still complete it, and it was complete for a grace at least, even if
// its time is that at which its upload started.
func (r *run) collectData(ctx context.Context) error {
	shards := r.shards(catalog.NamedDataPrefix, catalog.NamedDataPrefix)
	cutoff := r.start.Add(-r.limits.Session - r.cfg.Grace)
	done := make([]bool, len(shards))
	err := r.eachOf(ctx, "data", len(shards), func(ctx context.Context, i int) error {
		before := r.failures.count()
		w := &dataWalk{run: r, from: r.walkedTo(shards[i]), to: cutoff}
		if err := r.walk(ctx, shards[i], w.object); err != nil {
			return err
		}
		done[i] = r.failures.count() == before
		return r.failures.tooMany()
	})
	if err != nil || r.cfg.DryRun {
		return err
	}
	return writeState(ctx, r, catalog.WalkedKey, func(now walked) (walked, bool) {
		next := walked{map[string]time.Time{}}
		for i, s := range shards {
			at := now.to(s)
			if done[i] && cutoff.After(at) {
				at = cutoff
			}
			next.Cutoffs[s.from] = at
		}
		return next, true
	})
}

// walkedTo returns the time up to which all data of a shard was compared already.
func (r *run) walkedTo(s span) time.Time { return r.walked.to(s) }

// to returns the time for a shard. Runs may have other shards: then it is that of the
// shard in which it is, or the earliest of those that it has.
func (w walked) to(s span) time.Time {
	if s.from == "" && s.to == "" {
		return w.earliest()
	}
	if at, ok := w.Cutoffs[s.from]; ok && len(w.Cutoffs) > 1 {
		return at
	}
	if len(w.Cutoffs) == 1 {
		return w.Cutoffs[""]
	}
	return time.Time{}
}

func (w walked) earliest() time.Time {
	var at time.Time
	first := true
	for _, t := range w.Cutoffs {
		if first || t.Before(at) {
			at = t
		}
		first = false
	}
	return at
}

// dataWalk is the walk over one shard.
type dataWalk struct {
	*run
	from, to time.Time
}

func (w *dataWalk) object(ctx context.Context, o listed) error {
	if o.Modified.Before(w.from) || !o.Modified.Before(w.to) {
		return nil
	}
	d, ok := catalog.ParseDataKey(o.Key)
	if !ok { // a probe of berth check
		return nil
	}
	named, err := w.isNamed(ctx, d, o.Key)
	if err == nil && !named {
		err = w.bury(ctx, o.due, d, o.Key)
		if err == nil && w.cfg.DryRun {
			w.report.count(&w.report.total.Dead, condemn, 0)
		}
	}
	w.failures.add(o.Key, err)
	return ctx.Err()
}

// isNamed reports whether the record or a link of a digest names the data.
func (r *run) isNamed(ctx context.Context, d digest.Digest, key string) (bool, error) {
	rec, found, err := exists(r.catalog.ReadRecord(ctx, d))
	if err != nil || found && rec.Value.Data == key {
		return found, err
	}
	named := false
	err = readAll(ctx, r, catalog.LinksPrefix(d), func(link catalog.StoredRecord) (bool, error) {
		named = link.Value.Data == key
		return !named, nil
	})
	return named, err
}
