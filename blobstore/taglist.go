package blobstore

import (
	"context"
	"errors"
)

// Get describes the manifest that a tag names. See [TagService].
func (t *Tags) Get(ctx context.Context, tag string) (Descriptor, error) {
	return Descriptor{}, errors.ErrUnsupported
}

// All returns all tags. See [TagService].
func (t *Tags) All(ctx context.Context) ([]string, error) {
	return nil, errors.ErrUnsupported
}

// Lookup returns the tags that name a manifest. See [TagService].
func (t *Tags) Lookup(ctx context.Context, desc Descriptor) ([]string, error) {
	return nil, errors.ErrUnsupported
}

// List returns the first n tags after last, in ascending byte order, and reports
// whether there may be more after them. If last is empty, it starts with the first
// tag. last need not be a tag. List returns ErrNameUnknown if the repository never had
// a manifest.
//
// It sends one request for every 1,000 tags.
func (t *Tags) List(ctx context.Context, last string, n int) (tags []string, more bool, err error) {
	return nil, false, errors.ErrUnsupported
}
