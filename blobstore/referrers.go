package blobstore

import (
	"context"
	"errors"
	"iter"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/manifest"
)

// Referrers returns the manifests that have this subject. See [Referrers]. It also
// returns an ErrBlobInvalidDigest.
func (m *Manifests) Referrers(ctx context.Context, subject, after digest.Digest) iter.Seq2[ManifestDescriptor, error] {
	return func(yield func(ManifestDescriptor, error) bool) {
		err := checkDigest(subject)
		if err == nil && after != "" {
			err = checkDigest(after)
		}
		if err != nil {
			yield(ManifestDescriptor{}, err)
			return
		}
		entries := m.s.catalog.Referrers(ctx, m.repository, subject, after)
		for found, err := range inOrder(ctx, m.s.listReads, entries, referrers{m}.find) {
			if err != nil {
				yield(ManifestDescriptor{}, publicError(err))
				return
			}
			if found.Value.Subject != subject {
				continue // it is unknown: the entry does not count
			}
			more, err := referrers{m}.yield(ctx, found, yield)
			if err != nil {
				yield(ManifestDescriptor{}, publicError(err))
			}
			if err != nil || !more {
				return
			}
		}
	}
}

// referrers finds and describes the manifests that have a certain subject.
type referrers struct {
	m *Manifests
}

// find is Manifests.find for a manifest with a referrers entry. It returns a zero
// foundManifest if the manifest is unknown. It reads no long manifest: many of them
// would take too much memory.
func (l referrers) find(ctx context.Context, d digest.Digest) (foundManifest, error) {
	found, err := l.m.find(ctx, d, false)
	if errors.Is(err, ErrManifestUnknown) {
		return foundManifest{}, nil
	}
	if err != nil {
		return foundManifest{}, err
	}
	found.close()
	found.long = nil
	return found, nil
}

// maxLongReferrers is the number of descriptions of long manifests that exist at a time.
// Their annotations may be as long as the manifests.
const maxLongReferrers = 16

// yield calls yield with the description of a manifest.
func (l referrers) yield(ctx context.Context, found foundManifest, yield func(ManifestDescriptor, error) bool) (more bool, err error) {
	if found.Raw == nil {
		release, err := l.m.s.longReferrers.acquire(ctx)
		if err != nil {
			return false, err
		}
		defer release()
	}
	annotations, err := l.annotations(ctx, found)
	if errors.Is(err, ErrManifestUnknown) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	desc := describeManifest(found.Value)
	desc.Annotations = annotations
	return yield(desc, nil), nil
}

// annotations returns the annotations of a manifest. It reads a long manifest first; few
// of them are in memory at a time.
func (l referrers) annotations(ctx context.Context, found foundManifest) (map[string]string, error) {
	content := found.Raw
	if content == nil {
		release, err := l.m.s.loads.acquire(ctx)
		if err != nil {
			return nil, err
		}
		defer release()
		long, err := l.m.Get(ctx, found.Value.Digest)
		if err != nil {
			return nil, err
		}
		content = long.Content
	}
	return manifest.Annotations(content)
}
