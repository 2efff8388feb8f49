package catalog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
	"github.com/berthhq/berth/drivers/envelope"
)

// ErrDamaged reports that the data of a push was found damaged after it was
// stored. The push has to send its bytes again.
var ErrDamaged = errors.New("its data was found damaged after it was stored")

// Catalog is everything in one bucket but the bytes of blobs and the sessions of uploads.
// It has no state of its own. It is safe for concurrent use, by any number of processes.
//
// Its own methods are those of the records, links and aliases of blobs.
type Catalog struct {
	Repositories

	bucket drivers.Bucket
}

// Repositories is the manifests, tags, referrers entries and markers in one bucket.
type Repositories struct {
	bucket drivers.Bucket
}

// New returns the Catalog of a bucket. The caller closes the bucket.
func New(bucket drivers.Bucket) *Catalog { return &Catalog{Repositories{bucket}, bucket} }

// ReadRecord returns the record of the blob with this canonical digest, in any
// state. It returns drivers.ErrNotFound if there is none.
func (c *Catalog) ReadRecord(ctx context.Context, d digest.Digest) (StoredRecord, error) {
	return envelope.Read[Record](ctx, c.bucket, RecordKey(d))
}

// ReadLink returns a repository's link to the blob with this canonical digest, in
// any state. It returns drivers.ErrNotFound if there is none.
func (c *Catalog) ReadLink(ctx context.Context, d digest.Digest, repository string) (StoredRecord, error) {
	link, err := envelope.Read[Record](ctx, c.bucket, LinkKey(d, repository))
	if err == nil && link.Value.Data == "" && link.RawSize != link.Value.Size {
		err = fmt.Errorf("catalog: %s: %d raw bytes, want %d", link.Object.Key, link.RawSize, link.Value.Size)
	}
	return link, err
}

// ReadAlias returns the alias of a digest of another algorithm than the canonical
// one. It returns drivers.ErrNotFound if there is none.
func (c *Catalog) ReadAlias(ctx context.Context, d digest.Digest) (StoredAlias, error) {
	return envelope.Read[Alias](ctx, c.bucket, AliasKey(d))
}

// Published reports whether the repository can read the blob with this canonical
// digest: its link agrees with a live record, which Published returns. It reads
// the link first, and the record only if the link exists. If only the collector's mark
// makes the link differ from the record, Published takes the mark off.
//
// It returns drivers.ErrBusy if the deadline has passed before a write. A retry is
// harmless.
func (c *Catalog) Published(ctx context.Context, due deadline.Deadline, d digest.Digest, repository string) (Record, bool, error) {
	link, err := c.ReadLink(ctx, d, repository)
	if errors.Is(err, drivers.ErrNotFound) {
		return Record{}, false, nil
	}
	if err != nil {
		return Record{}, false, err
	}
	rec, ok, err := c.live(ctx, d)
	if !ok {
		return Record{}, false, err
	}
	unmarked := link.Value
	unmarked.Condemned = false
	if rec.Agrees(unmarked) {
		link, err = c.UnmarkLink(ctx, due, link)
	}
	switch {
	case errors.Is(err, drivers.ErrNotFound): // the link was deleted since it was read
		return Record{}, false, nil
	case err != nil || !rec.Agrees(link.Value):
		return Record{}, false, err
	}
	return rec, true, nil
}

// Stored reports whether the blob with this canonical digest has a live record,
// which Stored returns, and data of the right size. If it has, the bytes need not
// be stored again.
func (c *Catalog) Stored(ctx context.Context, d digest.Digest) (Record, bool, error) {
	rec, ok, err := c.live(ctx, d)
	if ok {
		ok, err = c.hasData(ctx, rec)
	}
	if !ok {
		return Record{}, false, err
	}
	return rec, true, nil
}

// live returns the record of a blob if there is one, and if it is live.
func (c *Catalog) live(ctx context.Context, d digest.Digest) (Record, bool, error) {
	rec, err := c.ReadRecord(ctx, d)
	switch {
	case errors.Is(err, drivers.ErrNotFound):
		return Record{}, false, nil
	case err != nil || rec.Value.State != Live:
		return Record{}, false, err
	}
	return rec.Value, true, nil
}

// hasData reports whether the bytes of a record exist and have the right size. It
// asks the store, unless they are in the record, or under one of the known keys,
// which the same request has stored or checked itself.
func (c *Catalog) hasData(ctx context.Context, rec Record, known ...string) (bool, error) {
	if rec.Data == "" || slices.Contains(known, rec.Data) {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, envelope.SmallCallTimeout)
	defer cancel()
	o, err := c.bucket.Stat(ctx, rec.Data)
	if errors.Is(err, drivers.ErrNotFound) {
		return false, nil
	}
	return err == nil && o.Size == rec.Size, err
}

// Holders returns the repositories that have a link to the blob with this
// canonical digest, in any state, in the order of the links' keys. It lists as the
// caller iterates, and ends with the first error.
func (c *Catalog) Holders(ctx context.Context, d digest.Digest) iter.Seq2[string, error] {
	return keysOf(ctx, c.bucket, LinksPrefix(d), "", 0, func(key string) (string, bool) {
		_, repository, ok := ParseLinkKey(key)
		return repository, ok
	})
}

// Link names the link of a repository to the blob with this canonical digest.
type Link struct {
	Digest     digest.Digest
	Repository string
}

// Links returns all links, in any state, in ascending order of their digests and then in
// the order of their keys. It lists as the caller iterates, and ends with the first
// error.
func (c *Catalog) Links(ctx context.Context) iter.Seq2[Link, error] {
	return c.linksFrom(ctx, "")
}

// linksFrom is Links for the keys after from.
func (c *Catalog) linksFrom(ctx context.Context, from string) iter.Seq2[Link, error] {
	return keysOf(ctx, c.bucket, BlobsPrefix, from, 0, func(key string) (Link, bool) {
		d, repository, ok := ParseLinkKey(key)
		return Link{d, repository}, ok
	})
}

// Linked returns the canonical digests that have at least one link, in ascending
// order, each once. If after is not empty, it returns only the digests after it. It
// lists as the caller iterates, and ends with the first error.
func (c *Catalog) Linked(ctx context.Context, after digest.Digest) iter.Seq2[digest.Digest, error] {
	return func(yield func(digest.Digest, error) bool) {
		from := ""
		if after != "" {
			from = RecordKey(after)
		}
		last := after
		for link, err := range c.linksFrom(ctx, from) {
			if err != nil {
				yield("", err)
				return
			}
			if link.Digest == last {
				continue
			}
			last = link.Digest
			if !yield(last, nil) {
				return
			}
		}
	}
}
