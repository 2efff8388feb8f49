package upload

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
	"github.com/berthhq/berth/upload/budget"
)

// fetchAtOnce is the number of records that one request reads at once.
const fetchAtOnce = 16

// wanted is what fetch reads.
type wanted struct {
	raw   bool // the raw bytes that belong to the tail
	lists bool // the parts
}

// gather makes sure that the whole tail is in memory, and with lists that all
// parts are known. Newest is the newest record, if it is being read.
func (w *Writer) gather(ctx context.Context, lists bool, newest *source) error {
	want := wanted{raw: !w.isLoaded(), lists: lists}
	body, err := w.fetch(ctx, 0, w.from, want, newest)
	if err != nil {
		return err
	}
	if want.raw {
		w.rest = body
	}
	if !lists {
		return nil
	}
	var size int64
	all := w.before.list(0)
	for _, p := range all {
		size += p.Size
	}
	if len(all) != w.before.parts || size != w.before.size || checksum(all) != w.before.crc {
		return fmt.Errorf("%w: the list of its parts is damaged", ErrUnknown)
	}
	return nil
}

// inheritedTail returns how many bytes of the tail are in earlier records.
func (w *Writer) inheritedTail() int64 {
	if len(w.parts.done) > 0 {
		return 0 // they are in a part
	}
	return w.before.tail
}

// isLoaded reports whether the whole tail is in memory.
func (w *Writer) isLoaded() bool { return w.inheritedTail() == w.rest.Size+w.taken.Size }

// fetch reads the records of the references from the index from up to the index
// to, side by side, and returns their raw bytes. The memory for them is taken at
// once and belongs to the tail's buffer. It reports an EndedError if a record is
// spent.
func (w *Writer) fetch(ctx context.Context, from, to int, want wanted, newest *source) (drivers.Body, error) {
	var size, list int64
	var reads []*fetched
	for i := from; i < to; i++ {
		r := w.before.refs[i]
		f := &fetched{ref: r, at: i, off: size}
		f.wantsRaw = want.raw && r.Raw > 0
		if !f.wantsRaw && (!want.lists || r.Parts == 0 || w.before.known[i] != nil) {
			continue
		}
		if newest != nil && r.Seq == w.token.Seq {
			f.newest = newest
		}
		if f.wantsRaw {
			size += r.Raw
		}
		if w.before.known[i] == nil {
			list += int64(r.Parts) * partInRecord
		}
		reads = append(reads, f)
	}
	if len(reads) == 0 {
		return drivers.Body{}, nil
	}
	w.client.Pause()
	defer w.client.Resume()
	if err := w.takeList(list); err != nil {
		return drivers.Body{}, err
	}
	space, err := w.readInto(ctx, reads, size)
	if err != nil {
		w.client.ReleaseList(list)
		return drivers.Body{}, err
	}
	body := drivers.Body{Segments: cut(space, 0, size), Size: size}
	for _, f := range reads {
		if f.wantsRaw {
			body.CRC32C = drivers.CombineCRC32C(body.CRC32C, f.stored.Value.CRC32C, f.Raw)
		}
	}
	return body, nil
}

// readInto makes the reads, and returns the segments that hold their size raw
// bytes. If they fail, the next try has the same segments.
func (w *Writer) readInto(ctx context.Context, reads []*fetched, size int64) ([][]byte, error) {
	if size == 0 {
		return nil, w.readAll(ctx, reads, nil)
	}
	b := w.buffer()
	space, err := b.Front(ctx, size)
	if err != nil {
		return nil, err
	}
	if err := w.readAll(ctx, reads, space); err != nil {
		b.ReturnFront(space)
		return nil, err
	}
	return space, nil
}

// fetched is a record on its way from the store.
type fetched struct {
	ref
	at       int   // index of the reference
	off      int64 // where its raw bytes begin in the space for all
	wantsRaw bool
	newest   *source // nil if it must be opened
	stored   envelope.Stored[record]
}

// readAll makes all the reads, in the time that the store has for one of them:
// others may wait for the memory.
func (w *Writer) readAll(ctx context.Context, reads []*fetched, space [][]byte) error {
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	group, together := errgroup.WithContext(bounded)
	group.SetLimit(fetchAtOnce)
	if newest := reads[len(reads)-1].newest; newest != nil {
		defer context.AfterFunc(together, newest.stop)()
	}
	for _, f := range reads {
		group.Go(func() error { return w.readOne(together, f, space) })
	}
	err := group.Wait()
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: the tail has not come within %v: %w", drivers.ErrBusy, storeTimeout, err)
	}
	if ended, ok := errors.AsType[*EndedError](err); ok {
		return w.endedBefore(ctx, ended)
	}
	if err != nil {
		return err
	}
	for _, f := range reads {
		w.before.known[f.at], w.before.tags[f.at] = f.stored.Value.Parts, f.stored.Object.Tag
	}
	return nil
}

func (w *Writer) readOne(ctx context.Context, f *fetched, space [][]byte) error {
	var raw io.Reader = f.newest
	f.stored = w.base
	if f.newest == nil {
		s, r, err := w.m.read(ctx, w.token.next(f.Seq))
		if err != nil {
			return err
		}
		defer r.Close()
		f.stored, raw = s, r
	}
	key := f.stored.Object.Key
	if f.wantsRaw && f.stored.RawSize != f.Raw || len(f.stored.Value.Parts) != f.Parts {
		return fmt.Errorf("%w: %s has %d raw bytes and %d parts, want %d and %d",
			ErrUnknown, key, f.stored.RawSize, len(f.stored.Value.Parts), f.Raw, f.Parts)
	}
	if !f.wantsRaw {
		return nil
	}
	var crc uint32
	for _, p := range cut(space, f.off, f.Raw) {
		if _, err := io.ReadFull(raw, p); err != nil {
			return fmt.Errorf("upload: read the tail in %s: %w", key, err)
		}
		crc = drivers.UpdateCRC32C(crc, p)
	}
	if crc != f.stored.Value.CRC32C { // the hashes are of other bytes
		return fmt.Errorf("%w: the tail in %s is damaged", ErrUnknown, key)
	}
	return nil
}

// endedBefore returns the error for a request that found an earlier record
// spent. Where a request that had all bytes ended the session without the fence
// of a next record, a PATCH may have created one since that can never be
// finished: endedBefore ends the session for its client.
func (w *Writer) endedBefore(ctx context.Context, ended *EndedError) error {
	named := w.opts.Digest
	if ended.Gone || ended.end > 0 || w.opts.Final && (named.Algorithm() != digest.Canonical || named == ended.Digest) {
		return ended
	}
	return w.m.endLost(ctx, w.token, w.due, w.base.Value)
}

// cut returns n bytes of space from off, as slices of its segments.
func cut(space [][]byte, off, n int64) [][]byte {
	var out [][]byte
	for n > 0 {
		s := space[off/budget.SegmentSize][off%budget.SegmentSize:]
		s = s[:min(int64(len(s)), n)]
		out = append(out, s)
		off, n = off+int64(len(s)), n-int64(len(s))
	}
	return out
}

// cutFront returns n bytes of the segments, which have any lengths, after the
// first skip bytes.
func cutFront(segments [][]byte, skip, n int64) [][]byte {
	var out [][]byte
	for _, s := range segments {
		drop := min(skip, int64(len(s)))
		s, skip = s[drop:], skip-drop
		s = s[:min(n, int64(len(s)))]
		n -= int64(len(s))
		if len(s) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// concat returns the bytes of all bodies, one after the other.
func concat(bodies ...drivers.Body) drivers.Body {
	var all drivers.Body
	for _, b := range bodies {
		all.Segments = append(all.Segments, b.Segments...)
		all.Size += b.Size
		all.CRC32C = drivers.CombineCRC32C(all.CRC32C, b.CRC32C, b.Size)
	}
	return all
}
