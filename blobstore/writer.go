package blobstore

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/upload"
)

// blobWriter is a BlobWriter: an upload whose digest is named at its end.
type blobWriter struct {
	r     *Repository
	w     writer
	token upload.Token
	ended bool // committed, cancelled or closed

	// cancelling says that Cancel has failed: the upload may go on elsewhere
	// until it is called again.
	cancelling bool
}

var _ BlobWriter = (*blobWriter)(nil)

var errWriterEnded = errors.New("blobstore: the writer was closed, committed or cancelled")

func (r *Repository) newWriter(ctx context.Context, t upload.Token) (*blobWriter, error) {
	w, err := r.resume(ctx, t, receiving{due: r.s.newDeadline(), length: -1})
	if err != nil {
		return nil, translate(err)
	}
	return &blobWriter{r: r, w: w, token: t}, nil
}

func (b *blobWriter) Write(p []byte) (int, error) {
	if b.ended {
		return 0, errWriterEnded
	}
	n, err := b.w.Write(p)
	return n, translate(err)
}

func (b *blobWriter) ReadFrom(from io.Reader) (int64, error) {
	if b.ended {
		return 0, errWriterEnded
	}
	n, err := b.w.ReadFrom(from)
	return n, translate(err)
}

func (b *blobWriter) Size() int64          { return b.w.Size() }
func (b *blobWriter) ID() string           { return b.token.ID }
func (b *blobWriter) StartedAt() time.Time { return b.token.Started }

func (b *blobWriter) Close() error {
	if b.ended {
		return nil
	}
	b.ended = true
	ctx, cancel := b.w.due.Context(context.Background())
	defer cancel()
	_, err := b.w.Suspend(ctx)
	return translate(errors.Join(err, b.w.Close()))
}

func (b *blobWriter) Commit(ctx context.Context, provisional Descriptor) (Descriptor, error) {
	if b.ended {
		return Descriptor{}, errWriterEnded
	}
	desc, err := b.r.commit(ctx, b.w, provisional)
	if err != nil {
		return Descriptor{}, err
	}
	b.ended = true
	return desc, b.w.Close()
}

func (b *blobWriter) Cancel(ctx context.Context) error {
	if b.ended && !b.cancelling {
		return nil
	}
	b.ended = true
	err := b.w.Close()
	if t := b.w.Token(); t.Seq > 0 {
		err = errors.Join(err, b.r.s.uploads.Cancel(ctx, t, b.r.s.newDeadline()))
	}
	if errors.Is(err, upload.ErrUnknown) {
		err = nil
	}
	b.cancelling = err != nil
	return translate(err)
}

// Upload is where an upload stands, for a client that makes a request of its
// own for each piece, and for processes that share nothing but the bucket.
type Upload struct {
	ID        string
	State     string // for the next request; signed, and opaque to the client
	Size      int64  // bytes that are safe
	StartedAt time.Time
}

func (r *Repository) upload(t upload.Token, size int64) Upload {
	return Upload{ID: t.ID, State: r.s.uploads.Sign(t), Size: size, StartedAt: t.Started}
}

// Body is the bytes of one request of an upload.
type Body struct {
	io.Reader

	// Length is how many bytes there must be, -1 if nobody knows.
	Length int64

	// Start is the offset of the first one in the upload, -1 for wherever it
	// stands.
	Start int64

	// Interrupt makes a Read return soon, from another goroutine; nil if
	// nothing can. A client that is slow while memory is short is cut off so.
	Interrupt func()
}

// StartUpload begins an upload that may be committed by the canonical digest
// or, if alg is not empty, by one of that algorithm. It asks the store nothing.
func (r *Repository) StartUpload(alg digest.Algorithm) (Upload, error) {
	alg, err := algorithm(alg)
	if err != nil {
		return Upload{}, err
	}
	return r.upload(r.s.uploads.Start(r.name, alg), 0), nil
}

// MinChunk is the size from which the pieces of an upload are stored as they
// come, in bytes; 0 if there is none. Smaller ones are taken too.
func (r *Repository) MinChunk() int64 { return r.s.uploads.MinChunk() }

// verify reads the state that a client brings. It reports ErrBlobUploadUnknown
// if it was not made for this upload of this repository.
func (r *Repository) verify(id, state string) (upload.Token, error) {
	t, err := r.s.uploads.Verify(state)
	if err == nil && (t.ID != id || t.Repository != r.name) {
		err = upload.ErrUnknown
	}
	return t, err
}

// UploadStatus says where an upload stands. It reports ErrBlobUploadUnknown if
// it has ended.
func (r *Repository) UploadStatus(ctx context.Context, id, state string) (Upload, error) {
	t, err := r.verify(id, state)
	if err != nil {
		return Upload{}, translate(err)
	}
	t, size, err := r.s.uploads.Status(ctx, t)
	if err != nil {
		return Upload{}, translate(err)
	}
	return r.upload(t, size), nil
}

// CancelUpload ends an upload. It reports ErrBlobUploadUnknown if it has ended.
func (r *Repository) CancelUpload(ctx context.Context, id, state string) error {
	t, err := r.verify(id, state)
	if err == nil {
		err = r.s.uploads.Cancel(ctx, t, r.s.newDeadline())
	}
	return translate(err)
}

// AppendUpload receives a piece of an upload, and records it. If the body fails
// or is cut off, what came is recorded too, and the Upload has its size; then the
// error is returned with it. It reports ErrOutOfOrder if body doesn't begin where
// the upload stands, or another request continued first.
//
// If body.Start is -1, a client that lost the answer may send the same piece with
// the same state again: what was recorded of it is skipped, and the rest
// appended. That needs the rest in memory: where a part was stored past the
// recorded bytes, the answer is ErrOutOfOrder.
func (r *Repository) AppendUpload(ctx context.Context, id, state string, body Body) (Upload, error) {
	t, err := r.verify(id, state)
	if err != nil {
		return Upload{}, translate(err)
	}
	due := r.s.newDeadline()
	ctx, cancel := due.Context(ctx)
	defer cancel()
	w, err := r.resume(ctx, t, receiving{due: due, length: body.Length, repeat: body.Start < 0, interrupt: body.Interrupt})
	if err != nil {
		return Upload{}, translate(err)
	}
	defer w.Close()
	received := r.receive(w, body)
	for _, nothingKept := range []error{ErrOutOfOrder, ErrBlobInvalidLength, upload.ErrOutOfOrder, upload.ErrUnknown, upload.ErrTooLarge} {
		if errors.Is(received, nothingKept) {
			return Upload{}, translate(received)
		}
	}
	// From here on it doesn't matter whether the client waits for the answer.
	last, cancel := due.Context(context.WithoutCancel(ctx))
	defer cancel()
	t, err = w.Suspend(last)
	if errors.Is(err, upload.ErrOutOfOrder) || errors.Is(err, upload.ErrUnknown) {
		return Upload{}, translate(err)
	}
	if err == nil {
		err = received
	}
	if err == nil {
		err = due.Check()
	}
	return r.upload(t, w.Recorded()), translate(err)
}

// FinishUpload takes in the last piece of an upload, which may be all of it, and
// makes the upload a blob. Of a piece that fails nothing is kept, so that the
// same one can be sent again. A client that lost the answer has it again.
func (r *Repository) FinishUpload(ctx context.Context, id, state string, body Body, desc Descriptor) (Descriptor, error) {
	if err := checkDigest(desc.Digest); err != nil {
		return Descriptor{}, err
	}
	t, err := r.verify(id, state)
	if err != nil {
		return Descriptor{}, translate(err)
	}
	due := r.s.newDeadline()
	ctx, cancel := due.Context(ctx)
	defer cancel()
	if t.Seq == 0 && desc.Digest.Algorithm() != digest.Canonical {
		t.Algorithm = desc.Digest.Algorithm() // nothing was hashed yet
	}
	w, err := r.resume(ctx, t, receiving{due: due, length: body.Length, final: true, digest: desc.Digest, interrupt: body.Interrupt})
	if err == nil {
		defer w.Close()
		err = r.receive(w, body)
	}
	if ended, ok := errors.AsType[*upload.EndedError](err); ok {
		desc, err := r.finishAgain(ctx, due, t, ended, desc)
		return desc, translate(err)
	}
	if err != nil {
		return Descriptor{}, translate(err)
	}
	// The client's answer may be lost, but not half of the work.
	return r.commit(context.WithoutCancel(ctx), w, desc)
}

// receive takes in a body, and sees to it that it is as long as it said.
func (r *Repository) receive(w writer, body Body) error {
	before := w.Size()
	if body.Start >= 0 && body.Start != before {
		return ErrOutOfOrder
	}
	if body.Length == 0 {
		return nil
	}
	from := body.Reader
	if body.Length > 0 {
		from = io.LimitReader(from, body.Length+1) // one more shows that there are too many
	}
	n, err := w.ReadFrom(from)
	if err == nil && body.Length > 0 && n != body.Length {
		return ErrBlobInvalidLength
	}
	return err
}
