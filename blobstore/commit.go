package blobstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/upload"
)

const defaultMediaType = "application/octet-stream"

// receiving is one request's bytes of an upload.
type receiving struct {
	length    int64 // bytes to come, -1 if nobody knows
	final     bool  // they are committed at once, or not kept
	repeat    bool  // the first ones may have been sent before
	digest    digest.Digest
	interrupt func()
	due       deadline.Deadline
}

// writer is an upload.Writer, and what was learnt about the blob on the way.
type writer struct {
	*upload.Writer
	due  deadline.Deadline
	seen *string // data key that was found to be there, of the right size
}

// resume goes on with an upload.
func (r *Repository) resume(ctx context.Context, t upload.Token, in receiving) (writer, error) {
	seen := new(string)
	opts := upload.Options{Deadline: in.due, Length: in.length, Final: in.final, Repeat: in.repeat, Digest: in.digest, Interrupt: in.interrupt}
	if in.final && in.digest.Algorithm() == digest.Canonical {
		opts.Known = func(ctx context.Context) (bool, error) {
			existing, ok, err := r.s.catalog.Stored(ctx, in.digest)
			*seen = existing.Data
			return ok, err
		}
	}
	w, err := r.s.uploads.Resume(ctx, t, opts)
	return writer{w, in.due, seen}, err
}

// commit makes what w received a blob of this repository, in the time that the
// request may last.
func (r *Repository) commit(ctx context.Context, w writer, desc Descriptor) (Descriptor, error) {
	done, err := r.tryCommit(ctx, w, desc)
	if errors.Is(err, upload.ErrDigest) {
		return Descriptor{}, ErrBlobInvalidDigest{desc.Digest, err}
	}
	return done, translate(err)
}

func (r *Repository) tryCommit(ctx context.Context, w writer, desc Descriptor) (Descriptor, error) {
	if err := checkDigest(desc.Digest); err != nil {
		return Descriptor{}, err
	}
	if size := w.Size(); desc.Size > 0 && desc.Size != size {
		return Descriptor{}, fmt.Errorf("%w: %d bytes came, not %d", ErrBlobInvalidLength, size, desc.Size)
	}
	due := w.due
	ctx, cancel := due.Context(ctx)
	defer cancel()
	as := naming{w.Digest(), desc.Digest, w.Proves(desc.Digest)}
	existing, published, err := r.seal(ctx, due, w, as)
	ended, isEnd := errors.AsType[*upload.EndedError](err)
	switch {
	case isEnd && ended.Digest == as.canonical:
		return r.commitAgain(ctx, due, w.Token(), ended, as, desc)
	case err != nil:
		return Descriptor{}, err
	case published:
		return descriptorOf(existing), due.Check()
	}
	c, err := w.Store(ctx)
	if err == nil && !w.Proves(desc.Digest) {
		err = r.prove(ctx, due, c, desc.Digest)
	}
	if err != nil {
		return Descriptor{}, err
	}
	done, err := r.publish(ctx, due, contentOf(c, desc, *w.seen), desc.Digest)
	if err != nil {
		return Descriptor{}, err
	}
	w.Spend(ctx, desc.Digest)
	return done, due.Check()
}

// seal ends the upload. If another request has ended it with the same digest and
// the blob is published in this repository, seal returns the blob's record, and
// the commit is complete.
func (r *Repository) seal(ctx context.Context, due deadline.Deadline, w writer, as naming) (catalog.Record, bool, error) {
	result, err := w.Seal(ctx, as.named)
	if err != nil || result == upload.Sealed {
		return catalog.Record{}, false, err
	}
	existing, published, err := r.published(ctx, due, as)
	if err != nil {
		return catalog.Record{}, false, err
	}
	if result == upload.Contested && (!published || existing.Data != w.DataKey()) {
		result, err = w.ResolveSeal(ctx)
	}
	return existing, published && result != upload.Sealed, err
}
