package upload

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// Content is the bytes of an upload that was completed. They are durable, and
// have the digest.
type Content struct {
	Digest digest.Digest // canonical
	Size   int64
	CRC32C uint32

	// Where they are: under a data key, or in memory only, for the caller to
	// store inline. Neither, if the upload's bytes were dropped because the
	// store had the blob.
	Key    string
	Inline []byte

	Dropped bool
}

// Suspend records what came, so that a later request can continue from Token. If a part
// could not be stored, what came before it is recorded, and the error returned.
// It reports ErrOutOfOrder, or an EndedError, if another request continued from
// the same place first; then nothing of this one is kept. Nothing more can be
// written, and a second call returns what the first one did.
func (w *Writer) Suspend(ctx context.Context) (Token, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.client == nil {
		return w.token, w.failed
	}
	return w.token, w.putDown(ctx)
}

// putDown records what came and releases its memory. What could not be recorded
// is lost then: a later record must not claim it.
func (w *Writer) putDown(ctx context.Context) error {
	if w.down {
		return w.downErr
	}
	w.down, w.downErr = true, w.suspend(ctx)
	w.releaseTail()
	if w.failed == nil {
		w.failed = errors.New("upload: the writer is suspended")
	}
	return w.downErr
}

func (w *Writer) suspend(ctx context.Context) error {
	w.client.Pause()
	if err := w.shipFull(); err != nil {
		w.lost(err)
		return err
	}
	failed := w.settle(ctx)
	if errors.Is(failed, ErrUnknown) || errors.Is(failed, ErrOutOfOrder) {
		w.lost(failed)
		return failed
	}
	if failed != nil {
		if err := w.parts.rollback(); err != nil {
			return err
		}
	}
	if w.size > w.base.Value.Offset {
		if err := w.record(ctx); err != nil {
			return err
		}
	}
	return failed
}

// shipFull has the tail stored if it is a full part. Where that can't be done,
// the tail goes into the record. It reports ErrUnknown if the session has ended.
func (w *Writer) shipFull() error {
	if !w.isFull() || w.parts.hasFailed() {
		return nil
	}
	err := w.gather(w.ctx, false, nil) // a cut stops it
	if errors.Is(err, ErrUnknown) || errors.Is(err, ErrOutOfOrder) {
		return err
	}
	if err == nil && w.begin() == nil {
		w.ship()
	}
	return nil
}

// settle waits for the parts that are under way.
func (w *Writer) settle(ctx context.Context) error {
	err := w.parts.wait()
	if errors.Is(err, drivers.ErrNotFound) {
		return w.gone(ctx)
	}
	return err
}

// lost notes that the record that was to name the upload was not created. If it is
// certain that it never will be, no other request can know of the upload.
func (w *Writer) lost(err error) {
	if errors.Is(err, ErrOutOfOrder) || errors.Is(err, ErrUnknown) {
		w.abandon()
	}
	w.own = false
	w.failed = err
}

// ownTail returns the bytes of the tail that came with this request.
func (w *Writer) ownTail() drivers.Body {
	if w.tail == nil || w.tail.Size() == w.skip {
		return drivers.Body{}
	}
	size := w.tail.Size() - w.skip
	return drivers.Body{Segments: cutFront(w.tail.Segments(), w.skip, size), Size: size, CRC32C: w.crc}
}

// wholeTail returns the tail, as far as it is in memory.
func (w *Writer) wholeTail() drivers.Body {
	if w.inheritedTail() == 0 {
		return w.ownTail()
	}
	return concat(w.rest, w.taken, w.ownTail())
}

// SealResult is the outcome of Writer.Seal, if that returns no error.
type SealResult int

const (
	// Sealed means that this request has bound the digest, or that no record is
	// needed for that.
	Sealed SealResult = iota + 1

	// SealedBefore means that another request has bound the same digest before.
	// The blob may be published already.
	SealedBefore

	// Contested means that the next record exists and has not been read. The
	// caller either finds the blob published with its bytes under DataKey, which
	// only this session's end can explain, or calls ResolveSeal.
	Contested
)

// Seal ends the upload: no more bytes come, and they have the digest named.
// Where the parts are under a key that is not bound to a digest yet, Seal binds
// it, by the record that ends the session.
//
// Seal returns ErrDigest if the bytes have another digest, and then has changed
// nothing. It returns ErrOutOfOrder, or an EndedError, if another request
// continued from the same record. After another error it can be called again.
//
// A digest of an algorithm that was not computed is computed now if all bytes
// are in memory. Otherwise Seal binds the key to the canonical digest only, and
// Proves reports false: the digest named is a claim, which the record does not
// repeat, and which the caller checks once the bytes are stored.
func (w *Writer) Seal(ctx context.Context, named digest.Digest) (SealResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.client == nil || w.failed != nil {
		return 0, w.failed
	}
	w.client.Pause()
	result, err := w.seal(ctx, named)
	if err != nil {
		w.client.Resume()
	}
	return result, err
}

func (w *Writer) seal(ctx context.Context, named digest.Digest) (SealResult, error) {
	if err := w.checkDigest(ctx, named); err != nil {
		return 0, err
	}
	if !w.drop {
		if err := w.gather(ctx, true, nil); err != nil {
			return 0, err
		}
	}
	if w.isWhole() {
		return Sealed, nil
	}
	if err := w.settle(ctx); err != nil {
		return 0, err
	}
	end, err := envelope.NewDraft(w.committed(named), drivers.Body{})
	if err != nil {
		return 0, err
	}
	if err := w.due.Check(); err != nil {
		w.own = false
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	s, err := end.Create(ctx, w.m.cfg.Bucket, w.m.cfg.Layout.SessionRecord(w.token.ID, w.token.Seq+1))
	if errors.Is(err, drivers.ErrExists) && s.Object.Key == "" {
		// The existing record may be this one, and name the upload.
		w.contest, w.own = &contest{end, w.own}, false
		return Contested, nil
	}
	return w.sealedBy(s, err)
}

// checkDigest reports ErrDigest if the bytes don't have the digest named.
func (w *Writer) checkDigest(ctx context.Context, named digest.Digest) error {
	if w.upload == nil && !w.drop && w.hashes.digest(named.Algorithm()) == "" {
		if err := w.gather(ctx, true, nil); err != nil {
			return err
		}
		if err := w.holdsAll(); err != nil {
			return err
		}
		w.hashes.hashAlso(named.Algorithm(), w.wholeTail().Segments)
	}
	if proven := w.hashes.digest(named.Algorithm()); proven != "" && proven != named {
		return w.mismatch(ctx, named)
	}
	return nil
}

// committed returns the record that binds the upload to its digest.
func (w *Writer) committed(named digest.Digest) record {
	r := record{Kind: kindCommitted, Upload: w.upload, Offset: w.size, Digest: w.hashes.canonical(), CRC32C: w.checksum()}
	r.Repository, r.Started, r.Algorithm = w.token.Repository, w.token.Started, w.token.Algorithm
	if proven := w.hashes.digest(named.Algorithm()); proven != r.Digest {
		r.Named = proven
	}
	if w.base.Value.Upload == nil { // no other record has its parts
		r.Parts = slices.Clone(w.parts.done)
	}
	return r
}

// contest is a Seal that found the next record taken.
type contest struct {
	end envelope.Draft[record] // what was to be the next record
	own bool                   // what Writer.own was before
}

// ResolveSeal reads the record that a Contested Seal has met, and returns Sealed
// if it is this request's own, SealedBefore if another request has bound the same
// digest, and otherwise the error that Seal returns if another request continued
// first.
func (w *Writer) ResolveSeal(ctx context.Context) (SealResult, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.client == nil || w.failed != nil:
		return 0, w.failed
	case w.contest == nil:
		return 0, errors.New("upload: ResolveSeal without a contested Seal")
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	s, err := w.contest.end.Existing(ctx, w.m.cfg.Bucket, w.m.cfg.Layout.SessionRecord(w.token.ID, w.token.Seq+1))
	if errors.Is(err, drivers.ErrNotFound) {
		err = &EndedError{Gone: true}
	}
	w.own, w.contest = w.contest.own, nil
	result, err := w.sealedBy(s, err)
	if err != nil {
		w.client.Resume()
	}
	return result, err
}

// sealedBy returns the result of a Seal from the outcome of creating the next
// record: s is that record.
func (w *Writer) sealedBy(s envelope.Stored[record], err error) (SealResult, error) {
	r, err := s.Value, w.token.outcome(s, err)
	switch {
	case err == nil:
		w.own = false
		return Sealed, nil
	case r.Kind == kindCommitted && r.Repository == w.token.Repository && r.Digest == w.hashes.canonical() && r.Upload != nil:
		if r.Upload.Key != w.upload.Key {
			w.join(r)
		}
		return SealedBefore, nil
	case errors.Is(err, ErrOutOfOrder), errors.Is(err, ErrUnknown):
		w.lost(err)
		return 0, err
	default: // the record may be created, or may still become so
		w.own = false
		return 0, err
	}
}

// DataKey returns the key that the bytes are stored under, and an empty string
// if no upload was started.
func (w *Writer) DataKey() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.upload == nil {
		return ""
	}
	return w.upload.Key
}

// join continues with the upload of another request that committed the same bytes
// first: its parts are those of this one, if they are cut alike.
func (w *Writer) join(committed record) {
	w.abandon()
	w.upload = committed.Upload
	if w.foreign = !w.parts.cutLike(committed.Parts); !w.foreign {
		w.parts.load(0, committed.Parts)
	}
}

// isWhole reports whether the content needs no record that binds its key to a digest:
// it is all in memory, or under a key of its digest's, or was dropped.
func (w *Writer) isWhole() bool { return w.drop || w.direct || w.upload == nil }

// mismatch returns the error for bytes that have another digest. A client with a
// fresh token and only the rest of the bytes has lost an answer.
func (w *Writer) mismatch(ctx context.Context, named digest.Digest) error {
	if w.token.Seq == 0 {
		t, _, err := w.m.Status(ctx, w.token)
		switch {
		case errors.Is(err, ErrUnknown): // not the EndedError: however it ended, it was not with these bytes by this name
			return fmt.Errorf("%w: its session has ended, with another digest", ErrUnknown)
		case err != nil:
			return err
		case t.Seq > 0:
			return fmt.Errorf("%w: an earlier request was recorded", ErrOutOfOrder)
		}
	}
	return fmt.Errorf("%w: %d bytes are %s, not %s", ErrDigest, w.size, w.hashes.digest(named.Algorithm()), named)
}

// Proves reports whether the bytes so far have this digest, as far as they were
// hashed by its algorithm.
func (w *Writer) Proves(d digest.Digest) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hashes.digest(d.Algorithm()) == d
}

// checksum returns the CRC-32C of all bytes.
func (w *Writer) checksum() uint32 {
	crc, t := w.before.crc, w.wholeTail()
	for _, p := range w.parts.done {
		crc = drivers.CombineCRC32C(crc, p.CRC32C, p.Size)
	}
	return drivers.CombineCRC32C(crc, t.CRC32C, t.Size)
}

// Store makes the bytes durable, where they are not, and returns where they are.
// It comes after Seal, and reports ErrUnknown if the upload is lost: its parts
// are gone, or are not those in the session's records.
func (w *Writer) Store(ctx context.Context) (Content, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.client == nil || w.failed != nil {
		return Content{}, w.failed
	}
	c := Content{Digest: w.hashes.canonical(), Size: w.size}
	if w.drop {
		c.Dropped = true
		return c, nil
	}
	if err := w.due.Check(); err != nil {
		return c, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	switch {
	case w.foreign:
		c.CRC32C = w.checksum()
		return w.m.completed(ctx, *w.upload, c)
	case w.upload == nil:
		return w.storeWhole(ctx, c)
	default:
		return w.complete(ctx, c)
	}
}

// storeWhole stores content that is all in memory.
func (w *Writer) storeWhole(ctx context.Context, c Content) (Content, error) {
	if err := w.holdsAll(); err != nil {
		return c, err
	}
	body := w.wholeTail()
	c.CRC32C = body.CRC32C
	if c.Size <= w.m.cfg.InlineMax {
		c.Inline = body.Bytes()
		return c, nil
	}
	c.Key = w.m.cfg.Layout.Data(c.Digest)
	_, err := w.m.cfg.Bucket.Create(ctx, c.Key, body)
	if errors.Is(err, drivers.ErrExists) {
		err = nil // the key was drawn just now: it is a retry of our own that found it
	}
	return c, err
}

// complete stores the last part and makes the object of all parts.
func (w *Writer) complete(ctx context.Context, c Content) (Content, error) {
	if err := w.settle(ctx); err != nil {
		return c, err
	}
	c.CRC32C = w.checksum()
	if last := w.wholeTail(); last.Size > 0 {
		err := w.parts.putLast(ctx, last)
		if errors.Is(err, drivers.ErrNotFound) { // another request completed it, or none will
			return w.m.completed(ctx, *w.upload, c)
		}
		if err != nil {
			return c, err
		}
		w.releaseTail()
	}
	if err := w.holdsAll(); err != nil {
		return c, err
	}
	if err := w.due.Check(); err != nil {
		return c, err
	}
	w.own = false // what Complete does may be late
	o, err := w.m.cfg.Bucket.Complete(ctx, *w.upload, slices.Concat(w.before.list(0), w.parts.done), c.CRC32C)
	switch {
	case errors.Is(err, drivers.ErrNotFound), errors.Is(err, drivers.ErrChanged):
		return c, fmt.Errorf("%w: %w", ErrUnknown, err)
	case err != nil:
		return c, err
	case o.Size != c.Size:
		return c, fmt.Errorf("upload: completed %s has %d bytes, want %d", o.Key, o.Size, c.Size)
	}
	c.Key = w.upload.Key
	return c, nil
}
