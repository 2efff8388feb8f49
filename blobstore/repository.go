package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
)

// Repository is the blobs of one repository.
type Repository struct {
	s      *Store
	name   string
	access BlobDescriptorService
}

var _ BlobStore = (*Repository)(nil)

// Stat describes the blob, by its canonical digest.
func (r *Repository) Stat(ctx context.Context, dgst digest.Digest) (Descriptor, error) {
	return r.access.Stat(ctx, dgst)
}

// Delete removes the blob from this repository. Other repositories keep it, and
// its bytes go once none has it. Other processes may give it out from their
// caches until their TTL ends.
func (r *Repository) Delete(ctx context.Context, dgst digest.Digest) error {
	return r.access.Clear(ctx, dgst)
}

// SetDescriptor lets a blob of this repository be read by another digest.
func (r *Repository) SetDescriptor(ctx context.Context, dgst digest.Digest, desc Descriptor) error {
	return r.access.SetDescriptor(ctx, dgst, desc)
}

// Clear is Delete.
func (r *Repository) Clear(ctx context.Context, dgst digest.Digest) error {
	return r.access.Clear(ctx, dgst)
}

var _ BlobDescriptorService = (*Repository)(nil)

func descriptorOf(rec catalog.Record) Descriptor {
	return Descriptor{MediaType: rec.MediaType, Size: rec.Size, Digest: rec.Digest}
}

// readable is the link to a blob that may be read.
func (r *Repository) readable(ctx context.Context, dgst digest.Digest, wantRaw bool) (catalog.Record, []byte, error) {
	if r.s.cfg.Access != nil {
		if _, err := r.access.Stat(ctx, dgst); err != nil {
			return catalog.Record{}, nil, err
		}
	}
	return r.link(ctx, dgst, wantRaw)
}

// Get returns the whole blob.
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

// Open reads the blob.
func (r *Repository) Open(ctx context.Context, dgst digest.Digest) (ReadSeekCloser, error) {
	rec, raw, err := r.readable(ctx, dgst, true)
	if err != nil {
		return nil, err
	}
	return r.openData(ctx, rec, raw, 0, rec.Size)
}

// Put stores p.
func (r *Repository) Put(ctx context.Context, mediaType string, p []byte) (Descriptor, error) {
	desc := Descriptor{MediaType: mediaType, Size: int64(len(p)), Digest: digest.FromBytes(p)}
	t := r.s.uploads.Start(r.name, digest.Canonical)
	w, err := r.resume(ctx, t, receiving{due: r.s.newDeadline(), length: int64(len(p)), final: true, digest: desc.Digest})
	if err != nil {
		return Descriptor{}, translate(err)
	}
	defer w.Close()
	if _, err := w.Write(p); err != nil {
		return Descriptor{}, translate(err)
	}
	return r.commit(ctx, w, desc)
}

// Create begins an upload.
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
	return r.newWriter(ctx, r.s.uploads.Start(r.name, alg))
}

// algorithm is the one that a session computes, the canonical one if it is to
// be no other.
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

// Resume goes on with an upload.
func (r *Repository) Resume(ctx context.Context, id string) (BlobWriter, error) {
	t, _, err := r.s.uploads.Find(ctx, r.name, id)
	if err != nil {
		return nil, translate(err)
	}
	return r.newWriter(ctx, t)
}

// MountFrom asks Create to mount a blob out of another repository, if that has
// it, instead of beginning an upload.
func MountFrom(from reference.Canonical) BlobCreateOption { return mountFrom{from} }

type mountFrom struct {
	from reference.Canonical
}

func (m mountFrom) Apply(v any) error {
	o, ok := v.(*CreateOptions)
	if !ok {
		return fmt.Errorf("blobstore: option for %T, want *CreateOptions", v)
	}
	o.Mount.ShouldMount = true
	o.Mount.From = m.from
	return nil
}
