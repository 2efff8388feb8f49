package collect

import (
	"context"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/upload"
)

// collectSessions removes the sessions that are over. No token of theirs is valid, no
// request of theirs is running, and nothing that such a request has sent can still take
// effect.
func (r *run) collectSessions(ctx context.Context) error {
	r.progress.step("sessions", 0)
	cutoff := r.start.Add(-r.limits.Session - 2*r.cfg.Grace)
	g, ctx := r.group(ctx)
	var listErr error
	for s, err := range r.reaper.Sessions(ctx, "") {
		if err != nil {
			listErr = err
			break
		}
		if !s.Modified.Before(cutoff) {
			continue
		}
		g.do(func() error {
			removed, err := r.collectSession(ctx, s.ID)
			r.failures.add("session "+s.ID, err)
			if removed && err == nil {
				r.report.count(&r.report.total.Sessions, remove, 0)
			}
			return ctx.Err()
		})
	}
	if err := g.wait(); err != nil {
		return err
	}
	return listErr
}

// collectSession removes a session. The data of a committed one that the record of the
// blob does not name enters the dead list first: a request may have completed the upload
// without publishing it.
func (r *run) collectSession(ctx context.Context, id string) (removed bool, err error) {
	if r.cfg.DryRun {
		return true, nil
	}
	due := r.deadline()
	result, remains, err := r.reaper.Reap(ctx, id, r.start.Add(-r.limits.Session-2*r.cfg.Grace), due)
	if err != nil || result != upload.Undecided {
		return result == upload.Removed, err
	}
	rec, found, err := exists(r.catalog.ReadRecord(ctx, remains.Digest))
	if err != nil {
		return false, err
	}
	published := found && rec.Value.Data == remains.DataKey
	if !published && !r.cfg.Broken.UnlistedData {
		if err := r.bury(ctx, due, remains.Digest, remains.DataKey); err != nil {
			return false, err
		}
	}
	return true, r.reaper.Remove(ctx, remains, published)
}

// collectUploads aborts the uploads that no session can still use.
func (r *run) collectUploads(ctx context.Context) error {
	r.progress.step("uploads", 0)
	cutoff := r.start.Add(-r.limits.Session - r.cfg.Grace)
	n, err := 0, error(nil)
	if r.cfg.DryRun {
		var u drivers.Upload
		for u, err = range r.meter.Uploads(ctx, drivers.BulkPrefix) {
			if err == nil && u.Started.Before(cutoff) {
				n++
			}
		}
	} else {
		n, err = r.reaper.ReapUploads(ctx, cutoff, r.deadline())
	}
	r.failures.add("uploads", err)
	r.report.update(func(p *Report) { p.Uploads.Removed += int64(n) })
	return ctx.Err()
}
