package blobstore

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/upload"
)

// writer is an upload.Writer, with what the request has found out about the blob.
type writer struct {
	*upload.Writer
	due         deadline.Deadline
	verifiedKey string // a data key of the blob that exists, with the right size
}

// newWriter continues an upload. The digest in opts is well-formed.
func newWriter(ctx context.Context, s *Store, t upload.Token, opts upload.Options) (*writer, error) {
	w := &writer{due: opts.Deadline}
	if opts.Commit && opts.Digest.Algorithm() == digest.Canonical {
		opts.AlreadyStored = func(ctx context.Context) (bool, error) {
			existing, ok, err := s.catalog.Stored(ctx, opts.Digest)
			w.verifiedKey = existing.Data
			return ok, err
		}
	}
	var err error
	w.Writer, err = s.uploads.Resume(ctx, t, opts)
	return w, err
}

// receive reads a body. It returns ErrBlobInvalidLength if the body does not have
// the length that it declares.
func (w *writer) receive(body Body) error {
	if body.Start >= 0 && body.Start != w.Size() {
		return ErrOutOfOrder
	}
	if body.Length == 0 {
		return nil
	}
	from := body.Reader
	if body.Length > 0 {
		from = io.LimitReader(from, body.Length+1) // one byte more shows that the body is too long
	}
	n, err := w.ReadFrom(from)
	if err == nil && body.Length > 0 && n != body.Length {
		return ErrBlobInvalidLength
	}
	return err
}

// blobWriter is a BlobWriter: an upload that gets its digest when it is committed.
type blobWriter struct {
	r     *Repository
	w     *writer
	token upload.Token
	ended bool // committed, cancelled or closed

	// cancelling means that Cancel has failed: the upload can be resumed until
	// Cancel is called again.
	cancelling bool
}

var _ BlobWriter = (*blobWriter)(nil)

var errWriterEnded = errors.New("blobstore: the writer was closed, committed or cancelled")

func newBlobWriter(ctx context.Context, r *Repository, t upload.Token) (*blobWriter, error) {
	w, err := newWriter(ctx, r.s, t, upload.Options{Deadline: r.s.newDeadline(), Length: -1})
	if err != nil {
		return nil, publicError(err)
	}
	return &blobWriter{r: r, w: w, token: t}, nil
}

// Write appends p to the upload.
func (b *blobWriter) Write(p []byte) (int, error) {
	if b.ended {
		return 0, errWriterEnded
	}
	n, err := b.w.Write(p)
	return n, publicError(err)
}

// ReadFrom appends what it reads from r to the upload.
func (b *blobWriter) ReadFrom(r io.Reader) (int64, error) {
	if b.ended {
		return 0, errWriterEnded
	}
	n, err := b.w.ReadFrom(r)
	return n, publicError(err)
}

// Size returns the number of bytes that the upload has.
func (b *blobWriter) Size() int64 { return b.w.Size() }

// ID returns the id of the upload.
func (b *blobWriter) ID() string { return b.token.ID }

// StartedAt returns the time at which the upload was started.
func (b *blobWriter) StartedAt() time.Time { return b.token.Started }

// Close records what was written.
func (b *blobWriter) Close() error {
	if b.ended {
		return nil
	}
	b.ended = true
	ctx, cancel := b.w.due.Context(context.Background())
	defer cancel()
	_, err := b.w.Suspend(ctx)
	return publicError(errors.Join(err, b.w.Close()))
}

// Commit makes what was written a blob.
func (b *blobWriter) Commit(ctx context.Context, provisional Descriptor) (Descriptor, error) {
	if b.ended {
		return Descriptor{}, errWriterEnded
	}
	if err := checkDigest(provisional.Digest); err != nil {
		return Descriptor{}, err
	}
	desc, err := commit{b.r, b.w.due, provisional}.run(ctx, b.w)
	if err != nil {
		return Descriptor{}, err
	}
	b.ended = true
	return desc, b.w.Close()
}

// Cancel ends the upload without a blob.
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
	return publicError(err)
}
