package transfer

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
)

// Bucket is a repository of the bucket as a Source.
type Bucket struct {
	Name       reference.Named
	Repository *blobstore.Repository
}

var _ Source = Bucket{}

// Manifest returns a manifest. See Source.
func (b Bucket) Manifest(ctx context.Context, ref string) (blobstore.Manifest, error) {
	if d, err := digest.Parse(ref); err == nil {
		return b.Repository.Manifests().Get(ctx, d)
	}
	desc, err := b.Repository.Tags().Get(ctx, ref)
	if err != nil {
		return blobstore.Manifest{}, err
	}
	return b.Repository.Manifests().Get(ctx, desc.Digest)
}

// Open returns the bytes of a blob. See Source.
func (b Bucket) Open(ctx context.Context, desc blobstore.Descriptor, off int64) (io.ReadCloser, error) {
	rc, err := b.Repository.Open(ctx, desc.Digest)
	if err != nil {
		return nil, err
	}
	if _, err := rc.Seek(off, io.SeekStart); err != nil {
		return nil, errors.Join(err, rc.Close())
	}
	return rc, nil
}

// Mount mounts a blob of the repository. See Source.
func (b Bucket) Mount(ctx context.Context, to *blobstore.Repository, d digest.Digest) error {
	_, err := to.Mount(ctx, b.Name, d)
	return err
}

// Referrers returns the manifests with this subject. See Source.
func (b Bucket) Referrers(ctx context.Context, subject blobstore.Descriptor) iter.Seq2[digest.Digest, error] {
	return func(yield func(digest.Digest, error) bool) {
		for desc, err := range b.Repository.Manifests().Referrers(ctx, subject.Digest, "") {
			if !yield(desc.Digest, err) {
				return
			}
		}
	}
}
