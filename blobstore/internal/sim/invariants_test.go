package sim_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore"
	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/blobstore/internal/sim"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/envelope"
)

// planted is a sound bucket in which a test plants a violation: the blobs small
// and large in one repository, and an open session with two records.
type planted struct {
	t       *testing.T
	run     *sim.Run
	session string // its id
}

// Digests of the blobs in the bucket.
var (
	smallDigest = digest.FromBytes(small)
	largeDigest = digest.FromBytes(large)
)

func newPlanted(t *testing.T) *planted {
	t.Helper()
	b, err := open(t.Context())
	p := &planted{t: t, run: sim.NewRun(t.Context(), b, read)}
	p.must(err)
	repo, err := process(t.Context(), b, library)
	p.must(err)
	for _, blob := range [][]byte{small, large} {
		p.must(push(p.run, repo, blob))
	}
	u, err := repo.StartUpload("")
	for range 2 {
		p.must(err)
		u, err = repo.AppendUpload(t.Context(), u.ID, u.State, blobstore.Body{Reader: bytes.NewReader(small), Length: -1, Start: -1})
	}
	p.must(err)
	p.session = u.ID
	return p
}

func (p *planted) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// edit changes a record or a link.
func (p *planted) edit(key string, change func(*catalog.Record)) {
	p.t.Helper()
	s, err := envelope.Read[catalog.Record](p.t.Context(), p.run.Bucket, key)
	p.must(err)
	change(&s.Value)
	_, err = envelope.Replace(p.t.Context(), p.run.Bucket, key, s.Object.Tag, s.Value, drivers.NewBody(s.Raw))
	p.must(err)
}

func (p *planted) create(key string, body []byte) {
	p.t.Helper()
	_, err := p.run.Bucket.Create(p.t.Context(), key, drivers.NewBody(body))
	p.must(err)
}

// createValue creates a small body.
func createValue[T any](p *planted, key string, value T) {
	p.t.Helper()
	_, err := envelope.Create(p.t.Context(), p.run.Bucket, key, value, drivers.Body{})
	p.must(err)
}

func (p *planted) remove(key string) {
	p.t.Helper()
	p.must(p.run.Bucket.Delete(p.t.Context(), key))
}

// dataKey returns the data key of the large blob.
func (p *planted) dataKey() string {
	p.t.Helper()
	s, err := envelope.Read[catalog.Record](p.t.Context(), p.run.Bucket, catalog.RecordKey(largeDigest))
	p.must(err)
	return s.Value.Data
}

// sessionRecord is the JSON of a session record, as far as violations need it.
type sessionRecord struct {
	Kind       string           `json:"kind"`
	Repository string           `json:"repository"`
	Started    time.Time        `json:"started"`
	Algorithm  digest.Algorithm `json:"algorithm"`
	Refs       [][3]int64       `json:"refs,omitempty"` // number, raw bytes, parts
	Upload     *drivers.Upload  `json:"upload,omitempty"`
	Parts      []drivers.Part   `json:"parts,omitempty"`
	Offset     int64            `json:"offset"`
	Digest     digest.Digest    `json:"digest,omitempty"`
	End        int              `json:"end,omitempty"`
}

// appendRecord creates a record of the session.
func (p *planted) appendRecord(seq int, s sessionRecord) {
	p.t.Helper()
	inv, err := p.run.Invariants.Read(p.t.Context(), p.run.Bucket)
	p.must(err)
	first := inv.Sessions[p.session][0]
	s.Repository, s.Started, s.Algorithm = first.Repository, first.Started, first.Algorithm
	createValue(p, catalog.Layout{}.SessionRecord(p.session, seq), s)
}

// violations are what berth must never do to a bucket.
func violations() map[string]func(p *planted) {
	record, link, alias := catalog.RecordKey, catalog.LinkKey(smallDigest, library), catalog.AliasKey
	return map[string]func(p *planted){
		"a record of other bytes": func(p *planted) {
			p.edit(record(largeDigest), func(r *catalog.Record) { r.Data, r.Size = "", 0 })
		},
		"a record of another size":   func(p *planted) { p.edit(record(smallDigest), func(r *catalog.Record) { r.Size++ }) },
		"a record with a wrong CRC":  func(p *planted) { p.edit(record(largeDigest), func(r *catalog.Record) { r.CRC32C++ }) },
		"a record without its data":  func(p *planted) { p.remove(p.dataKey()) },
		"a record of another digest": func(p *planted) { p.edit(record(smallDigest), func(r *catalog.Record) { r.Digest = largeDigest }) },
		"a link without a record":    func(p *planted) { p.remove(record(smallDigest)) },
		"a link to other bytes":      func(p *planted) { p.edit(link, func(r *catalog.Record) { r.Data = p.dataKey() }) },
		"no link":                    func(p *planted) { p.remove(link) },
		"a link marked damaged":      func(p *planted) { p.edit(link, func(r *catalog.Record) { r.State = catalog.Damaged }) },
		"an acknowledged blob that may be collected": func(p *planted) {
			p.edit(record(smallDigest), func(r *catalog.Record) { r.State = catalog.Condemned })
		},
		"bytes under another digest":      func(p *planted) { p.create(catalog.NewDataKey(smallDigest), large) },
		"bytes that no session has bound": func(p *planted) { p.create(catalog.NewDataKey(""), large) },
		"bytes of another digest than they are bound to": func(p *planted) {
			key := catalog.NewDataKey("")
			p.appendRecord(3, sessionRecord{Kind: "committed", Upload: &drivers.Upload{Key: key}, Digest: smallDigest})
			p.create(key, large)
		},
		"one data key for two digests": func(p *planted) {
			createValue(p, catalog.NewDeadKey(), catalog.Dead{Digest: smallDigest, Data: p.dataKey()})
		},
		"a false alias of data": func(p *planted) {
			createValue(p, alias(digest.SHA512.FromBytes(small)), catalog.Alias{Digest: largeDigest})
		},
		"a false alias of an inline blob": func(p *planted) {
			createValue(p, alias(digest.SHA512.FromBytes(large)), catalog.Alias{Digest: smallDigest})
		},
		"an alias without a record": func(p *planted) {
			absent := []byte("an absent blob")
			createValue(p, alias(digest.SHA512.FromBytes(absent)), catalog.Alias{Digest: digest.FromBytes(absent)})
		},
		"a gap in a session": func(p *planted) { p.appendRecord(4, sessionRecord{Kind: "cancelled"}) },
		"a record after the end of a session": func(p *planted) {
			p.appendRecord(3, sessionRecord{Kind: "cancelled"})
			p.appendRecord(4, sessionRecord{Kind: "cancelled"})
		},
		"a session that loses bytes": func(p *planted) {
			p.appendRecord(3, sessionRecord{Kind: "open", Offset: 1, Parts: []drivers.Part{{Number: 1, Size: 1}}})
		},
		"a session spent for no end": func(p *planted) { p.appendRecord(3, sessionRecord{Kind: "spent", End: 4}) },
		"a reference to a later record": func(p *planted) {
			p.appendRecord(3, sessionRecord{Kind: "open", Offset: 1000, Refs: [][3]int64{{3, 1, 0}}})
		},
		"one upload of two sessions": func(p *planted) {
			u := &drivers.Upload{Key: catalog.NewDataKey("")}
			p.appendRecord(3, sessionRecord{Kind: "cancelled", Upload: u})
			other := sessionRecord{Kind: "cancelled", Upload: u, Repository: library}
			createValue(p, catalog.Layout{}.SessionRecord("other", 1), other)
		},
		"a key that berth does not make": func(p *planted) { p.create("blobs/stray", small) },
	}
}

// TestCheckerFinds plants each violation in a sound bucket.
func TestCheckerFinds(t *testing.T) {
	for name, plant := range violations() {
		t.Run(name, func(t *testing.T) {
			p := newPlanted(t)
			if err := p.run.Check(); err != nil {
				t.Fatalf("Check of a sound bucket = %v", err)
			}
			plant(p)
			if err := p.run.Check(); err == nil {
				t.Error("Check found nothing")
			} else {
				t.Log(err)
			}
		})
	}
}
