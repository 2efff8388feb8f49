package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

var (
	_ ManifestService = (*Manifests)(nil)
	_ ManifestServer  = (*Manifests)(nil)
	_ Referrers       = (*Manifests)(nil)
	_ TagService      = (*Tags)(nil)
)

// Exists reports whether the repository has the manifest. See [ManifestService]. It also
// returns an ErrBlobInvalidDigest.
func (m *Manifests) Exists(ctx context.Context, dgst digest.Digest) (bool, error) {
	found, err := m.find(ctx, dgst, false)
	if errors.Is(err, ErrManifestUnknown) {
		return false, nil
	}
	if err != nil {
		return false, publicError(err)
	}
	found.close()
	return true, nil
}

// Get returns a manifest. See [ManifestService]. It also returns an
// ErrBlobInvalidDigest. A manifest whose stored bytes are damaged is unknown.
func (m *Manifests) Get(ctx context.Context, dgst digest.Digest) (Manifest, error) {
	found, err := m.find(ctx, dgst, true)
	if err != nil {
		return Manifest{}, publicError(err)
	}
	defer found.close()
	content := bytes.Clone(found.Raw) // the caller may change it, but not the cache
	if found.long != nil {
		if content, err = m.readLong(ctx, found); err != nil {
			return Manifest{}, publicError(err)
		}
	}
	return Manifest{describeManifest(found.Value).Descriptor, content}, nil
}

// readLong returns the bytes of a long manifest. It returns ErrManifestUnknown if they
// are damaged.
func (m *Manifests) readLong(ctx context.Context, found foundManifest) ([]byte, error) {
	content := make([]byte, found.RawSize)
	if _, err := io.ReadFull(found.long, content); err != nil {
		return nil, fmt.Errorf("blobstore: read manifest %s: %w", found.Value.Digest, err)
	}
	return content, m.verify(ctx, found.StoredManifest, content)
}

// Enumerate calls ingester for the digest of each manifest. See [ManifestService]. It
// reads every manifest that was not read recently, because a listing contains deleted
// ones.
func (m *Manifests) Enumerate(ctx context.Context, ingester func(dgst digest.Digest) error) error {
	for desc, err := range m.All(ctx) {
		if err != nil {
			return err
		}
		if err := ingester(desc.Digest); err != nil {
			return err
		}
	}
	return nil
}

// All returns the manifests of the repository, in ascending order of their digests and
// without their annotations. It reads every manifest that was not read recently, as the
// caller iterates, and ends with the first error.
func (m *Manifests) All(ctx context.Context) iter.Seq2[ManifestDescriptor, error] {
	return func(yield func(ManifestDescriptor, error) bool) {
		for found, err := range inOrder(ctx, m.s.listReads, m.s.catalog.Manifests(ctx, m.repository), m.stat) {
			if err != nil {
				yield(ManifestDescriptor{}, publicError(err))
				return
			}
			if found.ID != "" && !yield(describeManifest(found), nil) {
				return
			}
		}
	}
}

// stat returns what is stored of a manifest besides its bytes. It is zero if the
// manifest is unknown.
func (m *Manifests) stat(ctx context.Context, d digest.Digest) (catalog.Manifest, error) {
	found, err := m.find(ctx, d, false)
	if errors.Is(err, ErrManifestUnknown) {
		return catalog.Manifest{}, nil
	}
	if err != nil {
		return catalog.Manifest{}, err
	}
	found.close()
	return found.Value, nil
}

// foundManifest is a manifest that clients can read.
type foundManifest struct {
	catalog.StoredManifest

	// long reads the bytes of a manifest that is too long for Raw. They were not hashed
	// yet. It is nil for other manifests, and may be nil if the caller did not want the
	// bytes.
	long *storeStream
}

func (f foundManifest) close() {
	if f.long != nil {
		f.long.close()
	}
}

// find returns a manifest, from the cache if it is there. It returns ErrManifestUnknown
// if there is none that clients can read, and an ErrBlobInvalidDigest. The caller closes
// the result.
func (m *Manifests) find(ctx context.Context, d digest.Digest, wantBytes bool) (foundManifest, error) {
	if err := checkDigest(d); err != nil {
		return foundManifest{}, err
	}
	if cached, ok := m.cached(d, wantBytes); ok {
		return cached, nil
	}
	return m.open(ctx, d)
}

// cached returns a manifest from the cache, and reports whether it is there.
func (m *Manifests) cached(d digest.Digest, wantBytes bool) (foundManifest, bool) {
	stored, ok := m.s.cache.manifest(manifestID{m.repository, d})
	m.s.cache.count(cacheOfManifests, ok)
	return foundManifest{StoredManifest: stored}, ok && (stored.Raw != nil || !wantBytes)
}

// open is find for a caller that has asked the cache.
func (m *Manifests) open(ctx context.Context, d digest.Digest) (foundManifest, error) {
	since := m.s.cache.start()
	found, err := m.openStored(ctx, d)
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		return foundManifest{}, errUnknownManifest(d)
	case err != nil:
		return foundManifest{}, err
	case !found.Value.Readable():
		err = errUnknownManifest(d)
	case found.long != nil:
		err = m.checkDamage(found.StoredManifest)
	default:
		err = m.verify(ctx, found.StoredManifest, found.Raw)
	}
	if err != nil {
		found.close()
		return foundManifest{}, err
	}
	m.s.cache.putManifest(since, manifestID{m.repository, d}, found.StoredManifest)
	return found, nil
}

// openStored reads a manifest, in any state, in one request. It returns
// drivers.ErrNotFound if there is none.
func (m *Manifests) openStored(ctx context.Context, d digest.Digest) (foundManifest, error) {
	s := newStoreStream(ctx)
	stored, rc, err := m.s.catalog.OpenManifest(s.ctx, m.repository, d)
	if err := s.opened(rc, err); err != nil {
		return foundManifest{}, err
	}
	if stored.RawSize > envelope.MaxRaw {
		return foundManifest{stored, s}, nil
	}
	defer s.close()
	stored.Raw = make([]byte, stored.RawSize)
	if _, err := io.ReadFull(s, stored.Raw); err != nil {
		return foundManifest{}, fmt.Errorf("blobstore: read manifest %s: %w", d, err)
	}
	return foundManifest{StoredManifest: stored}, nil
}

// unmark takes the collector's mark off a manifest that a client was about to be told
// exists, so that the client can rely on it. It returns ErrManifestUnknown if the
// manifest was deleted meanwhile.
func (m *Manifests) unmark(ctx context.Context, found foundManifest) (foundManifest, error) {
	if found.Value.State != catalog.Condemned {
		return found, nil
	}
	due := m.s.newDeadline()
	ctx, cancel := due.Context(ctx)
	defer cancel()
	d := found.Value.Digest
	stored, err := m.s.unmarkManifest(ctx, due, found.StoredManifest)
	if errors.Is(err, drivers.ErrNotFound) || err == nil && !stored.Value.Readable() {
		return foundManifest{}, errUnknownManifest(d)
	}
	if err != nil {
		return foundManifest{}, err
	}
	return foundManifest{StoredManifest: stored}, due.Check()
}
