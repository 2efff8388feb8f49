package upload

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/berthhq/berth/drivers"
)

// load makes w what the record says.
func (w *Writer) load(ctx context.Context) error {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	s, tail, err := w.m.read(reading, w.token)
	if err != nil {
		return err
	}
	defer tail.Close()
	r := s.Value
	if r.Algorithm != w.token.Algorithm {
		w.token.Algorithm = r.Algorithm
		w.hashes = newHashes(r.Algorithm)
	}
	if err := w.hashes.restore(r.Hashes); err != nil {
		return err
	}
	w.base, w.size, w.upload, w.sizes = s, r.Offset, r.Upload, r.Sizes
	w.parts.load(r.Parts)
	if largest := max(w.partSize(), s.RawSize); largest > w.m.largest {
		return w.tooBigForMemory(largest)
	}
	if list := s.Object.Size - s.RawSize; w.m.mem.takeList(list) {
		w.list = list
	} else {
		return fmt.Errorf("upload.memory has no room for the list of the %d parts of this upload: %w", len(r.Parts), drivers.ErrBusy)
	}
	if s.RawSize == 0 {
		return nil
	}
	w.tail = &buffer{client: w.client, streams: w.streams()}
	if err := w.tail.reserve(ctx, segmentsFor(s.RawSize)); err != nil {
		return err
	}
	late := time.AfterFunc(storeTimeout, cancel) // from now on others may wait for it
	defer late.Stop()
	for w.tail.size < s.RawSize {
		p, err := w.tail.space(ctx)
		if err != nil {
			return err
		}
		p = p[:min(int64(len(p)), s.RawSize-w.tail.size)]
		if _, err := io.ReadFull(tail, p); err != nil {
			if reading.Err() != nil && ctx.Err() == nil {
				err = fmt.Errorf("%w: it has not come within %v", drivers.ErrBusy, storeTimeout)
			}
			return fmt.Errorf("upload: read the tail of %s: %w", s.Object.Key, err)
		}
		w.tail.size += int64(len(p))
		w.crc = drivers.UpdateCRC32C(w.crc, p)
	}
	if w.crc != r.CRC32C { // the hashes are of other bytes
		return fmt.Errorf("%w: the tail in %s is damaged", ErrUnknown, s.Object.Key)
	}
	return nil
}

// tooBigForMemory is for uploads that were begun by a process with more memory.
func (w *Writer) tooBigForMemory(part int64) error {
	return fmt.Errorf("upload.memory is too small for the parts of this upload, %d bytes: %w", part, drivers.ErrBusy)
}
