package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// checker walks a bucket and says what in it must never be. What it asks for
// holds at every instant, whatever requests are half-way and whichever were
// killed; so a test may call it between any two calls to the store, though not
// during one.
//
//   - A record's bytes are there, as many as it says, and have its digest and
//     its CRC. Where the state says that they are not to be trusted, nothing is
//     asked of them.
//   - A link has a record, and what it leads to has its digest. It may disagree
//     with the record (whose data was replaced since) and then lead nowhere.
//   - No data key is named for two digests, or by two uploads.
//   - Bytes under data/sha256/ have the digest in their key. Bytes under
//     data/new/ have the digest that one session's end binds them to; without
//     one, the collector would never find them.
//   - A session's records are numbered without a gap, all name the same
//     repository and start, and only the last may end it.
//   - While a session is open, the records that its newest one refers to are
//     there, unspent, and hold exactly the bytes before those in the newest.
//   - An alias tells the truth.
//
// The zero value of the other fields is for buckets that nobody but berth's
// requests has worked on.
type checker struct {
	bucket drivers.Bucket

	// lost are data keys whose bytes the test itself took away or spoiled.
	lost map[string]bool

	// collected says that records may be missing where links still are.
	collected bool

	// seen is what was read before, by key and tag: small bodies have nonces,
	// and data never changes.
	seen map[string]any
}

// whole is what bytes turn out to be.
type whole struct {
	digest digest.Digest
	size   int64
	crc    uint32
	sha512 digest.Digest
}

// sessionRecord is what a session's record says that invariants are about.
type sessionRecord struct {
	Kind       string           `json:"kind"`
	Repository string           `json:"repository"`
	Started    time.Time        `json:"started"`
	Algorithm  digest.Algorithm `json:"algorithm"`
	Refs       [][3]int64       `json:"refs"` // number, raw bytes, parts
	Upload     *drivers.Upload  `json:"upload"`
	Parts      []drivers.Part   `json:"parts"`
	Offset     int64            `json:"offset"`
	Digest     digest.Digest    `json:"digest"`
	End        int              `json:"end"`
}

// findings are what is wrong with a bucket.
type findings []error

func (f *findings) add(format string, args ...any) { *f = append(*f, fmt.Errorf(format, args...)) }

// inventory is a bucket, read whole.
type inventory struct {
	records  map[digest.Digest]storedRecord
	links    map[string]storedRecord // by key
	linkOf   map[string]digest.Digest
	aliases  map[digest.Digest]alias
	sessions map[string][]sessionEntry // by id, in order
	dead     []deadData
	data     map[string]whole
}

type sessionEntry struct {
	seq int
	envelope.Stored[sessionRecord]
}

// check says all that is wrong with the bucket, or nil.
func (c *checker) check(ctx context.Context) error {
	inv, err := c.read(ctx)
	if err != nil {
		return err
	}
	var f findings
	c.checkBlobs(&f, inv)
	c.checkData(&f, inv)
	c.checkSessions(&f, inv)
	return errors.Join(f...)
}

func (c *checker) read(ctx context.Context) (*inventory, error) {
	inv := &inventory{
		records:  map[digest.Digest]storedRecord{},
		links:    map[string]storedRecord{},
		linkOf:   map[string]digest.Digest{},
		aliases:  map[digest.Digest]alias{},
		sessions: map[string][]sessionEntry{},
		data:     map[string]whole{},
	}
	for o, err := range c.bucket.List(ctx, "", "") {
		if err == nil {
			err = c.readObject(ctx, inv, o)
		}
		if errors.Is(err, drivers.ErrNotFound) {
			continue // deleted since it was listed
		}
		if err != nil {
			return nil, fmt.Errorf("checker: %s: %w", o.Key, err)
		}
	}
	return inv, nil
}

func (c *checker) readObject(ctx context.Context, inv *inventory, o drivers.Object) error {
	f := strings.Split(o.Key, "/")
	switch {
	case f[0] == "blobs" && path.Base(o.Key) == "record":
		d := digest.NewDigestFromEncoded(digest.Algorithm(f[1]), f[3])
		s, err := readOnce[record](ctx, c, o.Key)
		inv.records[d] = s
		return err
	case f[0] == "blobs":
		d, ok := layout{}.linked(o.Key)
		if !ok {
			return errors.New("neither a record nor a link")
		}
		s, err := readOnce[record](ctx, c, o.Key)
		inv.links[o.Key], inv.linkOf[o.Key] = s, d
		return err
	case f[0] == "aliases":
		s, err := readOnce[alias](ctx, c, o.Key)
		inv.aliases[digest.NewDigestFromEncoded(digest.Algorithm(f[1]), f[3])] = s.Value
		return err
	case f[0] == "uploads":
		seq, err := strconv.Atoi(f[2])
		if err != nil {
			return err
		}
		s, err := readOnce[sessionRecord](ctx, c, o.Key)
		inv.sessions[f[1]] = append(inv.sessions[f[1]], sessionEntry{seq, s})
		return err
	case f[0] == "data":
		w, err := c.hash(ctx, o.Key)
		inv.data[o.Key] = w
		return err
	case strings.HasPrefix(o.Key, "meta/dead/"):
		s, err := readOnce[deadData](ctx, c, o.Key)
		inv.dead = append(inv.dead, s.Value)
		return err
	case f[0] == "meta", f[0] == "docker": // what another registry left
		return nil
	default:
		return errors.New("no key that berth makes")
	}
}

// once gives what read gives for this version of an object, which it asks only
// once.
func once[T any](ctx context.Context, c *checker, key string, read func() (T, error)) (T, error) {
	o, err := c.bucket.Stat(ctx, key)
	if err != nil {
		var none T
		return none, err
	}
	version := key + " " + o.Tag
	if v, ok := c.seen[version].(T); ok {
		return v, nil
	}
	v, err := read()
	if c.seen == nil {
		c.seen = map[string]any{}
	}
	if err == nil {
		c.seen[version] = v
	}
	return v, err
}

func readOnce[T any](ctx context.Context, c *checker, key string) (envelope.Stored[T], error) {
	return once(ctx, c, key, func() (envelope.Stored[T], error) { return envelope.Read[T](ctx, c.bucket, key) })
}

// hash reads bytes and says what they are.
func (c *checker) hash(ctx context.Context, key string) (whole, error) {
	return once(ctx, c, key, func() (whole, error) {
		p, err := readAll(ctx, c.bucket, key)
		return wholeOf(p), err
	})
}

func readAll(ctx context.Context, b drivers.Bucket, key string) ([]byte, error) {
	rc, _, err := b.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

func wholeOf(p []byte) whole {
	return whole{digest.FromBytes(p), int64(len(p)), drivers.UpdateCRC32C(0, p), digest.SHA512.FromBytes(p)}
}

// bytesOf is what a record or link leads to, and whether that is there.
func (inv *inventory) bytesOf(s storedRecord) (whole, bool) {
	if s.Value.Data == "" {
		return wholeOf(s.Raw), true
	}
	w, ok := inv.data[s.Value.Data]
	return w, ok
}

// trusted says that what a record says of its bytes is to be true.
func (c *checker) trusted(r record) bool {
	return (r.State == live || r.State == condemned) && !c.lost[r.Data]
}

func (c *checker) checkBlobs(f *findings, inv *inventory) {
	for d, s := range inv.records {
		r := s.Value
		if r.Digest != d || r.ID == "" {
			f.add("record %s: it is of %s, id %q", d, r.Digest, r.ID)
		}
		if !c.trusted(r) {
			continue
		}
		got, ok := inv.bytesOf(s)
		if want := (whole{d, r.Size, r.CRC32C, got.sha512}); !ok {
			f.add("record %s: its data %s is not there", d, r.Data)
		} else if got != want {
			f.add("record %s: its bytes in %q are %v, want %v", d, r.Data, got, want)
		}
	}
	for key, l := range inv.links {
		d := inv.linkOf[key]
		if l.Value.Digest != d {
			f.add("link %s: it is of %s", key, l.Value.Digest)
		}
		if _, ok := inv.records[d]; !ok && !c.collected {
			f.add("link %s: there is no record", key)
		}
		if !c.trusted(l.Value) {
			continue
		}
		got, ok := inv.bytesOf(l)
		if want := (whole{d, l.Value.Size, l.Value.CRC32C, got.sha512}); ok && got != want {
			f.add("link %s: its bytes in %q are %v, want %v", key, l.Value.Data, got, want)
		}
	}
	c.checkAliases(f, inv)
}

// checkAliases compares each alias with all bytes that have its canonical
// digest, whether a record names them or not.
func (c *checker) checkAliases(f *findings, inv *inventory) {
	sha512 := map[digest.Digest]digest.Digest{} // by sha256
	for _, w := range inv.data {
		sha512[w.digest] = w.sha512
	}
	for _, s := range inv.records {
		if w, ok := inv.bytesOf(s); ok {
			sha512[w.digest] = w.sha512
		}
	}
	for d, a := range inv.aliases {
		if of, ok := sha512[a.Digest]; ok && of != d {
			f.add("alias %s: it is of %s, whose bytes are %s", d, a.Digest, of)
		}
		if _, ok := inv.records[a.Digest]; !ok && !c.collected {
			f.add("alias %s: there is no record of %s", d, a.Digest)
		}
	}
}

// checkData compares all that names a data key, and the bytes there.
func (c *checker) checkData(f *findings, inv *inventory) {
	digestOf := map[string]digest.Digest{}
	name := func(who, key string, d digest.Digest) {
		if key == "" {
			return
		}
		if other, ok := digestOf[key]; ok && other != d {
			f.add("%s: names %s for %s, which is named for %s too", who, key, d, other)
		}
		digestOf[key] = d
		if of := digestInKey(key); of != "" && of != d {
			f.add("%s: names %s for %s", who, key, d)
		}
	}
	for d, s := range inv.records {
		name("record", s.Value.Data, d)
	}
	for key, l := range inv.links {
		name("link "+key, l.Value.Data, inv.linkOf[key])
	}
	for _, e := range inv.dead {
		name("dead list", e.Data, e.Digest)
	}
	bound := map[string]bool{}
	for id, chain := range inv.sessions {
		for _, e := range chain {
			if e.Value.Kind == "committed" && e.Value.Upload != nil {
				bound[e.Value.Upload.Key] = true
				name("session "+id, e.Value.Upload.Key, e.Value.Digest)
			}
		}
	}
	for key, w := range inv.data {
		want := digestInKey(key)
		if want == "" {
			if want = digestOf[key]; !bound[key] {
				f.add("%s: no session has bound it to a digest", key)
			}
		}
		if w.digest != want && !c.lost[key] {
			f.add("%s: its bytes are %s, want %s", key, w.digest, want)
		}
	}
}

// digestInKey is the digest of a data key that has one.
func digestInKey(key string) digest.Digest {
	f := strings.Split(key, "/")
	if len(f) != 5 {
		return ""
	}
	return digest.NewDigestFromEncoded(digest.Algorithm(f[1]), f[3])
}

func (c *checker) checkSessions(f *findings, inv *inventory) {
	uploadOf := map[string]string{}
	for id, chain := range inv.sessions {
		first := chain[0].Value
		var offset int64
		for i, e := range chain {
			r, last := e.Value, i == len(chain)-1
			if e.seq != i+1 {
				f.add("session %s: record %d follows %d others", id, e.seq, i)
			}
			if r.Repository != first.Repository || !r.Started.Equal(first.Started) {
				f.add("session %s: record %d is of %s, %v; the first of %s, %v", id, e.seq, r.Repository, r.Started, first.Repository, first.Started)
			}
			if r.Upload != nil {
				if other, ok := uploadOf[r.Upload.Key]; ok && other != id {
					f.add("sessions %s and %s: both name %s", id, other, r.Upload.Key)
				}
				uploadOf[r.Upload.Key] = id
			}
			switch {
			case r.isEnd() && !last:
				f.add("session %s: record %d ends it (%s), and there are %d", id, e.seq, r.Kind, len(chain))
			case r.Kind == "spent" && (r.End <= e.seq || r.End > len(chain) || !chain[r.End-1].Value.isEnd()):
				f.add("session %s: record %d is spent for %d of %d, which is no end", id, e.seq, r.End, len(chain))
			case r.Kind == "open":
				if r.Offset <= offset {
					f.add("session %s: record %d is at %d, after %d", id, e.seq, r.Offset, offset)
				}
				offset = r.Offset
				if err := holdsAll(chain, i); err != nil {
					f.add("session %s: %w", id, err)
				}
			}
		}
	}
}

// holdsAll returns an error if the open record at the index i does not hold,
// with the records that it refers to, the bytes up to its offset. In a session
// that has ended the others may be spent.
func holdsAll(chain []sessionEntry, i int) error {
	e := chain[i]
	sum, number := e.RawSize, 1
	count := func(parts []drivers.Part) error {
		for _, p := range parts {
			if p.Number != number {
				return fmt.Errorf("record %d: part %d follows %d others", e.seq, p.Number, number-1)
			}
			sum, number = sum+p.Size, number+1
		}
		return nil
	}
	var last int64
	for _, ref := range e.Value.Refs {
		seq, raw, parts := ref[0], ref[1], ref[2]
		if seq <= last || seq >= int64(e.seq) {
			return fmt.Errorf("record %d refers to record %d after %d", e.seq, seq, last)
		}
		last = seq
		held := chain[seq-1]
		switch {
		case held.Value.Kind != "open" && hasEnded(chain):
			return nil
		case held.Value.Kind != "open":
			return fmt.Errorf("record %d refers to record %d, which is %s", e.seq, seq, held.Value.Kind)
		case raw != 0 && raw != held.RawSize, parts != int64(len(held.Value.Parts)), raw+parts == 0:
			return fmt.Errorf("record %d refers to %d raw bytes and %d parts of record %d, which has %d and %d",
				e.seq, raw, parts, seq, held.RawSize, len(held.Value.Parts))
		}
		if sum += raw; parts > 0 {
			if err := count(held.Value.Parts); err != nil {
				return err
			}
		}
	}
	if err := count(e.Value.Parts); err != nil {
		return err
	}
	if sum != e.Value.Offset {
		return fmt.Errorf("record %d is at %d, with %d bytes", e.seq, e.Value.Offset, sum)
	}
	return nil
}

// hasEnded reports whether a session has ended, by its last record or by one
// that was replaced in place.
func hasEnded(chain []sessionEntry) bool {
	return slices.ContainsFunc(chain, func(e sessionEntry) bool {
		return e.Value.Kind == "committed" || e.Value.Kind == "cancelled"
	})
}

// isEnd says that the record was created to end its session. A record that was
// spent in place, by a request that needed none of the session's parts, has no
// upload, and others may follow it.
func (r sessionRecord) isEnd() bool {
	return r.Kind == "cancelled" || r.Kind == "committed" && r.Upload != nil
}

// violations is what is wrong with the bucket, and with what clients were told.
func violations(ctx context.Context, b drivers.Bucket, l *ledger) error {
	return errors.Join((&checker{bucket: b}).check(ctx), l.check(ctx, b))
}

// mustHold fails the test if anything is wrong with the bucket, or with what
// clients were told.
func mustHold(t *testing.T, b drivers.Bucket, l *ledger) {
	t.Helper()
	if err := violations(t.Context(), b, l); err != nil {
		t.Errorf("an invariant does not hold:\n%v", err)
	}
}
