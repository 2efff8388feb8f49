package collect

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// collectRecord condemns a record without links, or enters its data in the dead list and
// removes it. It was condemned more than a grace before the run, so every request that has
// read it live before has written its link before the walk started. A request that reads
// it later makes it live first, which changes the tag.
func (r *run) collectRecord(ctx context.Context, o listed, d digest.Digest) {
	settle(ctx, r, object[catalog.Record]{
		key:  o.Key,
		due:  o.due,
		kind: &r.report.total.Records,
		decide: func(ctx context.Context, s *catalog.StoredRecord) (verdict, error) {
			if !r.old(s.Object) && !r.cfg.Broken.AgeByList {
				return keep, nil
			}
			if s.Value.State == catalog.Live && !r.cfg.Broken.RemoveAtOnce {
				s.Value.State = catalog.Condemned
				return condemn, nil
			}
			return remove, r.bury(ctx, o.due, d, s.Value.Data)
		},
		size: func(s catalog.Record) int64 { return s.Size },
	})
}

// bury enters data in the dead list, if it is under a data key. Data that another registry
// has left is not the collector's.
func (r *run) bury(ctx context.Context, due deadline.Deadline, d digest.Digest, key string) error {
	if !isData(key) || r.cfg.DryRun {
		return nil
	}
	if err := due.Check(); err != nil {
		return err
	}
	ctx, cancel := due.Context(ctx)
	defer cancel()
	if r.cfg.Broken.NoDeadList {
		return r.meter.Delete(ctx, key)
	}
	_, err := envelope.Create(ctx, r.meter, catalog.NewDeadKey(), catalog.Dead{Digest: d, Data: key}, drivers.Body{})
	if err == nil {
		r.report.count(&r.report.total.Dead, condemn, 0)
	}
	return err
}
