package gcs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	raw "google.golang.org/api/storage/v1"

	"github.com/berthhq/berth/drivers"
)

// probe writes a part of an upload that does not exist, so that the collector
// deletes what a killed probe leaves. It writes the part again with
// preconditions that do not hold, and composes it, which also shows whether the
// store deletes the sources of a compose. The first request also shows whether
// berth can write to the bucket at all, and in the storage class of data. The
// fee for the early deletion of so few bytes is less than the price of the
// request.
func (s *uploadStore) probe(ctx context.Context) error {
	u, err := s.StartUpload(ctx, drivers.BulkPrefix+"probe")
	if err != nil {
		return err
	}
	p, err := s.putPart(ctx, u, 1, drivers.NewBody([]byte("berth checks preconditions\n")))
	if err != nil {
		return s.cfg.explain(err)
	}
	a, _ := parseAttempt(p.Tag)
	part := partKey(u, 1, a.id)
	err = s.refuses(ctx, s.name(part), a.generation)
	if err == nil {
		err = s.composes(ctx, u, p)
	}
	left, listErr := s.staged(ctx, u)
	s.keepsSources = slices.Contains(left, s.name(part))
	if cleanup := cmp.Or(listErr, s.deleteAll(ctx, left)); err == nil && cleanup != nil {
		err = s.cfg.explain(cleanup)
	}
	return err
}

// composes creates a node from the only part of an upload, as Complete does. It
// returns an error if the compose fails.
func (s *uploadStore) composes(ctx context.Context, u drivers.Upload, p drivers.Part) error {
	root, err := plan(u, []drivers.Part{p})
	if err != nil {
		return err
	}
	n := &node{key: nodeKey(u, p.Number, p.Number), size: p.Size, crc32c: p.CRC32C, sources: root.sources, parent: root}
	c := newCompletion(s.store)
	part := n.sources[0]
	_, err = c.compose(ctx, n, []*raw.ComposeRequestSourceObjects{c.source(part, part.generation)})
	if err != nil {
		return s.cfg.explain(fmt.Errorf("compose parts: %w", s.cfg.classify(ctx, err, nil)))
	}
	return nil
}

// refuses returns an error unless the store refuses writes and a deletion of
// the object with preconditions that do not hold.
func (s *uploadStore) refuses(ctx context.Context, name string, generation int64) error {
	body := drivers.NewBody([]byte("a write that the store should have refused\n"))
	for _, c := range []struct {
		what, danger string
		try          func() error
	}{
		{"ifGenerationMatch=0 on writes (create-only)", "two uploads could overwrite each other", func() error {
			_, err := s.write(ctx, name, "", whenAbsent(), body, drivers.ErrChanged)
			return err
		}},
		{"ifGenerationMatch on writes (compare-and-swap)", "a push and the collector could overwrite each other", func() error {
			_, err := s.write(ctx, name, "", whenAt(generation+1), body, drivers.ErrChanged)
			return err
		}},
		{"ifGenerationMatch on DELETE", "a late deletion could delete a blob that was pushed in the meantime", func() error {
			return s.cfg.classify(ctx, s.handle.Object(name).If(whenAt(generation+1)).Delete(ctx), drivers.ErrChanged)
		}},
	} {
		err := c.try()
		if err == nil || errors.Is(err, drivers.ErrNotFound) {
			return fmt.Errorf("gcs.Config.Endpoint: %s ignores %s: %s, so berth does not serve from it", s.cfg.endpoint(), c.what, c.danger)
		}
		if !errors.Is(err, drivers.ErrChanged) {
			return s.cfg.explain(err)
		}
	}
	return nil
}
