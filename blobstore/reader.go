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

// maxReopens is how often in a row a read goes on with another connection to
// the store, without a byte in between.
const maxReopens = 3

// openData reads the bytes of a blob, and asks for those from off to end, which
// the caller means to read. It reports ErrBlobUnknown if they are gone, so that
// clients push them again; the next read then looks at the link afresh.
func (r *Repository) openData(ctx context.Context, rec catalog.Record, raw []byte, off, end int64) (ReadSeekCloser, error) {
	if rec.Data == "" {
		return struct {
			*bytes.Reader
			io.Closer
		}{bytes.NewReader(raw), io.NopCloser(nil)}, nil
	}
	d := &dataReader{bucket: r.s.bucket, key: rec.Data, digest: rec.Digest, size: rec.Size, off: off, end: end}
	d.ctx, d.cancel = context.WithCancel(ctx)
	if err := d.open(); err != nil {
		d.cancel()
		if errors.Is(err, ErrBlobUnknown) {
			r.s.cache.forget(linkID{r.name, rec.Digest})
		}
		return nil, err
	}
	if d.answer == nil {
		return d, nil
	}
	reader, ok := d.answer.rc.(drivers.FileReader)
	if !ok {
		return d, nil
	}
	f := reader.File()
	// It can seek, and is sent from the kernel.
	d.answer.cancel(nil)
	d.cancel()
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		f.Close()
		return nil, fmt.Errorf("blobstore: %w", err)
	}
	return f, nil
}

// dataReader reads an object whose content never changes. It opens it where it
// is read, and resumes by itself when the store breaks the connection, or keeps
// silent.
//
// It may be closed while it is read, which ends the read.
type dataReader struct {
	ctx    context.Context //nolint:containedctx // io.Reader has no parameter for it
	cancel context.CancelFunc
	bucket drivers.Bucket
	key    string
	digest digest.Digest
	size   int64

	mu      sync.Mutex
	off     int64   // where the next Read begins
	end     int64   // up to where the store is asked, if off is before it
	answer  *answer // nil, or stands at at
	at      int64
	reopens int
	failed  error // what the last Read reported, if it gave up
}

// answer is what the store sends to one Open.
type answer struct {
	rc     io.ReadCloser
	ctx    context.Context //nolint:containedctx // its cause tells why rc broke off
	cancel context.CancelCauseFunc
	late   *time.Timer // cancels it, while the store is waited for
}

var errStalled = fmt.Errorf("%w: it has sent nothing for %v", drivers.ErrBusy, envelope.Patience)

func (a *answer) Read(p []byte) (int, error) {
	a.late.Reset(envelope.Patience)
	n, err := a.rc.Read(p)
	a.late.Stop()
	return n, a.why(err)
}

// why is err, or that the store was waited for in vain.
func (a *answer) why(err error) error {
	if err != nil && errors.Is(context.Cause(a.ctx), errStalled) {
		return errStalled
	}
	return err
}

func (a *answer) close() {
	a.rc.Close()
	a.cancel(nil)
}

func (d *dataReader) open() error {
	if d.off >= d.size { // nothing to ask for
		return nil
	}
	a := new(answer)
	a.ctx, a.cancel = context.WithCancelCause(d.ctx)
	a.late = time.AfterFunc(envelope.Patience, func() { a.cancel(errStalled) })
	n := int64(-1)
	if d.off < d.end && d.end < d.size {
		n = d.end - d.off
	}
	rc, o, err := d.bucket.Open(a.ctx, d.key, d.off, n)
	a.late.Stop()
	if err != nil {
		err = a.why(err)
		a.cancel(nil)
	}
	a.rc = rc
	switch {
	case errors.Is(err, drivers.ErrNotFound), errors.Is(err, drivers.ErrRange):
		return fmt.Errorf("%w: %s: its data is gone", ErrBlobUnknown, d.digest)
	case err != nil:
		return translate(err)
	case o.Size != d.size:
		a.close()
		return fmt.Errorf("%w: %s: its data has %d bytes, want %d", ErrBlobUnknown, d.digest, o.Size, d.size)
	}
	d.answer, d.at = a, d.off
	return nil
}

// Read reads from the store.
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
		if d.answer != nil && (d.at != d.off || d.off == d.end) { // other bytes are wanted than were asked for
			d.hangUp()
			d.end = d.size
		}
		err := d.ctx.Err()
		if err == nil && d.answer == nil {
			err = d.open()
		}
		var n int
		if err == nil {
			n, err = d.answer.Read(p)
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
		d.hangUp()
		d.reopens++
		ended := d.ctx.Err() != nil // by whoever reads
		if ended || d.reopens > maxReopens || errors.Is(err, ErrBlobUnknown) {
			err = fmt.Errorf("blobstore: read %s at %d: %w", d.digest, d.off, translate(err))
			if !ended {
				d.failed = err
			}
			return 0, err
		}
	}
}

// hangUp is for an answer that is read no further.
func (d *dataReader) hangUp() {
	if d.answer != nil {
		d.answer.close()
		d.answer = nil
	}
}

// Seek asks nothing of the store.
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

// jump has the next Read start at off, and has the store asked for the bytes
// from there up to end.
func (d *dataReader) jump(off, end int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at != off || d.end != end {
		d.hangUp()
	}
	d.off, d.end = off, end
}

// Close ends the reading, and a Read under way.
func (d *dataReader) Close() error {
	d.cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hangUp()
	return nil
}

// broken closes the reader and says why it gave up, if it did.
func (d *dataReader) broken() error {
	_ = d.Close() // never an error
	return d.failed
}
