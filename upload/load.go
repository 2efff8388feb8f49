package upload

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// keepRaw is the largest size of raw bytes that are kept from the newest record
// because the next record may repeat them, in bytes.
const keepRaw = 4 << 10

// source is the newest record while its raw bytes come from the store.
type source struct {
	io.Reader
	stop context.CancelFunc // ends the reading
}

// load sets w to where the token's record stands. It reads what the records hold
// if this request is certain to need it.
func (w *Writer) load(ctx context.Context) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	s, raw, err := w.m.read(reading, w.token)
	if err != nil {
		return err
	}
	defer raw.Close()
	r := s.Value
	if err := r.check(w.token.Seq, s.RawSize); err != nil {
		return err
	}
	if r.Algorithm != w.token.Algorithm {
		w.token.Algorithm = r.Algorithm
		w.hashes = newHashes(r.Algorithm)
	}
	if err := w.hashes.restore(r.Hashes); err != nil {
		return err
	}
	w.size, w.upload, w.sizes = r.Offset, r.Upload, r.Sizes
	w.follow(s)
	switch part := w.partSize(); {
	case max(part, w.before.tail) > w.m.largest:
		return w.tooBigForMemory(max(part, w.before.tail))
	case part > 0 && w.before.tail > part:
		return fmt.Errorf("upload: session record %s: a tail of %d bytes, and a part has %d", s.Object.Key, w.before.tail, part)
	}
	if err := w.takeList(s.Object.Size - s.RawSize); err != nil {
		return err
	}
	return w.loadNow(ctx, &source{raw, stop})
}

// loadNow reads what this request needs before anything comes, so that it holds
// no memory while it waits for that.
func (w *Writer) loadNow(ctx context.Context, newest *source) (err error) {
	switch {
	case w.opts.Final:
		return w.gather(ctx, true, newest)
	case w.opts.Length == 0:
		return nil
	}
	if from := takeOver(w.before.refs); from < len(w.before.refs) {
		if w.taken, err = w.fetch(ctx, from, len(w.before.refs), wanted{raw: true, lists: true}, newest); err != nil {
			return err
		}
		w.from = from
	}
	if w.fills() {
		return w.gather(ctx, false, newest)
	}
	return w.keepSmall(newest)
}

// fills reports whether the bytes to come are known to fill a part.
func (w *Writer) fills() bool {
	have, length := w.before.tail, w.opts.Length
	switch {
	case have == 0 || length <= 0:
		return false
	case w.streams():
		return have+length > w.m.cfg.InlineMax
	}
	s := w.sizes
	if s.First == 0 {
		s, _ = chooseSizes(w.m.limits, w.m.cfg.PartSize, w.m.largest, w.size, length) // an error is reported when bytes come
	}
	return have+length >= s.of(w.before.parts+1)
}

// keepSmall keeps the raw bytes of the newest record, if there are few: they are
// here already, and the next record may repeat them.
func (w *Writer) keepSmall(newest *source) error {
	size := w.base.RawSize
	if size == 0 || size > keepRaw || w.from < len(w.before.refs) || w.opts.Length > 0 && !w.isSmall(w.opts.Length) {
		return nil
	}
	if w.takeList(size) != nil {
		return nil // there is a reference then
	}
	w.small = make([]byte, size)
	late := time.AfterFunc(envelope.SmallCallTimeout, newest.stop)
	defer late.Stop()
	if _, err := io.ReadFull(newest, w.small); err != nil {
		return fmt.Errorf("upload: read the tail of %s: %w: %w", w.base.Object.Key, drivers.ErrBusy, err)
	}
	if drivers.UpdateCRC32C(0, w.small) != w.base.Value.CRC32C {
		return fmt.Errorf("%w: the tail in %s is damaged", ErrUnknown, w.base.Object.Key)
	}
	return nil
}

// isSmall reports whether the content of the newest record is small compared
// with so many bytes that are added to it, so that the next record repeats it.
func (w *Writer) isSmall(added int64) bool {
	return w.before.has(w.token.Seq) && w.before.refs[len(w.before.refs)-1].content() <= (added+w.m.cfg.InlineMax)/repeatShare
}

// takeList accounts for n bytes of what is known of parts. It reports
// drivers.ErrBusy if there is no room for them.
func (w *Writer) takeList(n int64) error {
	if !w.client.ReserveList(n) {
		return fmt.Errorf("upload.Config.Memory has no room for the list of the %d parts of this upload: %w", w.before.parts, drivers.ErrBusy)
	}
	return nil
}

// tooBigForMemory is for uploads that were started by a process with more memory.
func (w *Writer) tooBigForMemory(part int64) error {
	return fmt.Errorf("upload.Config.Memory is too small for the parts of this upload, %d bytes: %w", part, drivers.ErrBusy)
}
