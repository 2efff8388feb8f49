package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// maxReopens is how many times in a row a Read opens the object again without
// receiving a byte.
const maxReopens = 3

// openData opens the bytes of a blob. It requests those from off to end, which
// the caller is going to read first. It returns ErrBlobUnknown if the bytes are
// gone, so that clients push them again; the next read of the blob then reads the
// link from the store.
func (l links) openData(ctx context.Context, rec catalog.Record, raw []byte, off, end int64) (ReadSeekCloser, error) {
	if rec.Data == "" {
		return struct {
			*bytes.Reader
			io.Closer
		}{bytes.NewReader(raw), io.NopCloser(nil)}, nil
	}
	d := &dataReader{bucket: l.s.bucket, key: rec.Data, digest: rec.Digest, size: rec.Size, off: off, end: end}
	d.ctx, d.cancel = context.WithCancel(ctx)
	if err := d.open(); err != nil {
		d.cancel()
		if errors.Is(err, ErrBlobUnknown) {
			l.s.cache.forget(l.id(rec.Digest))
		}
		return nil, err
	}
	if d.stream == nil {
		return d, nil
	}
	reader, ok := d.stream.rc.(drivers.FileReader)
	if !ok {
		return d, nil
	}
	// A file can seek without another Open, and is sent by the kernel.
	f := reader.File()
	d.stream.cancel(nil)
	d.cancel()
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		f.Close()
		return nil, fmt.Errorf("blobstore: %w", err)
	}
	return f, nil
}

// dataReader reads an object whose content never changes. It opens the object at
// the offset of the next Read, and again if the store breaks the connection or
// stops sending.
//
// Close may be called during a Read, and ends it.
type dataReader struct {
	ctx    context.Context //nolint:containedctx // io.Reader has no parameter for it
	cancel context.CancelFunc
	bucket drivers.Bucket
	key    string
	digest digest.Digest
	size   int64

	mu      sync.Mutex
	off     int64        // of the next Read
	end     int64        // of the bytes to request from the store, if it is after off
	stream  *storeStream // nil, or at offset at
	at      int64
	reopens int
	failed  error // of the last Read, if it gave up
}

// storeStream is what the store sends in response to one Open.
type storeStream struct {
	rc     io.ReadCloser
	ctx    context.Context //nolint:containedctx // its cause is the reason why rc failed
	cancel context.CancelCauseFunc
	late   *time.Timer // calls cancel; runs while berth waits for the store
}

var errStalled = fmt.Errorf("%w: it has sent nothing for %v", drivers.ErrBusy, envelope.SmallCallTimeout)

// newStoreStream starts the time in which the store must answer. The caller sends the
// request with the stream's context, and passes the result to opened.
func newStoreStream(ctx context.Context) *storeStream {
	s := new(storeStream)
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.late = time.AfterFunc(envelope.SmallCallTimeout, func() { s.cancel(errStalled) })
	return s
}

// opened ends the wait for the store, and returns why there is no stream, if there is
// none.
func (s *storeStream) opened(rc io.ReadCloser, err error) error {
	s.late.Stop()
	if err != nil {
		err = s.cause(err)
		s.cancel(nil)
	}
	s.rc = rc
	return err
}

func (s *storeStream) Read(p []byte) (int, error) {
	s.late.Reset(envelope.SmallCallTimeout)
	n, err := s.rc.Read(p)
	s.late.Stop()
	return n, s.cause(err)
}

// cause returns errStalled if that caused err, and otherwise err.
func (s *storeStream) cause(err error) error {
	if err != nil && errors.Is(context.Cause(s.ctx), errStalled) {
		return errStalled
	}
	return err
}

func (s *storeStream) close() {
	s.rc.Close()
	s.cancel(nil)
}

// open opens the object at the offset of the next Read.
func (d *dataReader) open() error {
	if d.off >= d.size { // there is nothing to read
		return nil
	}
	s := newStoreStream(d.ctx)
	n := int64(-1)
	if d.off < d.end && d.end < d.size {
		n = d.end - d.off
	}
	rc, o, err := d.bucket.Open(s.ctx, d.key, d.off, n)
	err = s.opened(rc, err)
	switch {
	case errors.Is(err, drivers.ErrNotFound), errors.Is(err, drivers.ErrRange):
		return fmt.Errorf("%w: %s: its data is gone", ErrBlobUnknown, d.digest)
	case err != nil:
		return publicError(err)
	case o.Size != d.size:
		s.close()
		return fmt.Errorf("%w: %s: its data has %d bytes, want %d", ErrBlobUnknown, d.digest, o.Size, d.size)
	}
	d.stream, d.at = s, d.off
	return nil
}

// Read implements [io.Reader].
func (d *dataReader) Read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off >= d.size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, err := d.readStream(p)
		if n > 0 {
			d.off += int64(n)
			d.at = d.off
			d.reopens = 0
			return n, nil
		}
		if err != nil && !d.mayReopen(err) {
			return 0, d.giveUp(err)
		}
	}
}

// readStream reads from the stream. It opens one first if there is none at the
// offset of the next Read.
func (d *dataReader) readStream(p []byte) (int, error) {
	if d.stream != nil && (d.at != d.off || d.off == d.end) { // the next bytes were not requested
		d.closeStream()
		d.end = d.size
	}
	if err := d.ctx.Err(); err != nil {
		return 0, err
	}
	if d.stream == nil {
		if err := d.open(); err != nil {
			return 0, err
		}
	}
	return d.stream.Read(p)
}

// mayReopen closes the stream, which failed with err, and reports whether Read
// may open another.
func (d *dataReader) mayReopen(err error) bool {
	d.closeStream()
	d.reopens++
	return d.ctx.Err() == nil && d.reopens <= maxReopens && !errors.Is(err, ErrBlobUnknown)
}

// giveUp returns the error of a Read whose stream failed with err. It records the
// error, unless the caller ended the Read.
func (d *dataReader) giveUp(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	err = fmt.Errorf("blobstore: read %s at %d: %w", d.digest, d.off, publicError(err))
	if d.ctx.Err() == nil {
		d.failed = err
	}
	return err
}

// closeStream closes the stream, if there is one.
func (d *dataReader) closeStream() {
	if d.stream != nil {
		d.stream.close()
		d.stream = nil
	}
}

// Seek implements [io.Seeker]. It sends no request to the store.
func (d *dataReader) Seek(offset int64, whence int) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
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

// jump moves the next Read to off, and requests the bytes from there to end from
// the store.
func (d *dataReader) jump(off, end int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at != off || d.end != end {
		d.closeStream()
	}
	d.off, d.end = off, end
}

// Close ends the current Read and all later ones.
func (d *dataReader) Close() error {
	d.cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closeStream()
	return nil
}

// failure closes the reader and returns the error with which it gave up, or nil.
func (d *dataReader) failure() error {
	_ = d.Close() // always nil
	return d.failed
}
