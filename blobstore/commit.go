package blobstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
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
}

// writer is an upload.Writer, and what was learnt about the blob on the way.
type writer struct {
	*upload.Writer
	seen *string // data key that was found to be there, of the right size
}

// resume goes on with an upload.
func (r *Repository) resume(ctx context.Context, t upload.Token, in receiving) (writer, error) {
	seen := new(string)
	opts := upload.Options{Length: in.length, Final: in.final, Repeat: in.repeat, Digest: in.digest, Interrupt: in.interrupt}
	if in.final && in.digest.Algorithm() == digest.Canonical {
		opts.Known = func(ctx context.Context) (bool, error) {
			data, ok, err := r.s.known(ctx, in.digest)
			*seen = data
			return ok, err
		}
	}
	w, err := r.s.uploads.Resume(ctx, t, opts)
	return writer{w, seen}, err
}

// known says whether there is a live blob whose bytes are there, and then their
// data key. A client's need not be stored again.
func (s *Store) known(ctx context.Context, d digest.Digest) (data string, ok bool, err error) {
	rec, err := envelope.Read[catalog.Record](ctx, s.bucket, catalog.RecordKey(d))
	if errors.Is(err, drivers.ErrNotFound) {
		return "", false, nil
	}
	if err != nil || rec.Value.State != catalog.Live {
		return "", false, err
	}
	if ok, err = s.dataIsThere(ctx, rec.Value); !ok || err != nil {
		return "", false, err
	}
	return rec.Value.Data, true, nil
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
	due := w.Deadline()
	ctx, cancel := due.Context(ctx)
	defer cancel()
	var there catalog.Record
	var asked, linked bool
	proven := w.Proves(desc.Digest)
	ask := func(canonical digest.Digest, key string) (bool, error) {
		var err error
		there, linked, err = r.published(ctx, due, naming{canonical, desc.Digest, proven})
		asked = true
		return linked && there.Data == key, err
	}
	again, err := w.Seal(ctx, desc.Digest, ask)
	if again && !asked {
		_, err = ask(w.Digest(), "")
	}
	ended, isEnd := errors.AsType[*upload.EndedError](err)
	switch {
	case isEnd && ended.Digest == w.Digest():
		return r.commitAgain(ctx, due, w.Token(), ended, naming{ended.Digest, desc.Digest, proven}, desc)
	case err != nil:
		return Descriptor{}, err
	case again && linked:
		return descriptorOf(there), due.Check()
	}
	c, err := w.Store(ctx)
	if err == nil && !w.Proves(desc.Digest) {
		err = r.prove(ctx, due, c, desc.Digest)
	}
	if err != nil {
		return Descriptor{}, err
	}
	done, err := r.publish(ctx, due, content{Content: c, mediaType: mediaType(desc), seen: *w.seen}, desc.Digest)
	if err != nil {
		return Descriptor{}, err
	}
	w.Spend(ctx, desc.Digest)
	return done, due.Check()
}

func mediaType(desc Descriptor) string {
	if desc.MediaType == "" {
		return defaultMediaType
	}
	return desc.MediaType
}
