package blobstore

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
)

var (
	_ ManifestService = (*Manifests)(nil)
	_ ManifestServer  = (*Manifests)(nil)
	_ Referrers       = (*Manifests)(nil)
	_ TagService      = (*Tags)(nil)
)

// Exists reports whether the repository has the manifest. See [ManifestService].
func (m *Manifests) Exists(ctx context.Context, dgst digest.Digest) (bool, error) {
	return false, errors.ErrUnsupported
}

// Get returns a manifest. See [ManifestService].
func (m *Manifests) Get(ctx context.Context, dgst digest.Digest) (Manifest, error) {
	return Manifest{}, errors.ErrUnsupported
}

// Enumerate calls ingester for the digest of each manifest. See [ManifestService].
func (m *Manifests) Enumerate(ctx context.Context, ingester func(dgst digest.Digest) error) error {
	return errors.ErrUnsupported
}
