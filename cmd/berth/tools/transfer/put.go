package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
)

// Upload is what is to be stored as a blob.
type Upload struct {
	// Digest is the digest that the bytes must have. If it is empty, the blob gets their
	// sha256.
	Digest digest.Digest

	// Resume is the ID of an upload that was interrupted, as in InterruptedError. The
	// bytes must start with those that it has. It may be empty.
	Resume string
}

// InterruptedError reports that an upload has kept what it has received.
type InterruptedError struct {
	ID   string // for Upload.Resume
	Size int64  // bytes that were kept
	Err  error  // what has interrupted it
}

// Error returns what has interrupted the upload.
func (e *InterruptedError) Error() string { return e.Err.Error() }

// Unwrap returns what has interrupted the upload.
func (e *InterruptedError) Unwrap() error { return e.Err }

// Put stores what it reads from r as a blob. When it returns without an error, the blob is
// durable. If reading or the store fails, or if ctx ends, it keeps what it has received
// for Upload.Resume and returns an *InterruptedError.
//
// It returns a blobstore.ErrBlobInvalidDigest, and keeps nothing, if the bytes do not have
// the digest, and blobstore.ErrBlobUploadUnknown if there is no upload to resume.
func Put(ctx context.Context, repo *blobstore.Repository, up Upload, r io.Reader) (blobstore.Descriptor, error) {
	alg := digest.Canonical
	if up.Digest != "" {
		alg = up.Digest.Algorithm()
	}
	// The end of ctx ends the reading. What was read is still stored.
	steady := context.WithoutCancel(ctx)
	w, err := startUpload(steady, repo, up, alg)
	if err != nil {
		return blobstore.Descriptor{}, err
	}
	hash := alg.Hash()
	body := io.TeeReader(&contextReader{ctx, r}, hash)
	if n, err := io.CopyN(io.Discard, body, w.Size()); err != nil {
		if err == io.EOF {
			err = fmt.Errorf("the upload has %d bytes already, but the input has only %d: it is another one", w.Size(), n)
		}
		return blobstore.Descriptor{}, interrupted(w, err)
	}
	if _, err := w.ReadFrom(body); err != nil {
		return blobstore.Descriptor{}, interrupted(w, err)
	}
	d := digest.NewDigest(alg, hash)
	if up.Digest != "" && d != up.Digest {
		err := blobstore.ErrBlobInvalidDigest{Digest: up.Digest, Reason: fmt.Errorf("the input has the digest %s", d)}
		return blobstore.Descriptor{}, errors.Join(err, w.Cancel(steady))
	}
	desc, err := w.Commit(ctx, blobstore.Descriptor{Digest: d})
	if _, wrong := errors.AsType[blobstore.ErrBlobInvalidDigest](err); wrong { // the upload was of other bytes
		return blobstore.Descriptor{}, errors.Join(err, w.Cancel(steady))
	}
	if err != nil {
		return blobstore.Descriptor{}, interrupted(w, err)
	}
	return desc, nil
}

func startUpload(ctx context.Context, repo *blobstore.Repository, up Upload, alg digest.Algorithm) (blobstore.BlobWriter, error) {
	if up.Resume != "" {
		return repo.Resume(ctx, up.Resume)
	}
	return repo.Create(ctx, withAlgorithm(alg))
}

// withAlgorithm is an option of Create.
type withAlgorithm digest.Algorithm

// Apply sets CreateOptions.Algorithm.
func (a withAlgorithm) Apply(v any) error {
	o, ok := v.(*blobstore.CreateOptions)
	if !ok {
		return fmt.Errorf("option for %T, want *blobstore.CreateOptions", v)
	}
	o.Algorithm = digest.Algorithm(a)
	return nil
}

// interrupted closes a writer that was interrupted by err.
func interrupted(w blobstore.BlobWriter, err error) error {
	size := w.Size()
	if closeErr := w.Close(); closeErr != nil {
		return errors.Join(err, closeErr)
	}
	if size == 0 {
		return err
	}
	return &InterruptedError{w.ID(), size, err}
}

// contextReader ends with the error of ctx. A Read that does not return goes unnoticed;
// see Interruptible.
type contextReader struct {
	ctx context.Context //nolint:containedctx // io.Reader has no parameter for it
	r   io.Reader
}

// Read implements io.Reader.
func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// Interruptible returns a reader of r that returns the error of ctx as soon as ctx ends,
// even while r has nothing to read, such as a terminal. It leaves a goroutine behind that
// waits for r.
func Interruptible(ctx context.Context, r io.Reader) io.Reader {
	pr, pw := io.Pipe()
	go func() {
		_, err := io.Copy(pw, r)
		pw.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { pw.CloseWithError(ctx.Err()) })
	return pr
}
