package blobstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/upload"
)

const defaultMediaType = "application/octet-stream"

// receiving is one request's bytes of an upload.
type receiving struct {
	length    int64 // bytes to come, -1 if nobody knows
	final     bool  // they are committed at once, or not kept
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
	opts := upload.Options{Length: in.length, Final: in.final, Digest: in.digest, Interrupt: in.interrupt}
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
	rec, err := envelope.Read[record](ctx, s.bucket, s.keys.record(d))
	if errors.Is(err, drivers.ErrNotFound) {
		return "", false, nil
	}
	if err != nil || rec.Value.State != live {
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
	limit := w.Limit()
	ctx, cancel := limit.Context(ctx)
	defer cancel()
	var there record
	var asked, linked bool
	ask := func(canonical digest.Digest, key string) (bool, error) {
		var err error
		there, linked, err = r.published(ctx, limit, canonical, desc.Digest)
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
		return r.commitAgain(ctx, limit, w.Token(), ended, ended.Digest, desc)
	case err != nil:
		return Descriptor{}, err
	case again && linked:
		return there.descriptor(), limit.Check()
	}
	c, err := w.Store(ctx)
	if err != nil {
		return Descriptor{}, err
	}
	done, err := r.publish(ctx, limit, content{Content: c, mediaType: mediaType(desc), seen: *w.seen}, desc.Digest)
	if err != nil {
		return Descriptor{}, err
	}
	w.Spend(ctx, desc.Digest)
	return done, limit.Check()
}

func mediaType(desc Descriptor) string {
	if desc.MediaType == "" {
		return defaultMediaType
	}
	return desc.MediaType
}

// commitAgain answers a commit of an upload that has ended: a client that lost
// the answer to the first one asks again, and has it once more if the blob is
// there, or can be finished without its bytes. That the bytes have both digests
// is known.
func (r *Repository) commitAgain(ctx context.Context, limit upload.Limit, t upload.Token, ended *upload.EndedError, canonical digest.Digest, desc Descriptor) (Descriptor, error) {
	there, ok, err := r.published(ctx, limit, canonical, desc.Digest)
	if err != nil || ok {
		return there.descriptor(), err
	}
	c, err := r.s.uploads.Committed(ctx, t, ended)
	if err != nil {
		return Descriptor{}, err
	}
	return r.publish(ctx, limit, content{Content: c, mediaType: mediaType(desc)}, desc.Digest)
}

// committedAs is the canonical digest that the upload was committed as, if that
// is the one that the client names. It reports the EndedError if it is another,
// or none.
func (r *Repository) committedAs(ctx context.Context, ended *upload.EndedError, named digest.Digest) (digest.Digest, error) {
	switch {
	case ended.Digest == "" && !ended.Gone:
		return "", ended
	case named != "" && (named == ended.Digest || named == ended.Named):
		return ended.Digest, nil
	}
	canonical, err := r.s.canonical(ctx, named, true)
	if errors.Is(err, ErrBlobUnknown) || err == nil && !ended.Gone && canonical != ended.Digest {
		return "", ended
	}
	return canonical, err
}
