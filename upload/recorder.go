package upload

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// recorder creates the records of a session.
type recorder struct{ *progress }

// writeRecord creates the next record, with all bytes that were received.
func (c recorder) writeRecord(ctx context.Context) error {
	if err := c.checkAllHeld(); err != nil {
		return err
	}
	r, raw, err := c.nextRecord()
	if err != nil {
		return err
	}
	if err := r.check(c.token.Seq+1, raw.Size); err != nil {
		return err // no request could continue from it
	}
	s, err := c.m.createNext(ctx, c.token, c.opts.Deadline, r, raw)
	if c.opts.Repeat && errors.Is(err, ErrOutOfOrder) {
		return c.repeat(ctx, s, err)
	}
	if err != nil {
		return c.abandonAfter(err)
	}
	c.advance(s)
	return nil
}

// advance makes s, the record after the token's, the newest one.
func (c recorder) advance(s envelope.Stored[sessionRecord]) {
	c.target.share()
	c.follow(c.token.next(c.token.Seq+1), s)
}

// abandonAfter stops the Writer because of err: the record that was to name the
// upload was not created. If it is certain that it never will be, no other
// request can know of the upload, which is aborted.
func (c recorder) abandonAfter(err error) error {
	if isEnd(err) {
		c.abandon()
	}
	c.target.share()
	return c.status.stop(err)
}

// abandon aborts an upload that no record names.
func (c recorder) abandon() {
	if !c.target.isOurs() {
		return
	}
	c.target.share()
	ctx, cancel := context.WithTimeout(c.store, storeTimeout)
	defer cancel()
	c.m.abort(ctx, *c.target.upload)
}

// waitForParts waits until no part is being stored.
func (c recorder) waitForParts(ctx context.Context) error {
	err := c.parts.wait()
	if errors.Is(err, drivers.ErrNotFound) {
		return c.partsGone(ctx)
	}
	return err
}

// partsGone returns the error for a request that found its upload gone, and ends
// the session if the upload is that of the session.
func (c recorder) partsGone(ctx context.Context) error {
	if c.base.Value.Upload == nil {
		return c.uploadGone(ctx)
	}
	return c.m.endLost(ctx, c.token, c.opts.Deadline, c.base.Value)
}

// uploadGone returns the error for a request that has started an upload which the
// store no longer has: how the session ended or that another request continued
// it, if a next record shows that.
func (c recorder) uploadGone(ctx context.Context) error {
	_, tail, err := c.m.read(ctx, c.token.next(c.token.Seq+1))
	ended, isEnd := errors.AsType[*EndedError](err)
	switch {
	case err == nil:
		tail.Close()
		return fmt.Errorf("%w: another request continued first", ErrOutOfOrder)
	case isEnd && ended.Gone:
		return fmt.Errorf("%w: its parts are gone", ErrUnknown)
	default:
		return err
	}
}

// repeat is for a request that found s where it was to create its own record. If
// the bytes up to s are the first ones of this request, the client has sent them
// again because the response was lost: repeat continues from s with the rest.
// Otherwise it returns lost.
//
// The bytes are compared by the states of the hashes. That needs the state of
// this request at the offset of s, and the bytes after it in memory. Both are
// known if s stands where this request ends, or anywhere past the last part that
// this request stored.
func (c recorder) repeat(ctx context.Context, s envelope.Stored[sessionRecord], lost error) error {
	rest, ok := c.restAfter(s)
	if !ok {
		return c.abandonAfter(lost)
	}
	c.abandon()
	c.target.follow(s.Value.Upload)
	c.target.sizes = s.Value.Sizes
	c.advance(s)
	if rest == 0 {
		c.tail.release()
		return nil
	}
	c.tail.keepLast(rest)
	return c.writeRecord(ctx)
}

// restAfter returns the number of bytes of this request that come after s. It
// reports whether the bytes before are those of s, and whether one record can
// hold the rest.
func (c recorder) restAfter(s envelope.Stored[sessionRecord]) (rest int64, ok bool) {
	r := s.Value
	rest = c.size - r.Offset
	if rest < 0 || rest > c.tail.ownSize() || r.check(c.token.Seq+1, s.RawSize) != nil {
		return 0, false
	}
	state, ok := c.stateAt(r.Offset)
	if !ok || !bytes.Equal(state.SHA256, r.Hashes.SHA256) || !bytes.Equal(state.SHA512, r.Hashes.SHA512) {
		return 0, false
	}
	if rest == 0 {
		return 0, true
	}
	in := inherit(c.token.Seq+1, r, s.RawSize, s.Object.Tag)
	part := c.partSize()
	if r.Sizes.First > 0 {
		part = r.Sizes.of(in.parts + 1)
	}
	return rest, len(in.refs) <= maxRefs && in.tail+rest <= part
}

// stateAt returns the state of the hashes at an offset that is not before the
// tail of this request, if it is known or can be computed.
func (c recorder) stateAt(offset int64) (hashState, bool) {
	if offset == c.size {
		state, err := c.hashes.state()
		return state, err == nil
	}
	own := c.tail.own()
	start, h := c.size-own.Size, newHashes(c.token.Algorithm)
	switch m, ok := c.parts.marks[c.parts.count()]; {
	case ok && m.size == start && start > 0:
		if h.restore(m.hashes) != nil {
			return hashState{}, false
		}
	case start == c.base.Value.Offset && start > 0:
		if h.restore(c.base.Value.Hashes) != nil {
			return hashState{}, false
		}
	case start != 0:
		return hashState{}, false
	}
	for _, p := range cutFront(own.Segments, 0, offset-start) {
		h.write(p)
	}
	state, err := h.state()
	return state, err == nil
}
