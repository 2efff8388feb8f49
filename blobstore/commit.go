package blobstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/upload"
)

// commit is one request that makes the bytes of an upload a blob.
type commit struct {
	r   *Repository
	due deadline.Deadline

	// desc is the descriptor that the client sent. Its digest is well-formed. Its
	// size and media type may be zero.
	desc Descriptor
}

// run makes the bytes that w has received a blob of the repository.
func (c commit) run(ctx context.Context, w *writer) (Descriptor, error) {
	ctx, cancel := c.due.Context(ctx)
	defer cancel()
	desc, err := c.sealAndPublish(ctx, w)
	if errors.Is(err, upload.ErrDigest) {
		return Descriptor{}, ErrBlobInvalidDigest{c.desc.Digest, err}
	}
	return desc, publicError(err)
}

func (c commit) sealAndPublish(ctx context.Context, w *writer) (Descriptor, error) {
	if size := w.Size(); c.desc.Size > 0 && c.desc.Size != size {
		return Descriptor{}, fmt.Errorf("%w: received %d bytes, want %d", ErrBlobInvalidLength, size, c.desc.Size)
	}
	as := naming{w.Digest(), c.desc.Digest, w.Proves(c.desc.Digest)}
	existing, published, err := c.seal(ctx, w, as)
	ended, isEnd := errors.AsType[*upload.EndedError](err)
	switch {
	case isEnd && ended.Digest == as.canonical:
		return c.again(ctx, w.Token(), ended, as)
	case err != nil:
		return Descriptor{}, err
	case published:
		return descriptorOf(existing), c.due.Check()
	}
	desc, err := c.publish(ctx, w)
	if err != nil {
		return Descriptor{}, err
	}
	w.Spend(ctx, c.desc.Digest)
	return desc, c.due.Check()
}

// seal ends the upload. If another request has ended it with the same digest, and
// the blob is published in this repository, seal returns the blob's record, and
// the commit is complete.
func (c commit) seal(ctx context.Context, w *writer, as naming) (catalog.Record, bool, error) {
	result, err := w.Seal(ctx, as.named)
	if err != nil || result == upload.Sealed {
		return catalog.Record{}, false, err
	}
	existing, published, err := c.r.links().published(ctx, c.due, as)
	if err != nil {
		return catalog.Record{}, false, err
	}
	if result == upload.Contested && (!published || existing.Data != w.DataKey()) {
		result, err = w.ResolveSeal(ctx)
	}
	return existing, published && result != upload.Sealed, err
}

// publish stores the bytes of a sealed upload, and makes them a blob.
func (c commit) publish(ctx context.Context, w *writer) (Descriptor, error) {
	stored, err := w.Store(ctx)
	if err == nil && !w.Proves(c.desc.Digest) {
		err = c.prove(ctx, stored)
	}
	if err != nil {
		return Descriptor{}, err
	}
	content := contentOf(stored, c.desc.MediaType, w.verifiedKey)
	return c.r.links().publish(ctx, c.due, content, c.desc.Digest)
}
