package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
)

// maxReopens is how often in a row a read goes on with another connection to
// the store, without a byte in between.
const maxReopens = 3

// openData reads the bytes of a blob, and asks for those from off on, where the
// caller means to begin. It reports ErrBlobUnknown if they are gone, so that
// clients push them again; the next read then looks at the link afresh.
func (r *Repository) openData(ctx context.Context, rec record, raw []byte, off int64) (ReadSeekCloser, error) {
	if rec.Data == "" {
		return struct {
			*bytes.Reader
			io.Closer
		}{bytes.NewReader(raw), io.NopCloser(nil)}, nil
	}
	d := &dataReader{ctx: ctx, bucket: r.s.bucket, key: rec.Data, digest: rec.Digest, size: rec.Size, off: off}
	if err := d.open(); err != nil {
		if errors.Is(err, ErrBlobUnknown) {
			r.s.cache.forget(linkID{r.name, rec.Digest})
		}
		return nil, err
	}
	if f, ok := d.rc.(*os.File); ok { // it can seek, and is sent from the kernel
		return f, nil
	}
	return d, nil
}

// dataReader reads an object whose content never changes. It opens it where it
// is read, and goes on by itself when the store breaks the connection.
type dataReader struct {
	ctx    context.Context //nolint:containedctx // io.Reader has no parameter for it
	bucket drivers.Bucket
	key    string
	digest digest.Digest
	size   int64

	off     int64         // where the next Read begins
	rc      io.ReadCloser // nil, or stands at at
	at      int64
	reopens int
	failed  error // what the last Read reported, if it gave up
}

func (d *dataReader) open() error {
	if d.off >= d.size { // nothing to ask for
		return nil
	}
	rc, o, err := d.bucket.Open(d.ctx, d.key, d.off, -1)
	switch {
	case errors.Is(err, drivers.ErrNotFound), errors.Is(err, drivers.ErrRange):
		return fmt.Errorf("%w: %s: its data is gone", ErrBlobUnknown, d.digest)
	case err != nil:
		return translate(err)
	case o.Size != d.size:
		rc.Close()
		return fmt.Errorf("%w: %s: its data has %d bytes, want %d", ErrBlobUnknown, d.digest, o.Size, d.size)
	}
	d.rc, d.at = rc, d.off
	return nil
}

// Read reads from the store.
func (d *dataReader) Read(p []byte) (int, error) {
	if d.off >= d.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if d.rc != nil && d.at != d.off {
			d.rc.Close()
			d.rc = nil
		}
		var n int
		var err error
		if d.rc == nil {
			err = d.open()
		}
		if err == nil {
			n, err = d.rc.Read(p)
		}
		if n > 0 {
			d.off += int64(n)
			d.at = d.off
			d.reopens = 0
			return n, nil
		}
		if err == nil {
			continue
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if d.rc != nil {
			d.rc.Close()
			d.rc = nil
		}
		d.reopens++
		if d.reopens > maxReopens || errors.Is(err, ErrBlobUnknown) || d.ctx.Err() != nil {
			d.failed = fmt.Errorf("blobstore: read %s at %d: %w", d.digest, d.off, err)
			return 0, d.failed
		}
	}
}

// Seek asks nothing of the store.
func (d *dataReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += d.off
	case io.SeekEnd:
		offset += d.size
	}
	if offset < 0 {
		return 0, errors.New("blobstore: seek before the start of a blob")
	}
	d.off = offset
	return offset, nil
}

// Close ends the reading.
func (d *dataReader) Close() error {
	if d.rc == nil {
		return nil
	}
	err := d.rc.Close()
	d.rc = nil
	return err
}
