package scrub

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/pace"
	"github.com/berthhq/berth/drivers"
)

// verdict is what was found about the bytes of a blob.
type verdict struct {
	problem Problem // "" if there is none
	reason  string
	crc     uint32 // of the bytes, if hashed
	hashed  bool   // all bytes were read, and have the digest
}

func damaged(format string, args ...any) verdict {
	return verdict{problem: Damaged, reason: fmt.Sprintf(format, args...)}
}

const gone = "its data is not there"

// verify checks the bytes of a record. It returns an error if the run cannot continue.
func (r *run) verify(ctx context.Context, rec catalog.Record, raw []byte) (verdict, error) {
	switch {
	case rec.Data == "" && (int64(len(raw)) != rec.Size || digest.FromBytes(raw) != rec.Digest):
		return damaged("its bytes do not have its digest"), nil
	case rec.Data == "":
		return verdict{crc: drivers.UpdateCRC32C(0, raw), hashed: true}, nil
	case r.cfg.Cheap:
		return r.compare(ctx, rec)
	}
	return r.hash(ctx, rec)
}

// compare asks the store for the size of the data.
func (r *run) compare(ctx context.Context, rec catalog.Record) (verdict, error) {
	var o drivers.Object
	err := pace.Retry(ctx, func() (err error) {
		o, err = r.bucket.Stat(ctx, rec.Data)
		return err
	})
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		return verdict{problem: Missing, reason: gone}, nil
	case err != nil:
		return unreadable(ctx, err)
	case o.Size != rec.Size:
		return damaged("its data has %d bytes, want %d", o.Size, rec.Size), nil
	}
	return verdict{}, nil
}

// unreadable returns the verdict for an error of the store about one object, or the error if
// it ends the run.
func unreadable(ctx context.Context, err error) (verdict, error) {
	if ctx.Err() != nil || errors.Is(err, drivers.ErrRefused) {
		return verdict{}, err
	}
	return verdict{problem: Unreadable, reason: err.Error()}, nil
}

// reading is the data of one blob as it is read, in one response or several.
type reading struct {
	rec catalog.Record
	tag string // of the version that is read
	off int64
	sum hash.Hash
	crc uint32
}

// hash reads and hashes the data. After an error it continues where it stopped, if the
// object is still the same.
func (r *run) hash(ctx context.Context, rec catalog.Record) (v verdict, err error) {
	of := &reading{rec: rec, sum: sha256.New()}
	err = pace.Retry(ctx, func() (err error) {
		v, err = r.readOn(ctx, of)
		return err
	})
	if err != nil {
		return unreadable(ctx, err)
	}
	if v.problem == "" {
		if got := digest.NewDigest(digest.SHA256, of.sum); got != rec.Digest {
			return damaged("its bytes have the digest %s", got), nil
		}
		v.crc, v.hashed = of.crc, true
	}
	return v, nil
}

// stalled is how long a store may take to send the next bytes.
const stalled = time.Minute

// readOn reads from where the reading stopped to the end.
func (r *run) readOn(ctx context.Context, of *reading) (verdict, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := fmt.Errorf("%w: no bytes arrived for %v", drivers.ErrBusy, stalled)
	late := time.AfterFunc(stalled, func() { cancel(silent) })
	defer late.Stop()
	body, o, err := r.bucket.Open(ctx, of.rec.Data, of.off, -1)
	if err == nil && of.tag != "" && o.Tag != of.tag { // another object: read it from the start
		body.Close()
		of.off, of.crc = 0, 0
		of.sum.Reset()
		body, o, err = r.bucket.Open(ctx, of.rec.Data, 0, -1)
	}
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		return verdict{problem: Missing, reason: gone}, nil
	case errors.Is(err, drivers.ErrRange):
		return damaged("its data is shorter than %d bytes", of.rec.Size), nil
	case err != nil:
		return verdict{}, causeOf(ctx, silent, err)
	}
	defer body.Close()
	if of.tag = o.Tag; o.Size != of.rec.Size {
		return damaged("its data has %d bytes, want %d", o.Size, of.rec.Size), nil
	}
	buf := make([]byte, burst)
	for of.off < of.rec.Size {
		late.Reset(stalled)
		n, err := body.Read(buf)
		late.Stop()
		of.sum.Write(buf[:n])
		of.crc = drivers.UpdateCRC32C(of.crc, buf[:n])
		of.off += int64(n)
		r.add(func(rep *Report) { rep.Bytes += int64(n) })
		if err != nil && of.off < of.rec.Size {
			if err == io.EOF {
				err = fmt.Errorf("%w: the response ended after %d of %d bytes", drivers.ErrBusy, of.off, of.rec.Size)
			}
			return verdict{}, causeOf(ctx, silent, err)
		}
		if err := r.bytes.WaitN(ctx, n); err != nil {
			return verdict{}, err
		}
	}
	return verdict{}, nil
}

// causeOf returns silent if it has ended ctx, and otherwise err.
func causeOf(ctx context.Context, silent, err error) error {
	if context.Cause(ctx) == silent { //nolint:errorlint // it is this very error
		return silent
	}
	return err
}
