package blobstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
)

// Tags is the tags of one repository. It is safe for concurrent use.
// [Repository.Tags] returns it.
type Tags struct {
	s          *Store
	repository string
	readOnly   bool // see Repository.ReadOnly
}

// checkTag returns ErrTagInvalid unless the tag is well-formed.
func checkTag(tag string) error {
	if !catalog.IsTag(tag) {
		return fmt.Errorf("%w: %.200q", ErrTagInvalid, tag)
	}
	return nil
}

// Tag moves a tag to a manifest that the repository has. See [TagService]. It also
// returns ErrTagInvalid and an ErrBlobInvalidDigest.
func (t *Tags) Tag(ctx context.Context, tag string, desc Descriptor) error {
	if err := checkTag(tag); err != nil {
		return err
	}
	if err := checkDigest(desc.Digest); err != nil {
		return err
	}
	p := &push{m: t.manifests(), due: t.s.newDeadline(), want: catalog.Manifest{Digest: desc.Digest}, existing: true}
	p.moveTags([]string{tag}, TagCondition{})
	ctx, cancel := p.due.Context(ctx)
	defer cancel()
	defer p.free()
	return publicError(p.run(ctx))
}

func (t *Tags) manifests() *Manifests { return &Manifests{t.s, t.repository, t.readOnly} }

// Untag deletes a tag, and keeps the manifest. See [TagService]. It also returns
// ErrTagInvalid.
func (t *Tags) Untag(ctx context.Context, tag string) error {
	if err := checkTag(tag); err != nil {
		return err
	}
	due := t.s.newDeadline()
	ctx, cancel := due.Context(ctx)
	defer cancel()
	err := t.untag(ctx, due, tag)
	if err == nil {
		err = due.Check()
	}
	return publicError(err)
}

func (t *Tags) untag(ctx context.Context, due deadline.Deadline, tag string) error {
	for {
		stored, found, err := t.resolve(ctx, tag, false)
		if err != nil {
			return err
		}
		found.close()
		if t.s.immutable.of(t.repository).match(tag) {
			return fmt.Errorf("%w: %s", ErrTagImmutable, tag)
		}
		err = t.s.catalog.DeleteTag(ctx, due, stored)
		switch {
		case errors.Is(err, drivers.ErrUnanswered):
			return fmt.Errorf("%w: the store has not confirmed that it has deleted the tag %s: %w", ErrUnavailable, tag, err)
		case !errors.Is(err, drivers.ErrChanged):
			return err
		}
	}
}

// errUnknownTag returns an ErrManifestUnknown for a tag.
func errUnknownTag(tag string) error { return fmt.Errorf("%w: tag %s", ErrManifestUnknown, tag) }
