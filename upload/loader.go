package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

const (
	// keepRaw is the largest size of raw bytes that are kept from the newest
	// record because the next record may repeat them, in bytes.
	keepRaw = 4 << 10

	// concurrentReads is the number of records that one request reads concurrently.
	concurrentReads = 16
)

// loader reads what earlier requests have recorded.
type loader struct{ *progress }

// source is the newest record while its raw bytes come from the store.
type source struct {
	io.Reader
	stop context.CancelFunc // ends the reading
}

// load sets the progress to where the token's record stands. It reads what the
// records hold if this request is certain to need it.
func (l loader) load(ctx context.Context) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	s, raw, err := l.m.read(reading, l.token)
	if err != nil {
		return err
	}
	defer raw.Close()
	r := s.Value
	if err := r.check(l.token.Seq, s.RawSize); err != nil {
		return err
	}
	if r.Algorithm != l.token.Algorithm {
		l.token.Algorithm = r.Algorithm
		l.hashes = newHashes(r.Algorithm)
	}
	if err := l.hashes.restore(r.Hashes); err != nil {
		return err
	}
	l.size = r.Offset
	l.target.follow(r.Upload)
	l.target.sizes = r.Sizes
	l.follow(l.token, s)
	switch part := l.partSize(); {
	case max(part, l.before.tail) > l.m.largest:
		return l.tooBigForMemory(max(part, l.before.tail))
	case part > 0 && l.before.tail > part:
		return fmt.Errorf("upload: session record %s: a tail of %d bytes, and a part has %d", s.Object.Key, l.before.tail, part)
	}
	if err := l.reserveList(s.Object.Size-s.RawSize, l.before.parts); err != nil {
		return err
	}
	return l.loadNow(ctx, &source{raw, stop})
}

// loadNow reads what this request needs before anything comes, so that it holds
// no memory while it waits for that.
func (l loader) loadNow(ctx context.Context, newest *source) (err error) {
	switch {
	case l.opts.Commit:
		return l.gather(ctx, true, newest)
	case l.opts.Length == 0:
		return nil
	}
	if from := takeOver(l.before.refs); from < len(l.before.refs) {
		if l.tail.taken, err = l.fetch(ctx, from, len(l.before.refs), wanted{raw: true, lists: true}, newest); err != nil {
			return err
		}
		l.from = from
	}
	if l.fillsPart() {
		return l.gather(ctx, false, newest)
	}
	return l.keepSmall(newest)
}

// fillsPart reports whether the bytes to come are known to fill a part.
func (l loader) fillsPart() bool {
	have, length := l.before.tail, l.opts.Length
	switch {
	case have == 0 || length <= 0:
		return false
	case l.streams():
		return have+length > l.m.cfg.InlineMax
	}
	s := l.target.sizes
	if s.First == 0 {
		s, _ = chooseSizes(l.m.limits, l.m.cfg.PartSize, l.m.largest, l.size, length) // an error is returned when bytes come
	}
	return have+length >= s.of(l.before.parts+1)
}

// keepSmall keeps the raw bytes of the newest record, if there are few: they
// arrive anyway, and the next record may repeat them.
func (l loader) keepSmall(newest *source) error {
	size := l.base.RawSize
	if size == 0 || size > keepRaw || l.from < len(l.before.refs) ||
		l.opts.Length > 0 && !l.isSmall(l.opts.Length, l.m.cfg.InlineMax) {
		return nil
	}
	if l.reserveList(size, l.before.parts) != nil {
		return nil // the next record refers to it instead
	}
	l.small = make([]byte, size)
	late := time.AfterFunc(envelope.SmallCallTimeout, newest.stop)
	defer late.Stop()
	if _, err := io.ReadFull(newest, l.small); err != nil {
		return fmt.Errorf("upload: read the tail of %s: %w: %w", l.base.Object.Key, drivers.ErrBusy, err)
	}
	if drivers.UpdateCRC32C(0, l.small) != l.base.Value.CRC32C {
		return fmt.Errorf("%w: the tail in %s is damaged", ErrUnknown, l.base.Object.Key)
	}
	return nil
}

// gather makes sure that the whole tail is in memory, and with lists that all
// parts are known. Newest is the newest record, if it is being read.
func (l loader) gather(ctx context.Context, lists bool, newest *source) error {
	want := wanted{raw: !l.isLoaded(), lists: lists}
	body, err := l.fetch(ctx, 0, l.from, want, newest)
	if err != nil {
		return err
	}
	if want.raw {
		l.tail.rest = body
	}
	if !lists {
		return nil
	}
	var size int64
	all := l.before.list(0)
	for _, p := range all {
		size += p.Size
	}
	if len(all) != l.before.parts || size != l.before.size || checksum(0, all) != l.before.crc {
		return fmt.Errorf("%w: the list of its parts is damaged", ErrUnknown)
	}
	return nil
}

// wanted is what fetch reads.
type wanted struct {
	raw   bool // the raw bytes that belong to the tail
	lists bool // the parts
}

// fetch reads the records of the references from the index from up to the index
// to, side by side, and returns their raw bytes. The memory for them is taken at
// once and belongs to the tail's buffer. It returns an EndedError if a record is
// spent.
func (l loader) fetch(ctx context.Context, from, to int, want wanted, newest *source) (drivers.Body, error) {
	reads, size, list := l.missing(from, to, want)
	if len(reads) == 0 {
		return drivers.Body{}, nil
	}
	if last := reads[len(reads)-1]; last.Seq == l.token.Seq {
		last.newest = newest
	}
	l.client.Pause()
	defer l.client.Resume()
	if err := l.reserveList(list, l.before.parts); err != nil {
		return drivers.Body{}, err
	}
	space, err := l.readInto(ctx, reads, size)
	if err != nil {
		l.client.ReleaseList(list)
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

// missing returns the records that fetch has to read, and the bytes that their
// raw bytes and their lists take.
func (l loader) missing(from, to int, want wanted) (reads []*fetched, size, list int64) {
	for i := from; i < to; i++ {
		r, isKnown := l.before.refs[i], l.before.known[i] != nil
		f := &fetched{ref: r, at: i, off: size, wantsRaw: want.raw && r.Raw > 0}
		if !f.wantsRaw && (!want.lists || r.Parts == 0 || isKnown) {
			continue
		}
		if f.wantsRaw {
			size += r.Raw
		}
		if !isKnown {
			list += int64(r.Parts) * partInRecord
		}
		reads = append(reads, f)
	}
	return reads, size, list
}

// fetched is a record that is being read.
type fetched struct {
	ref
	at       int   // index of the reference
	off      int64 // offset of its raw bytes in the space for all
	wantsRaw bool
	newest   *source // nil if the record must be opened
	stored   envelope.Stored[sessionRecord]
}

// readInto makes the reads, and returns the segments that hold their size raw
// bytes. If they fail, the next attempt gets the same segments.
func (l loader) readInto(ctx context.Context, reads []*fetched, size int64) ([][]byte, error) {
	if size == 0 {
		return nil, l.readAll(ctx, reads, nil)
	}
	b := l.buffer()
	space, err := b.Front(ctx, size)
	if err != nil {
		return nil, err
	}
	if err := l.readAll(ctx, reads, space); err != nil {
		b.ReturnFront(space)
		return nil, err
	}
	return space, nil
}

// readAll makes all the reads, in the time that the store has for one of them,
// because other clients may wait for the memory.
func (l loader) readAll(ctx context.Context, reads []*fetched, space [][]byte) error {
	bounded, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	group, together := errgroup.WithContext(bounded)
	group.SetLimit(concurrentReads)
	if newest := reads[len(reads)-1].newest; newest != nil {
		defer context.AfterFunc(together, newest.stop)()
	}
	for _, f := range reads {
		group.Go(func() error { return l.readOne(together, f, space) })
	}
	err := group.Wait()
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: the tail has not come within %v: %w", drivers.ErrBusy, storeTimeout, err)
	}
	if ended, ok := errors.AsType[*EndedError](err); ok {
		return l.endedBefore(ctx, ended)
	}
	if err != nil {
		return err
	}
	for _, f := range reads {
		l.before.known[f.at], l.before.tags[f.at] = f.stored.Value.Parts, f.stored.Object.Tag
	}
	return nil
}

func (l loader) readOne(ctx context.Context, f *fetched, space [][]byte) error {
	var raw io.Reader = f.newest
	f.stored = l.base
	if f.newest == nil {
		s, r, err := l.m.read(ctx, l.token.next(f.Seq))
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
// spent. A request that had all bytes may have ended the session without the
// fence of a next record, and a PATCH may have created a record after that, which
// can never be finished: endedBefore ends the session for its client.
func (l loader) endedBefore(ctx context.Context, ended *EndedError) error {
	requested := l.opts.Digest
	if ended.Gone || ended.end > 0 || l.opts.Commit && (requested.Algorithm() != digest.Canonical || requested == ended.Digest) {
		return ended
	}
	return l.m.endLost(ctx, l.token, l.opts.Deadline, l.base.Value)
}
