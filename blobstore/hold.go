package blobstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/manifest"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

const (
	// maxParallel is the number of requests that one push sends to the store at a time.
	maxParallel = 16

	// maxMissing is the number of digests in an ErrManifestBlobUnknown.
	maxMissing = 100
)

// eachOf calls do for all items, a bounded number of them at a time, and returns the
// first error.
func eachOf[T any](ctx context.Context, items []T, do func(context.Context, T) error) error {
	if len(items) == 1 {
		return do(ctx, items[0])
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxParallel)
	for _, item := range items {
		g.Go(func() error { return do(ctx, item) })
	}
	return g.Wait()
}

// check is step 3. It returns an ErrManifestBlobUnknown unless the repository has what the
// manifest refers to. The collector removes nothing of it while this push lasts. A second
// check does nothing.
func (p *push) check(ctx context.Context) error {
	if p.checked {
		return nil
	}
	type checked struct {
		manifest.Reference
		held bool
	}
	var unknown []*checked
	for _, ref := range p.references {
		if !p.m.knows(ref) {
			unknown = append(unknown, &checked{Reference: ref})
		}
	}
	err := eachOf(ctx, unknown, func(ctx context.Context, ref *checked) (err error) {
		ref.held, err = p.m.hold(ctx, p.due, ref.Reference)
		return err
	})
	if err != nil {
		return err
	}
	var missing []digest.Digest
	for _, ref := range unknown {
		if !ref.held && len(missing) < maxMissing {
			missing = append(missing, ref.Digest)
		}
	}
	if missing != nil {
		return ErrManifestBlobUnknown{missing}
	}
	p.checked = true
	return nil
}

// knows reports whether a reference needs no request: it need not be here, or this
// process has read or written its link recently. The alias of a digest of another
// algorithm is always read.
func (m *Manifests) knows(ref manifest.Reference) bool {
	switch {
	case ref.Role == manifest.Foreign:
		return true
	case ref.Role == manifest.Child || ref.Digest.Algorithm() != digest.Canonical:
		return false
	}
	l := m.links()
	return m.s.cache.known(l.id(ref.Digest))
}

func (m *Manifests) links() links { return links{m.s, m.repository} }

// hold reports whether the repository has what a manifest refers to. If it has, hold
// takes the collector's mark off.
func (m *Manifests) hold(ctx context.Context, due deadline.Deadline, ref manifest.Reference) (bool, error) {
	if ref.Role == manifest.Child {
		ok, err := m.holdChild(ctx, due, ref.Digest)
		return ok || err == nil && m.s.cfg.Manifests.SparseIndexes, err
	}
	return m.links().hold(ctx, due, ref.Digest)
}

// holdChild is hold for a manifest. A deleted manifest is missing.
func (m *Manifests) holdChild(ctx context.Context, due deadline.Deadline, d digest.Digest) (bool, error) {
	child, err := m.s.catalog.ReadManifest(ctx, m.repository, d)
	if err == nil {
		child, err = m.s.unmarkManifest(ctx, due, child)
	}
	if errors.Is(err, drivers.ErrNotFound) {
		return false, nil
	}
	return err == nil && child.Value.Readable(), err
}

// hold is Manifests.hold for a blob. It asks the store for the alias of a digest of
// another algorithm, even if the link is known, because the collector removes aliases
// separately.
func (l links) hold(ctx context.Context, due deadline.Deadline, d digest.Digest) (bool, error) {
	canonical, alias, err := l.s.resolve(ctx, d)
	if err == nil && alias.Value.Condemned {
		err = l.s.catalog.WriteAlias(ctx, due, d, canonical, alias)
	}
	if err == nil && !l.s.cache.known(l.id(canonical)) {
		err = l.holdLink(ctx, due, canonical)
	}
	if errors.Is(err, ErrBlobUnknown) {
		return false, nil
	}
	return err == nil, err
}

// holdLink reads a link, and takes the collector's mark off. It returns ErrBlobUnknown
// if there is no link, or if the blob is damaged.
func (l links) holdLink(ctx context.Context, due deadline.Deadline, canonical digest.Digest) error {
	since := l.s.cache.start()
	link, err := l.read(ctx, canonical)
	if err != nil {
		return err
	}
	if link.Value.Condemned {
		since = l.s.cache.start()
		link, err = l.s.catalog.UnmarkLink(ctx, due, link)
		if err != nil {
			return blobError(err, canonical)
		}
		if link.Value.State == catalog.Damaged {
			return errUnknownBlob(canonical)
		}
	}
	l.s.cache.putLink(since, l.id(canonical), link.Value, link.Raw)
	return nil
}

// unmarkManifest takes the collector's mark off a manifest; see
// [catalog.Catalog.UnmarkManifest]. Few long manifests are in memory at a time.
func (s *Store) unmarkManifest(ctx context.Context, due deadline.Deadline, m catalog.StoredManifest) (catalog.StoredManifest, error) {
	if m.Value.State == catalog.Condemned && m.RawSize > envelope.MaxRaw {
		release, err := s.loads.acquire(ctx)
		if err != nil {
			return m, err
		}
		defer release()
	}
	return s.catalog.UnmarkManifest(ctx, due, m)
}

// maxLoads is the number of manifests over envelope.MaxRaw that a process reads into
// memory at a time.
const maxLoads = 4

// slots limits how many manifests are in memory.
type slots chan struct{}

// acquire waits for room for one manifest. The caller calls release when it no longer
// uses the manifest.
func (s slots) acquire(ctx context.Context) (release func(), err error) {
	select {
	case s <- struct{}{}:
		return func() { <-s }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("blobstore: wait for memory: %w", ctx.Err())
	}
}

// errUnknownManifest returns an ErrManifestUnknown for d.
func errUnknownManifest(d digest.Digest) error { return fmt.Errorf("%w: %s", ErrManifestUnknown, d) }
