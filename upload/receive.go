package upload

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/upload/budget"
)

// receive reads r until enough; at the end of r it returns io.EOF.
func (w *Writer) receive(r io.Reader, enough func() bool) error {
	for !enough() {
		if w.mustStop() {
			w.failed = ErrCut
			return ErrCut
		}
		var p []byte
		var peek [1]byte
		peeked := w.isFull() || w.tail != nil && w.tail.IsSmallFull()
		if peeked {
			// Whether there is more shows only now. If there isn't, a full part
			// is the last one, which may not be stored yet; and no memory is
			// needed.
			p = peek[:]
		} else {
			var err error
			if p, err = w.space(); err != nil {
				return err
			}
		}
		n, err := r.Read(p)
		if n > 0 {
			var tookErr error
			if peeked {
				_, tookErr = w.write(p[:n])
			} else {
				tookErr = w.took(p[:n])
			}
			if tookErr != nil {
				return tookErr
			}
		}
		if err != nil && err != io.EOF && w.wasCut.Load() {
			err = ErrCut // which is why the reader failed
			w.failed = err
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// partSize returns the size of the part that is being filled, 0 if it is not fixed.
func (w *Writer) partSize() int64 {
	if w.sizes.First == 0 {
		return 0
	}
	return w.sizes.of(w.before.parts + len(w.parts.done) + 1)
}

// tailSize returns how many bytes are past the last part, those of earlier
// requests among them.
func (w *Writer) tailSize() int64 {
	size := w.inheritedTail()
	if w.tail != nil {
		size += w.tail.Size() - w.skip
	}
	return size
}

// isFull reports whether the part being filled has its size.
func (w *Writer) isFull() bool {
	size := w.tailSize()
	return size > 0 && !w.drop && size == w.partSize()
}

// space returns where the next bytes go. It is called only if there are some: a
// full part is stored first.
func (w *Writer) space() ([]byte, error) {
	if w.failed == nil {
		w.failed = w.ready()
	}
	if w.failed != nil {
		return nil, w.failed
	}
	p, err := w.tail.Space(w.ctx)
	if err != nil {
		w.failed = err
		return nil, err
	}
	if room := w.partSize() - w.tailSize(); !w.drop && int64(len(p)) > room {
		p = p[:room]
	}
	return p, nil
}

// ready makes sure that the part being filled has room.
func (w *Writer) ready() error {
	if w.mustStop() {
		return ErrCut
	}
	if err := w.fixSizes(); err != nil {
		return err
	}
	if w.isFull() {
		if err := w.begin(); err != nil {
			return err
		}
		if w.drop {
			w.releaseTail()
		} else {
			if err := w.gather(w.ctx, false, nil); err != nil {
				return err
			}
			w.ship()
		}
		if err := w.checkpoint(); err != nil {
			return err
		}
		// It may have continued from a record that fixes no sizes: see repeat.
		if err := w.fixSizes(); err != nil {
			return err
		}
	}
	if w.tail == nil || w.tail.IsEmpty() {
		if err := w.startTail(); err != nil {
			return err
		}
	}
	if w.drop {
		w.tail.Reset()
	}
	return w.parts.failure()
}

// startTail prepares the buffer for the first bytes past the last part.
func (w *Writer) startTail() error {
	if n := w.before.parts + len(w.parts.done); n >= w.m.limits.MaxParts {
		return fmt.Errorf("%w: %d parts are full", ErrTooLarge, n)
	}
	if w.partSize() > w.m.largest {
		return w.tooBigForMemory(w.partSize())
	}
	b := w.buffer()
	switch {
	case w.size == w.base.Value.Offset && 0 < w.opts.Length && w.opts.Length <= w.m.cfg.InlineMax:
		b.ReserveSmall(w.opts.Length)
	case b.Streams() && !w.isLoaded(): // the stream's first bytes, which it must not wait for later
		return b.ReserveFront(w.ctx, w.inheritedTail()-w.taken.Size-w.rest.Size)
	}
	return nil
}

// buffer returns the tail's buffer.
func (w *Writer) buffer() *budget.Buffer {
	if w.tail == nil {
		w.tail = w.client.NewBuffer(w.streams())
		w.crc, w.skip = 0, 0
	}
	return w.tail
}

// fixSizes fixes how the upload is cut into parts, if that wasn't done.
func (w *Writer) fixSizes() (err error) {
	switch {
	case w.sizes.First > 0:
	case w.m.limits.Stream:
		w.sizes = sizes{First: max(w.m.cfg.PartSize, w.size), Largest: w.m.largest}
	default:
		w.sizes, err = chooseSizes(w.m.limits, w.m.cfg.PartSize, w.m.largest, w.size, w.opts.Length)
	}
	return err
}

// took accounts for bytes that were put into the slice of space.
func (w *Writer) took(p []byte) error {
	w.client.Received(len(p))
	w.hashes.write(p)
	w.size += int64(len(p))
	w.tail.Add(len(p))
	if !w.drop {
		w.crc = drivers.UpdateCRC32C(w.crc, p)
	}
	if err := w.fits(0); err != nil {
		w.failed = err
	}
	return w.failed
}

// begin starts the multipart upload, unless it is started or the store has
// the blob already.
func (w *Writer) begin() error {
	if w.upload != nil || w.drop {
		return nil
	}
	if err := w.fixSizes(); err != nil {
		return err
	}
	w.client.Pause()
	defer w.client.Resume()
	w.direct = w.opts.Final && w.opts.Digest.Algorithm() == digest.Canonical
	if w.opts.Final && w.opts.Known != nil {
		known, err := w.opts.Known(w.store)
		if err != nil || known {
			w.drop = known
			return err
		}
	}
	var of digest.Digest
	if w.direct {
		of = w.opts.Digest
	}
	ctx, cancel := context.WithTimeout(w.store, storeTimeout)
	defer cancel()
	u, err := w.m.cfg.Bucket.StartUpload(ctx, w.m.cfg.Layout.Data(of))
	if err != nil {
		return err
	}
	w.upload, w.own = &u, true
	return nil
}

// ship starts to store the tail as the next part. No tail is left.
func (w *Writer) ship() {
	w.client.Pause()
	w.parts.put(w.buffer(), w.wholeTail())
	w.client.Resume()
	w.tail, w.taken, w.rest = nil, drivers.Body{}, drivers.Body{}
}

// checkpoint creates a record now and then, if the bytes are to be kept.
func (w *Writer) checkpoint() error {
	if w.opts.Final || time.Since(w.recorded) < recordEvery {
		return nil
	}
	w.client.Pause()
	defer w.client.Resume()
	if err := w.parts.wait(); err != nil {
		return err
	}
	return w.record(w.store)
}
