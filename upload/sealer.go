package upload

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// largeTail is the size from which raw bytes that are no longer needed are worth
// a request to free them, in bytes.
const largeTail = 64 << 10

// Content is the bytes of an upload that was completed. They are durable, and
// have the digest.
type Content struct {
	Digest digest.Digest // canonical
	Size   int64
	CRC32C uint32

	// The bytes are under a data key, or in memory only, for the caller to store
	// inline. Both are empty if the bytes were dropped.
	Key    string
	Inline []byte

	// Dropped means that the bytes were not stored, because the store had the
	// blob.
	Dropped bool
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

// sealer ends an upload: it binds the digest and makes the content durable.
type sealer struct {
	*progress
	loader   loader
	recorder recorder
	contest  *contest // a Seal that is Contested
}

// contest is a Seal that found the next record taken.
type contest struct {
	end    envelope.Draft[sessionRecord] // what was to be the next record
	origin origin                        // of the target, before
}

// seal is Writer.Seal.
func (s *sealer) seal(ctx context.Context, requested digest.Digest) (SealResult, error) {
	if err := s.checkDigest(ctx, requested); err != nil {
		return 0, err
	}
	if s.target.origin != dropped {
		if err := s.loader.gather(ctx, true, nil); err != nil {
			return 0, err
		}
	}
	if !s.target.needsSeal() {
		return Sealed, nil
	}
	if err := s.recorder.waitForParts(ctx); err != nil {
		return 0, err
	}
	end, err := envelope.NewDraft(s.committed(requested), drivers.Body{})
	if err != nil {
		return 0, err
	}
	if err := s.opts.Deadline.Check(); err != nil {
		s.target.share()
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	stored, err := end.Create(ctx, s.m.cfg.Bucket, s.nextRecordKey(s.token))
	if errors.Is(err, drivers.ErrExists) && stored.Object.Key == "" {
		s.contest = &contest{end, s.target.origin}
		s.target.share() // the existing record may be this one
		return Contested, nil
	}
	return s.outcome(stored, err)
}

// resolve is Writer.ResolveSeal.
func (s *sealer) resolve(ctx context.Context) (SealResult, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	existing, err := s.contest.end.Existing(ctx, s.m.cfg.Bucket, s.nextRecordKey(s.token))
	if errors.Is(err, drivers.ErrNotFound) {
		err = &EndedError{Gone: true}
	}
	s.target.origin, s.contest = s.contest.origin, nil
	return s.outcome(existing, err)
}

// outcome returns the result of a Seal from the outcome of creating the next
// record: stored is that record.
func (s *sealer) outcome(stored envelope.Stored[sessionRecord], err error) (SealResult, error) {
	r, err := stored.Value, s.token.outcome(stored, err)
	switch {
	case err == nil:
		s.target.share()
		return Sealed, nil
	case r.Kind == KindCommitted && r.Repository == s.token.Repository && r.Digest == s.hashes.canonical() && r.Upload != nil:
		if r.Upload.Key != s.target.upload.Key {
			s.adoptUpload(r)
		}
		return SealedBefore, nil
	case isEnd(err):
		return 0, s.recorder.abandonAfter(err)
	default: // the record may be created, or may still become so
		s.target.share()
		return 0, err
	}
}

// checkDigest returns ErrDigest if the bytes don't have the requested digest.
func (s *sealer) checkDigest(ctx context.Context, requested digest.Digest) error {
	alg := requested.Algorithm()
	if s.target.origin == noUpload && s.hashes.digest(alg) == "" {
		if err := s.loader.gather(ctx, true, nil); err != nil {
			return err
		}
		if err := s.checkAllHeld(); err != nil {
			return err
		}
		s.hashes.hashAlso(alg, s.wholeTail().Segments)
	}
	if proven := s.hashes.digest(alg); proven != "" && proven != requested {
		return s.mismatch(ctx, requested)
	}
	return nil
}

// mismatch returns the error for bytes that have another digest. A client with a
// fresh token and only the rest of the bytes has lost a response.
func (s *sealer) mismatch(ctx context.Context, requested digest.Digest) error {
	if s.token.Seq == 0 {
		t, _, err := s.m.Status(ctx, s.token)
		switch {
		case errors.Is(err, ErrUnknown): // not the EndedError: the session has not ended with these bytes as requested
			return fmt.Errorf("%w: its session has ended, with another digest", ErrUnknown)
		case err != nil:
			return err
		case t.Seq > 0:
			return fmt.Errorf("%w: an earlier request was recorded", ErrOutOfOrder)
		}
	}
	return fmt.Errorf("%w: %d bytes are %s, not %s", ErrDigest, s.size, s.hashes.digest(requested.Algorithm()), requested)
}

// committed returns the record that binds the upload to its digest.
func (s *sealer) committed(requested digest.Digest) sessionRecord {
	r := sessionRecord{
		Kind: KindCommitted, Repository: s.token.Repository, Started: s.token.Started, Algorithm: s.token.Algorithm,
		Upload: s.target.upload, Offset: s.size, Digest: s.hashes.canonical(), CRC32C: s.checksum(),
	}
	if proven := s.hashes.digest(requested.Algorithm()); proven != r.Digest {
		r.RequestedDigest = proven
	}
	if s.base.Value.Upload == nil { // no other record has its parts
		r.Parts = slices.Clone(s.parts.done)
	}
	return r
}

// adoptUpload continues with the upload of another request, which committed the
// same bytes first: its parts are those of this request, if they are cut alike.
func (s *sealer) adoptUpload(committed sessionRecord) {
	s.recorder.abandon()
	s.target.follow(committed.Upload)
	if !s.parts.cutLike(committed.Parts) {
		s.target.origin = joined
		return
	}
	s.parts.load(0, committed.Parts)
}

// store is Writer.Store.
func (s *sealer) store(ctx context.Context) (Content, error) {
	c := Content{Digest: s.hashes.canonical(), Size: s.size}
	if s.target.origin == dropped {
		c.Dropped = true
		return c, nil
	}
	if err := s.opts.Deadline.Check(); err != nil {
		return c, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	switch s.target.origin {
	case joined:
		c.CRC32C = s.checksum()
		return completed(ctx, s.m.cfg.Bucket, *s.target.upload, c)
	case noUpload:
		return s.storeWhole(ctx, c)
	default:
		return s.complete(ctx, c)
	}
}

// storeWhole stores content that is all in memory.
func (s *sealer) storeWhole(ctx context.Context, c Content) (Content, error) {
	if err := s.checkAllHeld(); err != nil {
		return c, err
	}
	body := s.wholeTail()
	c.CRC32C = body.CRC32C
	if c.Size <= s.m.cfg.InlineMax {
		c.Inline = body.Bytes()
		return c, nil
	}
	c.Key = s.m.cfg.Layout.Data(c.Digest)
	_, err := s.m.cfg.Bucket.Create(ctx, c.Key, body)
	if errors.Is(err, drivers.ErrExists) {
		err = nil // the key was drawn just now: a retry in the driver met its first attempt
	}
	return c, err
}

// complete stores the last part and completes the upload.
func (s *sealer) complete(ctx context.Context, c Content) (Content, error) {
	if err := s.recorder.waitForParts(ctx); err != nil {
		return c, err
	}
	c.CRC32C = s.checksum()
	if last := s.wholeTail(); last.Size > 0 {
		part, err := s.m.cfg.Bucket.PutPart(ctx, *s.target.upload, s.parts.count()+1, last)
		if errors.Is(err, drivers.ErrNotFound) { // another request has completed the upload, or none will
			return completed(ctx, s.m.cfg.Bucket, *s.target.upload, c)
		}
		if err != nil {
			return c, err // another attempt may succeed
		}
		s.parts.set(s.parts.add(last.Size), part, nil)
		s.tail.release()
	}
	if err := s.checkAllHeld(); err != nil {
		return c, err
	}
	if err := s.opts.Deadline.Check(); err != nil {
		return c, err
	}
	s.target.share()
	o, err := s.m.cfg.Bucket.Complete(ctx, *s.target.upload, slices.Concat(s.before.list(0), s.parts.done), c.CRC32C)
	switch {
	case errors.Is(err, drivers.ErrNotFound), errors.Is(err, drivers.ErrChanged):
		return c, fmt.Errorf("%w: %w", ErrUnknown, err)
	case err != nil:
		return c, err
	case o.Size != c.Size:
		return c, fmt.Errorf("upload: completed %s has %d bytes, want %d", o.Key, o.Size, c.Size)
	}
	c.Key = s.target.upload.Key
	return c, nil
}

// spend is Writer.Spend.
func (s *sealer) spend(ctx context.Context, requested digest.Digest) {
	if s.token.Seq == 0 || s.opts.Deadline.Check() != nil {
		return
	}
	by := sessionRecord{Kind: KindCommitted, Offset: s.size, Digest: s.hashes.canonical()}
	if requested != by.Digest {
		by.RequestedDigest = requested
	}
	isWhole := !s.target.needsSeal()
	if !isWhole {
		by.Kind, by.End = KindSpent, s.token.Seq+1
	}
	if isWhole || s.base.RawSize > largeTail {
		s.m.spend(ctx, s.token, s.base.Object.Tag, by)
	}
	if s.token.Seq <= maxRefs {
		return
	}
	var group errgroup.Group
	group.SetLimit(concurrentReads)
	for i, f := range s.before.refs {
		if tag := s.before.tags[i]; f.Raw > largeTail && f.Seq < s.token.Seq && tag != "" && s.opts.Deadline.Check() == nil {
			group.Go(func() error {
				s.m.spend(ctx, s.token.next(f.Seq), tag, by)
				return nil
			})
		}
	}
	_ = group.Wait() // it has none
}
