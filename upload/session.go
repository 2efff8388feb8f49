package upload

import (
	"context"
	"fmt"
	"iter"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// Kind is what a session record stands for.
type Kind string

const (
	// KindOpen is a record of bytes that came. More bytes may come. The raw bytes
	// are a piece of the tail, which is what came past the last part.
	KindOpen Kind = "open"

	// KindCommitted ends a session. Nothing is created after it.
	KindCommitted Kind = "committed"

	// KindCancelled ends a session, as KindCommitted does.
	KindCancelled Kind = "cancelled"

	// KindSpent takes the place of an open record that is no longer needed, and
	// names the record that ends the session.
	KindSpent Kind = "spent"
)

// EndsSession reports whether a record of this kind ends its session.
func (k Kind) EndsSession() bool { return k == KindCommitted || k == KindCancelled }

// Record is a read-only view of a session record. The package documentation
// describes the chain that the records form.
type Record struct {
	Seq        int
	Kind       Kind
	Repository string
	Started    time.Time // of the session
	Algorithm  digest.Algorithm

	Refs    []Ref // earlier records, with the content before that of this one
	Parts   []drivers.Part
	RawSize int64
	Offset  int64 // bytes of the upload, up to the end of this record

	Upload *drivers.Upload // where the parts are; nil if none was stored
	Digest digest.Digest   // canonical, of a session that was committed

	// RequestedDigest is the digest that the client has committed the session as, if
	// that is known to be a digest of the bytes, and is not Digest.
	RequestedDigest digest.Digest

	End int // only in KindSpent: number of the record that ends the session

	Modified time.Time // by the store's clock
}

// Ref is a reference to an earlier record of the same session.
type Ref struct {
	Seq   int
	Raw   int64 // raw bytes of the record that belong to the tail: all of them, or 0
	Parts int   // number of parts that the record holds
}

// ReadRecord reads the session record under key, which a Layout's SessionRecord
// has returned. It returns drivers.ErrNotFound if the record does not exist. It is
// for those who inspect a bucket: tests of invariants, and tools.
func ReadRecord(ctx context.Context, b drivers.Bucket, key string) (Record, error) {
	seq, err := seqOf(key)
	if err != nil {
		return Record{}, err
	}
	s, err := envelope.Read[sessionRecord](ctx, b, key)
	if err != nil {
		return Record{}, err
	}
	r := s.Value
	v := Record{
		Seq: seq, Kind: r.Kind, Repository: r.Repository, Started: r.Started, Algorithm: r.Algorithm,
		Parts: r.Parts, RawSize: s.RawSize, Offset: r.Offset, Upload: r.Upload, Digest: r.Digest, RequestedDigest: r.RequestedDigest, End: r.End,
		Modified: s.Object.Modified,
	}
	for _, f := range r.Refs {
		v.Refs = append(v.Refs, Ref(f))
	}
	return v, nil
}

// Session is what a listing shows of the records of one session.
type Session struct {
	ID       string
	Records  int       // number of records
	Newest   int       // highest number of a record
	Modified time.Time // of the newest record, by the store's clock
}

// Sessions returns the sessions in the bucket in the order of their ids, those
// after a given id only. It costs one listing, and reads no record. Sessions that
// are created or deleted in the meantime may be missing.
func (r *Reaper) Sessions(ctx context.Context, after string) iter.Seq2[Session, error] {
	return func(yield func(Session, error) bool) {
		prefix := r.m.cfg.Layout.Sessions()
		from := ""
		if after != "" {
			from = r.m.cfg.Layout.Session(after) + "~" // past its records, whose names are digits
		}
		var s Session
		for o, err := range r.m.cfg.Bucket.List(ctx, prefix, from, 0) {
			if err != nil {
				yield(Session{}, fmt.Errorf("upload: list sessions after %q: %w", s.ID, err))
				return
			}
			id, _, _ := strings.Cut(strings.TrimPrefix(o.Key, prefix), "/")
			seq, err := seqOf(o.Key)
			if err != nil {
				yield(Session{}, err)
				return
			}
			if id != s.ID && s.ID != "" && !yield(s, nil) {
				return
			}
			if id != s.ID {
				s = Session{ID: id}
			}
			s.Records++
			s.Newest, s.Modified = seq, o.Modified
		}
		if s.ID != "" {
			yield(s, nil)
		}
	}
}

// seqOf returns the number in the key of a session record.
func seqOf(key string) (int, error) {
	seq, err := strconv.Atoi(path.Base(key))
	if err != nil {
		return 0, fmt.Errorf("upload: session record %s: %w", key, err)
	}
	return seq, nil
}
