package blobstore

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
)

// Manifests is the manifests of one repository. It is safe for concurrent use.
// [Repository.Manifests] returns it.
type Manifests struct {
	s          *Store
	repository string
	readOnly   bool // see Repository.ReadOnly
}

// Put stores a manifest. See [ManifestService].
func (m *Manifests) Put(ctx context.Context, put ManifestPut) (ManifestDescriptor, error) {
	return ManifestDescriptor{}, errors.ErrUnsupported
}

// Delete deletes a manifest. See [ManifestService].
func (m *Manifests) Delete(ctx context.Context, dgst digest.Digest) error {
	return errors.ErrUnsupported
}
