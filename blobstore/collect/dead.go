package collect

import (
	"context"
	"errors"
	"fmt"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// collectDead deletes data. This is the only place where data is deleted.
//
// Data is deleted once it has been in the dead list for longer than any request, cache,
// signed URL or CDN can still use it, and if neither the record nor a link of its digest
// names it.
func (r *run) collectDead(ctx context.Context) error {
	age := r.cfg.Grace + r.limits.Request + r.limits.Cache + r.limits.URL
	shards := r.shards(catalog.DeadPrefix, catalog.DeadPrefix)
	return r.walkShards(ctx, "dead", shards, func(ctx context.Context, s span) error {
		return r.walk(ctx, s, func(ctx context.Context, o listed) error {
			if r.before(o.Object, age) || r.cfg.Broken.DeadAtOnce {
				r.failures.add(o.Key, r.collectDeadEntry(ctx, o.Key))
			}
			return errors.Join(ctx.Err(), r.failures.tooMany())
		})
	})
}

// collectDeadEntry decides on one entry of the dead list.
func (r *run) collectDeadEntry(ctx context.Context, key string) error {
	due := r.deadline()
	entry, found, err := exists(envelope.Read[catalog.Dead](ctx, r.meter, key))
	if err != nil || !found {
		return err
	}
	dead := entry.Value
	if !isData(dead.Data) {
		return fmt.Errorf("it names %q, which is no data key", dead.Data)
	}
	data, exist, err := exists(r.meter.Stat(ctx, dead.Data))
	if err != nil || exist && !r.before(data, r.limits.Session+r.cfg.Grace) && !r.cfg.Broken.DeadAtOnce {
		return err
	}
	v, err := r.judge(ctx, dead)
	if err != nil || v == keep {
		return err
	}
	if v == remove && exist {
		if err := r.deleteData(ctx, due, data); err != nil {
			return err
		}
	}
	return r.dropEntry(ctx, due, entry)
}

// judge returns remove for data that nothing names, restore for data that a live record
// names, and keep otherwise. Data that only links name is kept, and the links get the data
// of the record.
func (r *run) judge(ctx context.Context, dead catalog.Dead) (verdict, error) {
	rec, recorded, err := exists(r.catalog.ReadRecord(ctx, dead.Digest))
	if err != nil {
		return keep, err
	}
	if recorded && rec.Value.Data == dead.Data && !r.cfg.Broken.IgnoreLiveRecord {
		if rec.Value.State != catalog.Live {
			return keep, nil
		}
		return restore, nil
	}
	linked, err := r.relink(ctx, dead, rec, recorded)
	if err != nil || linked && !r.cfg.Broken.IgnoreLinks {
		return keep, err
	}
	return remove, nil
}

// deleteData deletes bytes. Their key is never used again.
func (r *run) deleteData(ctx context.Context, due deadline.Deadline, data drivers.Object) error {
	if !r.cfg.DryRun {
		if err := due.Check(); err != nil {
			return err
		}
		ctx, cancel := due.Context(ctx)
		defer cancel()
		if err := r.meter.Delete(ctx, data.Key); err != nil {
			return err
		}
	}
	r.report.count(&r.report.total.Data, remove, data.Size)
	return nil
}

// relink reports whether links of a digest name dead data. It replaces them by the record,
// if that is live. The entry stays for another run, because a reader may still use the
// link.
func (r *run) relink(ctx context.Context, dead catalog.Dead, rec catalog.StoredRecord, recorded bool) (linked bool, err error) {
	err = r.walk(ctx, span{prefix: catalog.LinksPrefix(dead.Digest)}, func(ctx context.Context, o listed) error {
		due := r.deadline()
		link, found, err := exists(envelope.Read[catalog.Record](ctx, r.meter, o.Key))
		if err != nil || !found || link.Value.Data != dead.Data {
			return err
		}
		linked = true
		if !recorded || rec.Value.State != catalog.Live || r.cfg.DryRun {
			return nil
		}
		next := rec.Value
		next.Condemned = link.Value.Condemned
		err = r.act(ctx, due, link.Object, restore, func(ctx context.Context) error {
			_, err := envelope.Replace(ctx, r.meter, o.Key, link.Object.Tag, next, drivers.NewBody(rec.Raw))
			return err
		})
		if errors.Is(err, drivers.ErrChanged) {
			return nil
		}
		return err
	})
	return linked, err
}

// dropEntry removes an entry of the dead list.
func (r *run) dropEntry(ctx context.Context, due deadline.Deadline, entry envelope.Stored[catalog.Dead]) error {
	if !r.cfg.DryRun {
		err := r.act(ctx, due, entry.Object, remove, nil)
		if err != nil && !errors.Is(err, drivers.ErrChanged) {
			return err
		}
	}
	r.report.count(&r.report.total.Dead, remove, 0)
	return nil
}
