package upload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// Reaper removes the sessions and uploads that are over, for the collector. It is safe
// for concurrent use.
type Reaper struct{ m *Manager }

// NewReaper returns the Reaper of a bucket. It sends no request to the store.
func NewReaper(bucket drivers.Bucket, layout Layout) *Reaper {
	return &Reaper{&Manager{cfg: Config{Bucket: bucket, Layout: layout}}}
}

// ReapResult is the outcome of Reaper.Reap, if that returns no error.
type ReapResult int

const (
	// Kept means that the session is not over, or that another request or run has
	// changed it in the meantime. A later run looks at it again.
	Kept ReapResult = iota + 1

	// Removed means that the session's upload is aborted and its records are
	// deleted.
	Removed

	// Undecided means that the session was committed, and that its bytes may be
	// stored under a data key. The caller decides: see Remains.
	Undecided
)

// Remains is what is left of a committed session that is over.
//
// The caller reads the record of the blob Digest. If that record names DataKey,
// the upload was completed and published. Otherwise the caller enters DataKey in
// the dead list, because a request may have completed the upload without
// publishing it. In both cases Remove follows.
type Remains struct {
	Digest  digest.Digest // canonical
	DataKey string

	upload  drivers.Upload
	records []string // keys, the one that ends the session last
	due     deadline.Deadline
}

// Reap removes one session, if it is over: its newest record was last written
// before the time before, by the store's clock. A collector that started at T0, by
// the store's clock too, passes T0 - session lifetime - 2 x grace. Then no token of
// the session is valid any more, no request of it is running, and nothing that
// such a request has sent can still take effect.
//
// Reap first ends a session that has no end, with a record that cancels it. That
// record is the fence against a request that continues the session: if Reap loses
// the race for the next number, it returns Kept. Then it aborts the upload, and
// deletes the records, the one that ends the session last, so that no request
// finds an open session of which records are missing.
//
// Reap may run in several processes concurrently, and may be killed at any point: a
// later Reap does the rest. If the session had no end, that is once the end is old
// as well. An error means that the outcome of a request to the store is not
// known. The session stays for a later run. After due Reap writes nothing, because
// what it has read is too old.
//
// Remains is set only if the result is Undecided.
func (r *Reaper) Reap(ctx context.Context, id string, before time.Time, due deadline.Deadline) (ReapResult, Remains, error) {
	ctx, cancel := due.Context(ctx)
	defer cancel()
	records, newest, err := listRecords(ctx, r.m.cfg.Bucket, r.m.cfg.Layout.Session(id))
	if err != nil || len(records) == 0 {
		return Removed, Remains{}, err
	}
	s, err := envelope.Read[sessionRecord](ctx, r.m.cfg.Bucket, records[len(records)-1])
	switch {
	case errors.Is(err, drivers.ErrNotFound): // another run removes the session
		return Kept, Remains{}, nil
	case err != nil:
		return 0, Remains{}, err
	case !s.Object.Modified.Before(before):
		return Kept, Remains{}, nil
	}
	last := s.Value
	switch last.Kind {
	case KindCommitted:
		if last.Upload != nil {
			return Undecided, Remains{last.Digest, last.Upload.Key, *last.Upload, records, due}, nil
		}
	case KindCancelled:
	case KindOpen, KindSpent:
		t := Token{ID: id, Repository: last.Repository, Started: last.Started, Seq: newest, Algorithm: last.Algorithm}
		_, err := r.m.createNext(ctx, t, due, last.cancelled(), drivers.Body{})
		if isEnd(err) {
			return Kept, Remains{}, nil
		}
		if err != nil {
			return 0, Remains{}, err
		}
		records = append(records, r.m.cfg.Layout.SessionRecord(id, newest+1))
	default:
		return 0, Remains{}, fmt.Errorf("upload: session record %s: unknown kind %q", s.Object.Key, last.Kind)
	}
	if err := (Remains{records: records, due: due}).remove(ctx, r.m.cfg.Bucket, last.Upload); err != nil {
		return 0, Remains{}, err
	}
	return Removed, Remains{}, nil
}

// Remove removes the session. If the blob's record does not name DataKey,
// published is false, and the upload is aborted.
func (r *Reaper) Remove(ctx context.Context, of Remains, published bool) error {
	ctx, cancel := of.due.Context(ctx)
	defer cancel()
	if published {
		return of.remove(ctx, r.m.cfg.Bucket, nil)
	}
	return of.remove(ctx, r.m.cfg.Bucket, &of.upload)
}

// remove aborts the upload u, if any, and then deletes the records, the last one
// last.
func (r Remains) remove(ctx context.Context, b drivers.Bucket, u *drivers.Upload) error {
	if u != nil {
		if err := r.due.Check(); err != nil {
			return err
		}
		if err := b.Abort(ctx, *u); err != nil {
			return err
		}
	}
	end := len(r.records) - 1
	for _, keys := range [][]string{r.records[:end], r.records[end:]} {
		if len(keys) == 0 {
			continue
		}
		if err := r.due.Check(); err != nil {
			return err
		}
		if err := b.Delete(ctx, keys...); err != nil {
			return err
		}
	}
	return nil
}

// listRecords returns the keys of a session's records, which have this prefix, in
// the order of their numbers, and the highest number.
func listRecords(ctx context.Context, b drivers.Bucket, prefix string) (keys []string, newest int, err error) {
	for o, err := range b.List(ctx, prefix, "", 0) {
		if err != nil {
			return nil, 0, err
		}
		if newest, err = seqOf(o.Key); err != nil {
			return nil, 0, err
		}
		keys = append(keys, o.Key)
	}
	return keys, newest, nil
}

// ReapUploads aborts the uploads that were started before the time before, by the
// store's clock, and returns their number. For a collector that started at T0,
// that is T0 - session lifetime - grace: no session can still use such an upload.
// Most uploads are aborted by their request or with their session. The rest are
// those that no record names, because a process was killed.
//
// If an Abort fails, the upload stays for the next run. ReapUploads continues with
// the other uploads, and returns the error. After due it aborts nothing.
func (r *Reaper) ReapUploads(ctx context.Context, before time.Time, due deadline.Deadline) (int, error) {
	ctx, cancel := due.Context(ctx)
	defer cancel()
	aborted := 0
	var failed error
	for u, err := range r.m.cfg.Bucket.Uploads(ctx, drivers.BulkPrefix) {
		if err == nil {
			err = due.Check()
		}
		if err != nil {
			return aborted, errors.Join(failed, err)
		}
		if !u.Started.Before(before) {
			continue
		}
		if err := r.m.cfg.Bucket.Abort(ctx, u); err != nil {
			failed = fmt.Errorf("upload: abort the upload of %s: %w", u.Key, err)
			continue
		}
		aborted++
	}
	return aborted, failed
}
