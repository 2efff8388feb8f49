package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/upload"
)

// Repository reads and writes the blobs of one repository. It is safe for
// concurrent use. [Store.Repository] returns it.
//
// In addition to [BlobStore] it has a method for each step of an upload through an
// HTTP API: StartUpload, UploadStatus, AppendUpload, FinishUpload and
// CancelUpload. Each step can run in a different process.
type Repository struct {
	s           *Store
	name        string
	descriptors BlobDescriptorService
	readOnly    bool // see ReadOnly
}

var (
	_ BlobStore             = (*Repository)(nil)
	_ BlobDescriptorService = (*Repository)(nil)
)

// Stat returns the descriptor of the blob, with its canonical digest. It returns
// ErrBlobUnknown if this repository does not have the blob. The descriptor may come
// from the cache.
func (r *Repository) Stat(ctx context.Context, dgst digest.Digest) (Descriptor, error) {
	return r.descriptors.Stat(ctx, dgst)
}

// Delete removes the blob from this repository. Other repositories keep the blob,
// and the collector removes its bytes once no repository has it. Other processes
// may serve the blob from their caches until Config.Cache.TTL has passed.
//
// It returns ErrBlobUnknown if this repository does not have the blob. So does a
// retry after a lost response.
func (r *Repository) Delete(ctx context.Context, dgst digest.Digest) error {
	return r.descriptors.Clear(ctx, dgst)
}

// SetDescriptor makes the blob with the canonical digest desc.Digest readable by
// dgst too. See [BlobDescriptorService].
func (r *Repository) SetDescriptor(ctx context.Context, dgst digest.Digest, desc Descriptor) error {
	return r.descriptors.SetDescriptor(ctx, dgst, desc)
}

// Clear is the same as Delete. [BlobDescriptorService] requires it.
func (r *Repository) Clear(ctx context.Context, dgst digest.Digest) error {
	return r.descriptors.Clear(ctx, dgst)
}

// ReadOnly returns the same repository for a caller who may only read it. A HEAD by
// such a caller does not keep the collector from removing what it has condemned. All
// methods work as before.
func (r *Repository) ReadOnly() *Repository {
	reader := *r
	reader.readOnly = true
	return &reader
}

// Manifests returns the manifests of the repository.
func (r *Repository) Manifests() *Manifests { return &Manifests{r.s, r.name, r.readOnly} }

// Tags returns the tags of the repository.
func (r *Repository) Tags() *Tags { return &Tags{r.s, r.name, r.readOnly} }

func (r *Repository) links() links { return links{r.s, r.name} }

// readable returns the link to a blob that the caller may read, and the bytes of an
// inline blob if wantInline is set.
func (r *Repository) readable(ctx context.Context, dgst digest.Digest, wantInline bool) (foundLink, error) {
	if r.s.cfg.Access != nil {
		if _, err := r.descriptors.Stat(ctx, dgst); err != nil {
			return foundLink{}, err
		}
	}
	return r.links().find(ctx, dgst, wantInline)
}

// Get returns the bytes of the blob. It returns ErrBlobUnknown if this repository
// does not have the blob.
func (r *Repository) Get(ctx context.Context, dgst digest.Digest) ([]byte, error) {
	rc, err := r.Open(ctx, dgst)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	p, err := io.ReadAll(rc)
	if err != nil {
		return nil, fmt.Errorf("blobstore: get %s: %w", dgst, err)
	}
	return p, nil
}

// Open returns a reader of the blob, which the caller has to close. It returns
// ErrBlobUnknown if this repository does not have the blob. The reader does not
// verify the digest.
func (r *Repository) Open(ctx context.Context, dgst digest.Digest) (ReadSeekCloser, error) {
	found, err := r.readable(ctx, dgst, true)
	if err != nil {
		return nil, err
	}
	return r.links().openData(ctx, found.Record, found.raw, 0, found.Size)
}

// Put stores p as a blob. When it returns without an error, the blob is durable. A
// retry is harmless.
func (r *Repository) Put(ctx context.Context, mediaType string, p []byte) (Descriptor, error) {
	desc := Descriptor{MediaType: mediaType, Size: int64(len(p)), Digest: digest.FromBytes(p)}
	due := r.s.newDeadline()
	w, err := newWriter(ctx, r.s, r.s.uploads.Start(r.name, digest.Canonical), upload.Options{
		Deadline: due,
		Length:   desc.Size,
		Commit:   true,
		Digest:   desc.Digest,
	})
	if err != nil {
		return Descriptor{}, publicError(err)
	}
	defer w.Close()
	if _, err := w.Write(p); err != nil {
		return Descriptor{}, publicError(err)
	}
	return commit{r, due, desc}.run(ctx, w)
}

// Create starts an upload. With the option MountFrom it first tries to mount the
// blob. If that succeeds it returns an ErrBlobMounted, and there is nothing to
// upload.
func (r *Repository) Create(ctx context.Context, options ...BlobCreateOption) (BlobWriter, error) {
	var o CreateOptions
	for _, option := range options {
		if err := option.Apply(&o); err != nil {
			return nil, err
		}
	}
	if o.Mount.ShouldMount {
		desc, err := r.Mount(ctx, o.Mount.From, o.Mount.From.Digest())
		if err == nil {
			return nil, ErrBlobMounted{From: o.Mount.From, Descriptor: desc}
		}
		if !errors.Is(err, ErrBlobUnknown) {
			return nil, err
		}
	}
	alg, err := algorithm(o.Algorithm)
	if err != nil {
		return nil, err
	}
	return newBlobWriter(ctx, r, r.s.uploads.Start(r.name, alg))
}

// algorithm returns the algorithm that a session computes, which is the canonical
// one if alg is empty.
func algorithm(alg digest.Algorithm) (digest.Algorithm, error) {
	switch alg {
	case "", digest.Canonical:
		return digest.Canonical, nil
	case digest.SHA512:
		return alg, nil
	default:
		return "", fmt.Errorf("digest algorithm %.20q: %w", alg, ErrBlobDigestUnsupported)
	}
}

// Resume continues the upload with this id from what was recorded when its writer
// was closed, in this process or another. It returns ErrBlobUploadUnknown if
// nothing was recorded, or if the upload has ended.
func (r *Repository) Resume(ctx context.Context, id string) (BlobWriter, error) {
	t, _, err := r.s.uploads.Find(ctx, r.name, id)
	if err != nil {
		return nil, publicError(err)
	}
	return newBlobWriter(ctx, r, t)
}

// MountFrom returns an option of Create that mounts a blob of another repository,
// if that repository has it, instead of starting an upload.
func MountFrom(from reference.Canonical) BlobCreateOption { return mountFrom{from} }

type mountFrom struct {
	from reference.Canonical
}

// Apply sets CreateOptions.Mount.
func (m mountFrom) Apply(v any) error {
	o, ok := v.(*CreateOptions)
	if !ok {
		return fmt.Errorf("blobstore: option for %T, want *CreateOptions", v)
	}
	o.Mount.ShouldMount = true
	o.Mount.From = m.from
	return nil
}
