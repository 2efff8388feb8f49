package blobstore

import (
	"context"
	"errors"
	"iter"

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
	tags, _, err := t.list(ctx, t.s.catalog.Tags(ctx, t.repository, "", 0), -1)
	return tags, err
}

// List returns the first n tags after last, in ascending byte order, and reports
// whether there are more after them. If last is empty, it starts with the first tag.
// last need not be a tag. List returns ErrNameUnknown if the repository never had a
// manifest.
//
// It sends one request for every 1,000 tags. The tags of a manifest that was just
// deleted may be in the list.
func (t *Tags) List(ctx context.Context, last string, n int) (tags []string, more bool, err error) {
	return t.list(ctx, t.s.catalog.Tags(ctx, t.repository, last, n+1), n)
}

// list returns the first n of the tags, or all if n is negative.
func (t *Tags) list(ctx context.Context, all iter.Seq2[string, error], n int) (tags []string, more bool, err error) {
	tags = []string{}
	for tag, err := range all {
		if err != nil {
			return nil, false, publicError(err)
		}
		if len(tags) == n {
			more = true
			break
		}
		tags = append(tags, tag)
	}
	if len(tags) > 0 || more {
		return tags, more, nil
	}
	_, err = t.s.catalog.ReadMarker(ctx, t.repository)
	if errors.Is(err, drivers.ErrNotFound) {
		return nil, false, ErrNameUnknown
	}
	return tags, false, publicError(err)
}

// Lookup returns the tags that name a manifest. See [TagService]. It also returns an
// ErrBlobInvalidDigest. It returns no tags for a manifest that is unknown.
func (t *Tags) Lookup(ctx context.Context, desc Descriptor) ([]string, error) {
	found, err := t.manifests().find(ctx, desc.Digest, false)
	if errors.Is(err, ErrManifestUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, publicError(err)
	}
	found.close()
	var tags []string
	names := func(ctx context.Context, tag string) (string, error) {
		stored, err := t.s.catalog.ReadTag(ctx, t.repository, tag)
		if errors.Is(err, drivers.ErrNotFound) || err == nil && !stored.Value.Names(found.Value) {
			return "", nil
		}
		return tag, err
	}
	for tag, err := range inOrder(ctx, t.s.listReads, t.s.catalog.Tags(ctx, t.repository, "", 0), names) {
		if err != nil {
			return nil, publicError(err)
		}
		if tag != "" {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}
