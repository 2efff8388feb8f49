package blobstore

import (
	"context"
	"errors"
	"iter"

	"github.com/opencontainers/go-digest"
)

// Referrers returns the manifests that have this subject. See [Referrers].
func (m *Manifests) Referrers(ctx context.Context, subject, after digest.Digest) iter.Seq2[ManifestDescriptor, error] {
	return func(yield func(ManifestDescriptor, error) bool) {
		yield(ManifestDescriptor{}, errors.ErrUnsupported)
	}
}
