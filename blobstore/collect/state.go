package collect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// finished is what the last finished run has read. It saves reads: a link that is named
// and condemned was condemned since then, so a run reads only named links that have
// changed. All times are the store's.
type finished struct {
	Start time.Time `json:"start"`

	// Older are the repositories that the run left alone, with the start of the last run
	// that has read them. It is zero if there was none.
	Older map[string]time.Time `json:"older,omitempty"`
}

// maxOlder is the most repositories in finished. A run that has left more alone does not
// count as finished.
const maxOlder = 10_000

// of returns the start of the last finished run that has read the whole repository.
func (f finished) of(repository string) time.Time {
	if t, ok := f.Older[repository]; ok {
		return t
	}
	return f.Start
}

// walked is how far each shard of the data was compared with the records: all data that
// was modified before.
type walked struct {
	Cutoffs map[string]time.Time `json:"cutoffs"` // by the start of the shard
}

// begin creates the start of the run, reads the state of earlier runs, and deletes the
// starts of runs that were killed. The start of a run that still works is of no use any
// more: only its time counts.
func (r *run) begin(ctx context.Context) error {
	r.key = catalog.NewStartKey()
	if _, err := envelope.Create(ctx, r.meter, r.key, struct{}{}, drivers.Body{}); err != nil {
		return err
	}
	o, err := r.meter.Stat(ctx, r.key)
	if err != nil {
		return err
	}
	r.start = o.Modified
	if r.cfg.Broken.WrongStart {
		r.start = r.start.Add(24 * time.Hour)
	}
	if r.finished, _, err = readState[finished](ctx, r, catalog.FinishedKey); err != nil {
		return err
	}
	if r.walked, _, err = readState[walked](ctx, r, catalog.WalkedKey); err != nil {
		return err
	}
	return r.walk(ctx, span{prefix: catalog.CollectPrefix}, func(ctx context.Context, o listed) error {
		if catalog.IsStartKey(o.Key) && r.old(o.Object) && !r.cfg.DryRun {
			r.failures.add(o.Key, r.meter.Delete(ctx, o.Key))
		}
		return nil
	})
}

// readState returns an object of the collector's state, and its tag. Both are zero if
// there is none.
func readState[T any](ctx context.Context, r *run, key string) (T, string, error) {
	s, err := envelope.Read[T](ctx, r.meter, key)
	if errors.Is(err, drivers.ErrNotFound) {
		return s.Value, "", nil
	}
	return s.Value, s.Object.Tag, err
}

// writeState writes the state that next makes of the present one, unless next reports
// false. It reads the state again if another run was first.
func writeState[T any](ctx context.Context, r *run, key string, next func(T) (T, bool)) error {
	for {
		now, tag, err := readState[T](ctx, r, key)
		if err != nil {
			return err
		}
		value, ok := next(now)
		switch {
		case !ok:
			return nil
		case tag == "":
			_, err = envelope.Create(ctx, r.meter, key, value, drivers.Body{})
		default:
			_, err = envelope.Replace(ctx, r.meter, key, tag, value, drivers.Body{})
		}
		if !errors.Is(err, drivers.ErrExists) && !errors.Is(err, drivers.ErrChanged) {
			return err
		}
	}
}

// end records what the run has read, and deletes its start.
func (r *run) end(ctx context.Context) error {
	r.progress.step("end", 0)
	if r.cfg.DryRun {
		return r.meter.Delete(ctx, r.key)
	}
	older := map[string]time.Time{}
	for _, repo := range r.repos {
		if !repo.whole || repo.kept || repo.failed.Load() {
			older[repo.name] = r.finished.of(repo.name)
		}
	}
	if len(older) <= maxOlder {
		err := writeState(ctx, r, catalog.FinishedKey, func(now finished) (finished, bool) {
			return finished{r.start, older}, r.start.After(now.Start)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", catalog.FinishedKey, err)
		}
	}
	return r.meter.Delete(ctx, r.key)
}
