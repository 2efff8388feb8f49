package blobstore

import (
	"context"
	"errors"
)

// Tags is the tags of one repository. It is safe for concurrent use.
// [Repository.Tags] returns it.
type Tags struct {
	s          *Store
	repository string
	readOnly   bool // see Repository.ReadOnly
}

// Tag moves a tag. See [TagService].
func (t *Tags) Tag(ctx context.Context, tag string, desc Descriptor) error {
	return errors.ErrUnsupported
}

// Untag deletes a tag. See [TagService].
func (t *Tags) Untag(ctx context.Context, tag string) error {
	return errors.ErrUnsupported
}
