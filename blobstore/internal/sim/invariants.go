package sim

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/upload"
)

// Invariants checks rules that a bucket must never break. They hold at every
// instant, even while requests are in progress and after processes were killed. A
// test may check them between any two calls to the store, but not during a call.
//
//   - The bytes of a record exist, with the size, the digest and the CRC of the
//     record. This is not required if the record is damaged or unverified.
//   - A link has a record, and the link's bytes have its digest. If the record's
//     data was replaced, the link may still name the old data, which may be
//     deleted.
//   - No data key is named for two digests, or by two uploads.
//   - Bytes under data/sha256/ have the digest in their key. Bytes under
//     data/new/ have the digest in the committed record of one session. Without
//     that record the collector would never find them.
//   - The records of a session are numbered without a gap, name one repository
//     and one start, and only the last one may end it.
//   - While a session is open, the records to which its newest one refers exist,
//     are not spent, and hold exactly the bytes before those in the newest one.
//   - The bytes of an alias have both digests.
//   - A manifest that can be read has the bytes of its digest, and is described by its
//     fields. Its repository has a marker. If it has a subject, its entry exists. A
//     deleted manifest has no bytes, and its id never comes back.
//   - A tag that resolves is among the hints of its manifest.
//
// The zero value is for a bucket that only berth's requests have changed.
type Invariants struct {
	// Lost are data keys with bytes that the test itself deleted or corrupted.
	Lost map[string]bool

	// Collected allows links and aliases without a record.
	Collected bool

	// OldAliases allows aliases without a record. The collector removes an alias
	// long after the record.
	OldAliases bool

	// seen holds what was read before, by key and tag. A version of an object is
	// read once: small bodies have nonces, and data never changes.
	seen map[string]any

	// ended are the ids of manifests that were seen deleted.
	ended map[string]bool
}

// Lose adds a data key with bytes that the test deletes or corrupts to Lost.
func (c *Invariants) Lose(key string) {
	if c.Lost == nil {
		c.Lost = map[string]bool{}
	}
	c.Lost[key] = true
}

// findings are the broken rules that were found in a bucket.
type findings []error

func (f *findings) add(format string, args ...any) { *f = append(*f, fmt.Errorf(format, args...)) }

// Check returns the errors for all broken rules, joined, or nil.
func (c *Invariants) Check(ctx context.Context, b drivers.Bucket) error {
	inv, err := c.Read(ctx, b)
	if err != nil {
		return err
	}
	return c.check(inv)
}

func (c *Invariants) check(inv *Inventory) error {
	var f findings
	for d, s := range inv.Records {
		c.checkRecord(&f, inv, d, s)
	}
	for key, s := range inv.Links {
		c.checkLink(&f, inv, key, s)
	}
	c.checkAliases(&f, inv)
	c.checkData(&f, inv)
	checkSessions(&f, inv)
	c.checkManifests(&f, inv)
	return errors.Join(f...)
}

// trusted reports whether the bytes of a record must match the record.
func (c *Invariants) trusted(r catalog.Record) bool {
	return (r.State == catalog.Live || r.State == catalog.Condemned) && !c.Lost[r.Data]
}

// matches reports whether c is the content that a record describes.
func (c Content) matches(d digest.Digest, r catalog.Record) bool {
	return c.SHA256 == d && c.Size == r.Size && c.CRC32C == r.CRC32C
}

func (c *Invariants) checkRecord(f *findings, inv *Inventory, d digest.Digest, s catalog.StoredRecord) {
	r := s.Value
	if r.Digest != d || r.ID == "" {
		f.add("record %s: has digest %s and id %q", d, r.Digest, r.ID)
	}
	if !c.trusted(r) {
		return
	}
	got, ok := inv.contentOf(s)
	if !ok {
		f.add("record %s: its data %s does not exist", d, r.Data)
	} else if !got.matches(d, r) {
		f.add("record %s: its bytes in %q are %v, want size %d and CRC %d", d, r.Data, got, r.Size, r.CRC32C)
	}
}

func (c *Invariants) checkLink(f *findings, inv *Inventory, key string, s catalog.StoredRecord) {
	d, _, _ := catalog.ParseLinkKey(key)
	if s.Value.Digest != d {
		f.add("link %s: has digest %s", key, s.Value.Digest)
	}
	if _, ok := inv.Records[d]; !ok && !c.Collected {
		f.add("link %s: has no record", key)
	}
	if got, ok := inv.contentOf(s); c.trusted(s.Value) && ok && !got.matches(d, s.Value) {
		f.add("link %s: its bytes in %q are %v, want size %d and CRC %d", key, s.Value.Data, got, s.Value.Size, s.Value.CRC32C)
	}
}

// checkAliases compares each alias with all bytes that have its canonical digest,
// even if no record names them.
func (c *Invariants) checkAliases(f *findings, inv *Inventory) {
	sha512 := map[digest.Digest]digest.Digest{} // by sha256
	for _, w := range inv.Data {
		sha512[w.SHA256] = w.SHA512
	}
	for _, s := range inv.Records {
		if w, ok := inv.contentOf(s); ok {
			sha512[w.SHA256] = w.SHA512
		}
	}
	for d, a := range inv.Aliases {
		if of, ok := sha512[a.Digest]; ok && of != d {
			f.add("alias %s: leads to %s, with bytes of %s", d, a.Digest, of)
		}
		if _, ok := inv.Records[a.Digest]; !ok && !c.Collected && !c.OldAliases {
			f.add("alias %s: %s has no record", d, a.Digest)
		}
	}
}

// dataKeys collects the digests for which data keys are named.
type dataKeys struct {
	f        *findings
	digestOf map[string]digest.Digest
	bound    map[string]bool // by the end of a session
}

// name records that an object names the data key for the digest d. what describes
// the object.
func (k *dataKeys) name(what, key string, d digest.Digest) {
	if key == "" {
		return
	}
	if other, ok := k.digestOf[key]; ok && other != d {
		k.f.add("%s: names %s for %s, which is named for %s too", what, key, d, other)
	}
	k.digestOf[key] = d
	if of := digestInKey(key); of != "" && of != d {
		k.f.add("%s: names %s for %s", what, key, d)
	}
}

// checkData compares everything that names a data key with the bytes there.
func (c *Invariants) checkData(f *findings, inv *Inventory) {
	keys := dataKeys{f, map[string]digest.Digest{}, map[string]bool{}}
	for d, s := range inv.Records {
		keys.name("record", s.Value.Data, d)
	}
	for key, s := range inv.Links {
		d, _, _ := catalog.ParseLinkKey(key)
		keys.name("link "+key, s.Value.Data, d)
	}
	for _, e := range inv.Dead {
		keys.name("dead entry", e.Data, e.Digest)
	}
	for id, chain := range inv.Sessions {
		for _, r := range chain {
			if r.Kind == upload.KindCommitted && r.Upload != nil {
				keys.bound[r.Upload.Key] = true
				keys.name("session "+id, r.Upload.Key, r.Digest)
			}
		}
	}
	for key, w := range inv.Data {
		want := digestInKey(key)
		if want == "" {
			want = keys.digestOf[key]
			if !keys.bound[key] {
				f.add("%s: no session has bound it to a digest", key)
			}
		}
		if w.SHA256 != want && !c.Lost[key] {
			f.add("%s: its bytes are %s, want %s", key, w.SHA256, want)
		}
	}
}
