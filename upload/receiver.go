package upload

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
)

// recordEvery is how often a long request creates a record, at the next part
// boundary, so that a killed process costs its client little.
const recordEvery = 30 * time.Second

// receiver takes in the bytes of a request, and stores parts as they fill.
type receiver struct {
	*progress
	loader   loader
	recorder recorder
}

// readFrom receives r to its end, and returns io.EOF then.
func (v receiver) readFrom(r io.Reader) error {
	if v.streams() {
		return v.stream(r)
	}
	return v.receive(r, func() bool { return false })
}

// receive reads r until enough. At the end of r it returns io.EOF.
func (v receiver) receive(r io.Reader, enough func() bool) error {
	for !enough() {
		if v.mustStop() {
			return v.status.stop(ErrCut)
		}
		if err := v.readOnce(r); err != nil {
			return err
		}
	}
	return nil
}

// readOnce receives the bytes of one Read of r.
func (v receiver) readOnce(r io.Reader) error {
	// If the part is full, one byte shows whether there is more. If there is not,
	// the part is the last one, which may not be stored yet, and no memory is
	// needed.
	var peek [1]byte
	space, account := peek[:], v.write
	if !v.isFull() && (v.tail.buf == nil || !v.tail.buf.IsSmallFull()) {
		var err error
		if space, err = v.space(); err != nil {
			return err
		}
		account = v.account
	}
	n, err := r.Read(space)
	if n > 0 {
		if err := account(space[:n]); err != nil {
			return err
		}
	}
	if err != nil && err != io.EOF && v.wasCut.Load() {
		return v.status.stop(ErrCut) // which is why r has failed
	}
	return err
}

// write receives p.
func (v receiver) write(p []byte) error {
	for len(p) > 0 {
		space, err := v.space()
		if err != nil {
			return err
		}
		n := copy(space, p)
		p = p[n:]
		if err := v.account(space[:n]); err != nil {
			return err
		}
	}
	return nil
}

// account accounts for bytes that were put into the slice of space.
func (v receiver) account(p []byte) error {
	v.client.Received(len(p))
	v.hashes.write(p)
	v.size += int64(len(p))
	if v.target.origin == dropped {
		v.tail.buf.Add(len(p))
	} else {
		v.tail.add(p)
	}
	if err := v.checkSize(0); err != nil {
		return v.status.stop(err)
	}
	return nil
}

// space returns a slice for the next bytes. It is called only if there are any,
// because it stores a full part first.
func (v receiver) space() ([]byte, error) {
	if err := v.status.receiving(); err != nil {
		return nil, err
	}
	if err := v.makeRoom(); err != nil {
		return nil, v.status.stop(err)
	}
	p, err := v.tail.buf.Space(v.ctx)
	if err != nil {
		return nil, v.status.stop(err)
	}
	if room := v.partSize() - v.tailSize(); v.target.origin != dropped && int64(len(p)) > room {
		p = p[:room]
	}
	return p, nil
}

// makeRoom makes sure that the part being filled has room.
func (v receiver) makeRoom() error {
	if v.mustStop() {
		return ErrCut
	}
	if err := v.fixSizes(); err != nil {
		return err
	}
	if v.isFull() {
		if err := v.storePart(); err != nil {
			return err
		}
	}
	if v.tail.buf == nil || v.tail.buf.IsEmpty() {
		if err := v.startTail(); err != nil {
			return err
		}
	}
	if v.target.origin == dropped {
		v.tail.buf.Reset()
	}
	return v.parts.failure()
}

// storePart stores the tail, which is a full part, unless the store has the blob.
func (v receiver) storePart() error {
	if err := v.startUpload(); err != nil {
		return err
	}
	if v.target.origin == dropped {
		v.tail.release()
	} else {
		if err := v.loader.gather(v.ctx, false, nil); err != nil {
			return err
		}
		v.storeTail()
	}
	if err := v.checkpoint(); err != nil {
		return err
	}
	return v.fixSizes() // the checkpoint may have found a record that fixes no sizes: see repeat
}

// startTail prepares the buffer for the first bytes past the last part.
func (v receiver) startTail() error {
	if n := v.parts.count(); n >= v.m.limits.MaxParts {
		return fmt.Errorf("%w: %d parts are full", ErrTooLarge, n)
	}
	if v.partSize() > v.m.largest {
		return v.tooBigForMemory(v.partSize())
	}
	b := v.buffer()
	switch {
	case v.size == v.base.Value.Offset && 0 < v.opts.Length && v.opts.Length <= v.m.cfg.InlineMax:
		b.ReserveSmall(v.opts.Length)
	case b.Streams() && !v.isLoaded(): // the stream's first bytes, which it must not wait for later
		return b.ReserveFront(v.ctx, v.inheritedTail()-v.tail.taken.Size-v.tail.rest.Size)
	}
	return nil
}

// startUpload starts the multipart upload, unless it is started or the store has
// the blob.
func (v receiver) startUpload() error {
	if v.target.upload != nil || v.target.origin == dropped {
		return nil
	}
	if err := v.fixSizes(); err != nil {
		return err
	}
	v.client.Pause()
	defer v.client.Resume()
	if v.opts.Commit && v.opts.AlreadyStored != nil {
		stored, err := v.opts.AlreadyStored(v.store)
		if err != nil {
			return err
		}
		if stored {
			v.target.origin = dropped
			return nil
		}
	}
	from, of := ours, digest.Digest("")
	if v.opts.Commit && v.opts.Digest.Algorithm() == digest.Canonical {
		from, of = bound, v.opts.Digest
	}
	ctx, cancel := context.WithTimeout(v.store, storeTimeout)
	defer cancel()
	u, err := v.m.cfg.Bucket.StartUpload(ctx, v.m.cfg.Layout.Data(of))
	if err != nil {
		return err
	}
	v.target.start(u, from)
	return nil
}

// storeTail starts to store the tail as the next part. No tail is left.
func (v receiver) storeTail() {
	v.client.Pause()
	defer v.client.Resume()
	buf, body, upload := v.buffer(), v.wholeTail(), *v.target.upload
	buf.MarkSending()
	v.parts.start(body.Size, v.mark(false), func(n int) (drivers.Part, error) {
		ctx, cancel := context.WithTimeout(v.store, storeTimeout)
		defer cancel()
		defer buf.Release()
		return v.m.cfg.Bucket.PutPart(ctx, upload, n, body)
	})
	v.tail = tail{}
}

// storeFullTail starts to store the tail if it is a full part. Where that fails,
// the tail goes into the next record. It returns an error only if the session
// has ended.
func (v receiver) storeFullTail() error {
	if !v.isFull() || v.parts.hasFailed() {
		return nil
	}
	err := v.loader.gather(v.ctx, false, nil) // stops when the Writer is cut off
	if isEnd(err) {
		return err
	}
	if err == nil && v.startUpload() == nil {
		v.storeTail()
	}
	return nil
}

// checkpoint creates a record from time to time, if the bytes are to be kept.
func (v receiver) checkpoint() error {
	if v.opts.Commit || time.Since(v.recorded) < recordEvery {
		return nil
	}
	v.client.Pause()
	defer v.client.Resume()
	if err := v.parts.wait(); err != nil {
		return err
	}
	return v.recorder.writeRecord(v.store)
}
