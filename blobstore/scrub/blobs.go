package scrub

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/pace"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
)

// batchSize is the number of blobs after which the position moves.
const batchSize = 256

// blobs is the first phase. It reports false if the run stops after its share.
func (r *run) blobs(ctx context.Context) (done bool, err error) {
	from := share(r.state.Value.After)
	for {
		batch, err := r.nextBlobs(ctx, r.state.Value.After)
		if err != nil {
			return false, err
		}
		if len(batch) == 0 {
			r.state.Value.Manifests = true
			return true, nil
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(r.cfg.Concurrency)
		for _, d := range batch {
			group.Go(func() error { return r.blob(ctx, d) })
		}
		if err := group.Wait(); err != nil {
			return false, err
		}
		last := batch[len(batch)-1]
		r.state.Value.After = last
		r.add(func(rep *Report) { rep.Done = share(last) })
		if err := r.saveSometimes(ctx); err != nil && ctx.Err() == nil {
			return false, err
		}
		if share(last)-from >= r.cfg.Share {
			return false, nil
		}
	}
}

// nextBlobs returns the next digests that have a record or a link.
func (r *run) nextBlobs(ctx context.Context, after digest.Digest) (batch []digest.Digest, err error) {
	err = pace.Retry(ctx, func() error {
		batch = nil
		from := ""
		if after != "" {
			from = catalog.RecordKey(after)
		}
		for o, err := range r.bucket.List(ctx, catalog.BlobsPrefix, from, 2*batchSize) {
			if err != nil {
				return err
			}
			d, ok := catalog.ParseRecordKey(o.Key)
			if !ok {
				d, _, ok = catalog.ParseLinkKey(o.Key)
			}
			switch {
			case !ok || len(batch) > 0 && batch[len(batch)-1] == d:
			case len(batch) == batchSize:
				return nil
			default:
				batch = append(batch, d)
			}
		}
		return nil
	})
	return batch, err
}

// passes is how often a blob is verified again because its record has changed meanwhile.
const passes = 5

// blob verifies one blob.
func (r *run) blob(ctx context.Context, d digest.Digest) error {
	for range passes {
		due := r.deadline()
		var rec catalog.StoredRecord
		err := pace.Retry(ctx, func() (err error) {
			rec, err = r.catalog.ReadRecord(ctx, d)
			return err
		})
		switch {
		case errors.Is(err, drivers.ErrNotFound):
			return r.withoutRecord(ctx, d)
		case err != nil && ctx.Err() == nil && !errors.Is(err, drivers.ErrRefused):
			return r.reportBlob(ctx, d, verdict{Unreadable, "its record: " + err.Error(), 0, false}, false)
		case err != nil:
			return err
		}
		v, err := r.verify(ctx, rec.Value, rec.Raw)
		if err != nil {
			return fmt.Errorf("scrub: %s: %w", d, err)
		}
		err = r.settle(ctx, due, rec, v)
		if !errors.Is(err, drivers.ErrChanged) {
			r.add(func(rep *Report) { rep.Blobs++ })
			return err
		}
	}
	return nil // a blob that changes all the time is in use; the next run verifies it
}

// withoutRecord reports a blob that has links and no record, unless it is deleted meanwhile.
func (r *run) withoutRecord(ctx context.Context, d digest.Digest) error {
	for _, err := range r.catalog.Holders(ctx, d) {
		if err != nil {
			return err
		}
		return r.reportBlob(ctx, d, verdict{Missing, "it has links, but no record: push it again", 0, false}, false)
	}
	return nil
}

// settle acts on what was found about the version of a record. It returns
// drivers.ErrChanged if the record has changed meanwhile.
func (r *run) settle(ctx context.Context, due deadline.Deadline, rec catalog.StoredRecord, v verdict) error {
	state := rec.Value.State
	next := r.next(state, v)
	if due.Check() != nil {
		r.add(func(rep *Report) { rep.Slow++ })
		return r.reportBlob(ctx, rec.Value.Digest, v, state == catalog.Damaged)
	}
	switch {
	case next != state:
		var err error
		if rec, err = r.mark(ctx, due, rec, next, v.crc); err != nil {
			return err
		}
	case v.problem != "":
		now, err := r.catalog.ReadRecord(ctx, rec.Value.Digest)
		if errors.Is(err, drivers.ErrNotFound) || err == nil && now.Object.Tag != rec.Object.Tag {
			return drivers.ErrChanged
		}
		if err != nil {
			return err
		}
	}
	if err := r.align(ctx, due, rec, next != state); err != nil {
		return err
	}
	return r.reportBlob(ctx, rec.Value.Digest, v, next == catalog.Damaged)
}

// next returns the state that a record has to get.
func (r *run) next(state catalog.State, v verdict) catalog.State {
	switch {
	case v.problem == "" && v.hashed && (state == catalog.Unverified || state == catalog.Damaged):
		return catalog.Live
	case (v.problem == Damaged || v.problem == Missing) && r.cfg.Quarantine:
		return catalog.Damaged
	}
	return state
}

// mark gives a record another state. A record that becomes live gets the checksum of the
// bytes that were read. mark returns drivers.ErrChanged if the record has changed meanwhile.
func (r *run) mark(ctx context.Context, due deadline.Deadline, rec catalog.StoredRecord, next catalog.State, crc uint32) (marked catalog.StoredRecord, err error) {
	if next != catalog.Live {
		crc = rec.Value.CRC32C
	}
	err = pace.Retry(ctx, func() error {
		marked, err = r.catalog.MarkRecord(ctx, due, rec, next, crc)
		return err
	})
	if err != nil || next != catalog.Live {
		return marked, err
	}
	r.add(func(rep *Report) {
		if rec.Value.State == catalog.Unverified {
			rep.Verified++
		} else {
			rep.Restored++
		}
	})
	return marked, nil
}

// align makes the links of a blob copies of its record. It reads only links that can
// differ: those written before the record, or by a push that had read the record before it
// changed, and all copies of the content of an inline blob. It changes nothing if the record
// is condemned: a push or the collector is about to.
func (r *run) align(ctx context.Context, due deadline.Deadline, rec catalog.StoredRecord, all bool) error {
	if rec.Value.State == catalog.Condemned {
		return nil
	}
	all = all || rec.Value.Data == "" && !r.cfg.Cheap
	until := rec.Object.Modified.Add(r.cfg.RequestLimit)
	for o, err := range r.bucket.List(ctx, catalog.LinksPrefix(rec.Value.Digest), "", 0) {
		if err != nil {
			return err
		}
		_, repository, ok := catalog.ParseLinkKey(o.Key)
		if !ok || !all && o.Modified.After(until) {
			continue
		}
		err := pace.Retry(ctx, func() error {
			replaced, err := r.catalog.AlignLink(ctx, due, repository, rec)
			if replaced {
				r.add(func(rep *Report) { rep.Links++ })
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// reportBlob adds a finding about a blob with the repositories that have it, if something is
// wrong with it.
func (r *run) reportBlob(ctx context.Context, d digest.Digest, v verdict, quarantined bool) error {
	if v.problem == "" {
		return nil
	}
	f := Finding{Problem: v.problem, Kind: "blob", Digest: d, Reason: v.reason, Quarantined: quarantined}
	for name, err := range r.catalog.Holders(ctx, d) {
		if err != nil {
			return err
		}
		if f.Repositories = append(f.Repositories, name); len(f.Repositories) > MaxNames {
			break
		}
	}
	r.found(f)
	return nil
}
