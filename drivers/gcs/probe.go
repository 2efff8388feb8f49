package gcs

import (
	"context"
	"errors"
	"fmt"

	"github.com/berthhq/berth/drivers"
)

// probe makes a part of an upload that there is not, so that the collector
// takes what a killed probe leaves, and writes it with preconditions that do
// not hold. The first request also finds out whether the bucket can be written
// to at all, and in the storage class of data: the fee for deleting so few bytes
// early is less than what the request costs.
func (b *bucket) probe(ctx context.Context) error {
	u, err := b.StartUpload(ctx, drivers.BulkPrefix+"probe")
	if err != nil {
		return err
	}
	p, err := b.putPart(ctx, u, 1, drivers.NewBody([]byte("berth asks whether preconditions hold\n")))
	if err != nil {
		return b.cfg.explain(err)
	}
	a, _ := parseAttempt(p.Tag)
	err = b.refuses(ctx, b.name(partKey(u, 1, a.id)), a.generation)
	if cleanup := b.abort(ctx, u); err == nil && cleanup != nil {
		err = b.cfg.explain(cleanup)
	}
	return err
}

// refuses proves that writes and a deletion of the object whose preconditions
// do not hold are refused.
func (b *bucket) refuses(ctx context.Context, name string, generation int64) error {
	body := drivers.NewBody([]byte("this should not have been written\n"))
	for _, c := range []struct {
		what, danger string
		try          func() error
	}{
		{"ifGenerationMatch=0 on writes (create-only)", "two uploads could overwrite each other", func() error {
			_, err := b.write(ctx, name, "", whenAbsent(), body, drivers.ErrChanged)
			return err
		}},
		{"ifGenerationMatch on writes (compare-and-swap)", "a push and the collector could overwrite each other", func() error {
			_, err := b.write(ctx, name, "", whenAt(generation+1), body, drivers.ErrChanged)
			return err
		}},
		{"ifGenerationMatch on DELETE", "a deletion that lands late could take a blob that was pushed since", func() error {
			return b.cfg.classify(ctx, b.handle.Object(name).If(whenAt(generation+1)).Delete(ctx), drivers.ErrChanged)
		}},
	} {
		err := c.try()
		if err == nil || errors.Is(err, drivers.ErrNotFound) {
			return fmt.Errorf("storage.gcs.endpoint: %s ignores %s: %s, so berth does not serve from it", b.cfg.endpoint(), c.what, c.danger)
		}
		if !errors.Is(err, drivers.ErrChanged) {
			return b.cfg.explain(err)
		}
	}
	return nil
}
