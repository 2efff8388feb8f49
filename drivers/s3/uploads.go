package s3

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/berthhq/berth/drivers"
)

// StartUpload is a CreateMultipartUpload.
func (b *bucket) StartUpload(ctx context.Context, key string) (drivers.Upload, error) {
	if err := drivers.CheckKey(key); err != nil {
		return drivers.Upload{}, fmt.Errorf("s3: start upload of %s: %w", key, err)
	}
	u, err := b.multipart.start(ctx, key)
	if err != nil {
		return drivers.Upload{}, fmt.Errorf("s3: start upload of %s: %w", key, b.store.classify(ctx, err))
	}
	return u, nil
}

// PutPart is an UploadPart, with the kind of checksum that the upload was
// started with. It returns ErrNotFound if the upload is gone.
func (b *bucket) PutPart(ctx context.Context, u drivers.Upload, number int, body drivers.Body) (drivers.Part, error) {
	p, err := b.multipart.putPart(ctx, u, number, body)
	if err != nil {
		return drivers.Part{}, fmt.Errorf("s3: part %d of %s: %w", number, u.Key, err)
	}
	return p, nil
}

// StreamPart returns errors.ErrUnsupported: S3 needs a part's length in
// advance.
func (b *bucket) StreamPart(_ context.Context, u drivers.Upload, number int, _ io.Reader) (drivers.Part, error) {
	return drivers.Part{}, fmt.Errorf("s3: stream part %d of %s: %w", number, u.Key, errors.ErrUnsupported)
}

// Abort is an AbortMultipartUpload. It returns nil if the upload is gone.
func (b *bucket) Abort(ctx context.Context, u drivers.Upload) error {
	if err := b.multipart.abort(ctx, u); err != nil && code(err) != "NoSuchUpload" {
		return fmt.Errorf("s3: abort %s: %w", u.Key, b.store.classify(ctx, err))
	}
	return nil
}
