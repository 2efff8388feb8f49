package blobstore

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
)

// Get describes the manifest that a tag names. See [TagService]. It also returns
// ErrTagInvalid.
func (t *Tags) Get(ctx context.Context, tag string) (Descriptor, error) {
	_, found, err := t.resolve(ctx, tag, false)
	if err != nil {
		return Descriptor{}, publicError(err)
	}
	found.close()
	return describeManifest(found.Value).Descriptor, nil
}

// TagEntry is a tag and the manifest that it names.
type TagEntry struct {
	Tag string

	// Moved is the time at which the tag was written last, by the store's clock.
	Moved time.Time

	Descriptor
}

// Entry returns the tag with the time at which it was written. It returns the errors of
// Get.
func (t *Tags) Entry(ctx context.Context, tag string) (TagEntry, error) {
	stored, found, err := t.resolve(ctx, tag, false)
	if err != nil {
		return TagEntry{}, publicError(err)
	}
	found.close()
	return TagEntry{tag, stored.Object.Modified, describeManifest(found.Value).Descriptor}, nil
}

// Entries returns the tags that resolve, in ascending order. It reads as the caller
// iterates: each tag, and each manifest that was not read recently. It ends with the
// first error, which is ErrNameUnknown if the repository never had a manifest.
func (t *Tags) Entries(ctx context.Context) iter.Seq2[TagEntry, error] {
	return func(yield func(TagEntry, error) bool) {
		if _, err := t.list(ctx, "", 1, func(string) error { return nil }); err != nil {
			yield(TagEntry{}, err)
			return
		}
		read := func(ctx context.Context, tag string) (TagEntry, error) {
			entry, err := t.Entry(ctx, tag)
			if errors.Is(err, ErrManifestUnknown) {
				err = nil
			}
			return entry, err
		}
		for entry, err := range inOrder(ctx, t.s.listReads, t.s.catalog.Tags(ctx, t.repository, "", 0), read) {
			if err != nil {
				yield(TagEntry{}, publicError(err))
				return
			}
			if entry.Tag != "" && !yield(entry, nil) {
				return
			}
		}
	}
}

// resolve returns a tag and the manifest that it names. It always asks the store for
// the tag. It returns ErrManifestUnknown if there is no such tag, or if it does not
// resolve, and ErrTagInvalid. The caller closes the manifest.
func (t *Tags) resolve(ctx context.Context, tag string, wantBytes bool) (catalog.StoredTag, foundManifest, error) {
	if err := checkTag(tag); err != nil {
		return catalog.StoredTag{}, foundManifest{}, err
	}
	stored, err := t.read(ctx, tag)
	for err == nil {
		var found foundManifest
		found, err = t.named(ctx, stored.Value, wantBytes)
		if !errors.Is(err, ErrManifestUnknown) {
			return stored, found, err
		}
		// That is certain only if the tag named this manifest all the time.
		var again catalog.StoredTag
		again, err = t.read(ctx, tag)
		if err == nil && again.Object.Tag == stored.Object.Tag {
			err = errUnknownTag(tag)
		}
		stored = again
	}
	return catalog.StoredTag{}, foundManifest{}, err
}

// named returns the manifest that a tag names. It returns ErrManifestUnknown if the
// manifest cannot be read, or has another ID. It asks the cache before the store.
func (t *Tags) named(ctx context.Context, tag catalog.Tag, wantBytes bool) (foundManifest, error) {
	m := t.manifests()
	if cached, ok := m.cached(tag.Digest, wantBytes); ok && tag.Names(cached.Value) {
		return cached, nil
	}
	found, err := m.open(ctx, tag.Digest)
	if err == nil && !tag.Names(found.Value) {
		found.close()
		err = errUnknownManifest(tag.Digest)
	}
	return found, err
}

func (t *Tags) read(ctx context.Context, tag string) (catalog.StoredTag, error) {
	stored, err := t.s.catalog.ReadTag(ctx, t.repository, tag)
	if errors.Is(err, drivers.ErrNotFound) {
		err = errUnknownTag(tag)
	}
	return stored, err
}

// All returns all tags. See [TagService].
func (t *Tags) All(ctx context.Context) ([]string, error) {
	tags := []string{}
	_, err := t.list(ctx, "", 0, func(tag string) error {
		tags = append(tags, tag)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return tags, nil
}

// List calls ingester for the first n tags after last, in ascending byte order, and
// reports whether there may be more after them. If last is empty, it starts with the
// first tag. last need not be a tag. List stops at the first error that ingester
// returns, and returns it. It returns ErrNameUnknown if the repository never had a
// manifest.
//
// It sends one request for every 1,000 tags, and holds one page of them in memory. The
// tags of a manifest that was just deleted may be in the list.
func (t *Tags) List(ctx context.Context, last string, n int, ingester func(tag string) error) (more bool, err error) {
	want := n
	if n == 0 || n%pageKeys != 0 {
		want++ // to find out whether there are more; after full pages it would cost a request
	}
	ingested := 0
	listed, err := t.list(ctx, last, want, func(tag string) error {
		if ingested == n {
			return nil
		}
		ingested++
		return ingester(tag)
	})
	return listed == want, err
}

// pageKeys is the number of keys that a store lists in one request, unless its pages are
// larger.
const pageKeys = 1000

// list calls ingester for the first want tags after last, or for all if want is 0, and
// returns their number. It returns the errors of ingester as they are.
func (t *Tags) list(ctx context.Context, last string, want int, ingester func(tag string) error) (n int, err error) {
	for tag, err := range t.s.catalog.Tags(ctx, t.repository, last, want) {
		if err != nil {
			return n, publicError(err)
		}
		// A tag that was not copied would keep its key in memory.
		if err := ingester(strings.Clone(tag)); err != nil {
			return n, err
		}
		if n++; n == want {
			break
		}
	}
	if n > 0 {
		return n, nil
	}
	_, err = t.s.catalog.ReadMarker(ctx, t.repository)
	if errors.Is(err, drivers.ErrNotFound) {
		return 0, ErrNameUnknown
	}
	return 0, publicError(err)
}

// Lookup returns the tags that name a manifest. See [TagService]. It also returns an
// ErrBlobInvalidDigest. It returns no tags for a manifest that is unknown.
func (t *Tags) Lookup(ctx context.Context, desc Descriptor) ([]string, error) {
	if err := checkDigest(desc.Digest); err != nil {
		return nil, err
	}
	var named []catalog.StoredTag // tags with this digest
	read := func(ctx context.Context, tag string) (catalog.StoredTag, error) {
		stored, err := t.s.catalog.ReadTag(ctx, t.repository, tag)
		if errors.Is(err, drivers.ErrNotFound) {
			return catalog.StoredTag{}, nil
		}
		return stored, err
	}
	for stored, err := range inOrder(ctx, t.s.listReads, t.s.catalog.Tags(ctx, t.repository, "", 0), read) {
		if err != nil {
			return nil, publicError(err)
		}
		if stored.Value.Digest == desc.Digest {
			named = append(named, stored)
		}
	}
	if named == nil {
		return nil, nil
	}
	// A manifest in the cache may be older than a tag.
	found, err := t.manifests().open(ctx, desc.Digest)
	if errors.Is(err, ErrManifestUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, publicError(err)
	}
	found.close()
	var tags []string
	for _, stored := range named {
		_, tag, _ := catalog.ParseTagKey(stored.Object.Key)
		if stored.Value.Names(found.Value) {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}
