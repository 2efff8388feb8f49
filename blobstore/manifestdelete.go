package blobstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/berthhq/berth/blobstore/catalog"
	"github.com/berthhq/berth/drivers"
	"github.com/berthhq/berth/drivers/deadline"
)

// Delete makes a manifest unknown, with all tags that name it. See [ManifestService]. It
// also returns an ErrBlobInvalidDigest.
//
// Other processes may serve the manifest by its digest until CacheConfig.TTL has passed.
func (m *Manifests) Delete(ctx context.Context, dgst digest.Digest) error {
	if err := checkDigest(dgst); err != nil {
		return err
	}
	del := &deletion{m: m, due: m.s.newDeadline(), digest: dgst, immutable: m.s.immutable.of(m.repository)}
	// A client that disconnects has deleted the manifest or not. Its tags are tidied up
	// in both cases, because the next deletion would not find them.
	ctx, cancel := del.due.Context(context.WithoutCancel(ctx))
	defer cancel()
	err := del.run(ctx)
	m.s.cache.forgetManifest(manifestID{m.repository, dgst})
	return publicError(err)
}

// deletion is one request that deletes a manifest by its digest.
//
// It never touches the referrers entry of the manifest: the entry counts only while the
// manifest can be read, and a push that brings the manifest back may have written it
// already.
type deletion struct {
	m         *Manifests
	due       deadline.Deadline
	digest    digest.Digest
	immutable immutability // of this repository
}

func (del *deletion) run(ctx context.Context) error {
	deleted, err := del.delete(ctx)
	if err != nil {
		return err
	}
	del.tidy(ctx, deleted)
	return del.due.Check()
}

// delete replaces the manifest with a deleted one. From then on the manifest, its tags
// and its entry have disappeared for clients. It returns the manifest as it was before.
func (del *deletion) delete(ctx context.Context) (catalog.Manifest, error) {
	var previous catalog.Manifest // what an unanswered attempt may have deleted
	for {
		found, err := del.m.s.catalog.ReadManifest(ctx, del.m.repository, del.digest)
		if err != nil && !errors.Is(err, drivers.ErrNotFound) {
			return catalog.Manifest{}, err
		}
		isReadable := err == nil && found.Value.Readable()
		switch {
		case previous.ID != "" && (!isReadable || found.Value.ID != previous.ID):
			return previous, nil // that attempt or another deletion took effect
		case !isReadable:
			return catalog.Manifest{}, errUnknownManifest(del.digest)
		}
		if err := del.refuse(ctx, found.Value); err != nil {
			return catalog.Manifest{}, err
		}
		next := found.Value
		next.State = catalog.Deleted
		_, err = del.m.s.catalog.ReplaceManifest(ctx, del.due, found, next, nil)
		if err == nil || !errors.Is(err, drivers.ErrChanged) {
			return found.Value, err
		}
		previous = catalog.Manifest{}
		if errors.Is(err, drivers.ErrUnanswered) {
			previous = found.Value
		}
	}
}

// refuse returns ErrTagImmutable if an immutable tag names the manifest. It reads the
// tags after the manifest: a push that writes an immutable tag replaces the manifest
// afterwards, so that the deletion fails if it has missed the tag.
func (del *deletion) refuse(ctx context.Context, found catalog.Manifest) error {
	if len(del.immutable) == 0 {
		return nil
	}
	names := found.Hints
	if found.MoreHints {
		names = nil
		for tag, err := range del.m.s.catalog.Tags(ctx, del.m.repository, "", 0) {
			if err != nil {
				return err
			}
			names = append(names, tag)
		}
	}
	var tags []string
	for _, tag := range names {
		if del.immutable.match(tag) {
			tags = append(tags, tag)
		}
	}
	return eachOf(ctx, tags, func(ctx context.Context, tag string) error {
		stored, err := del.m.s.catalog.ReadTag(ctx, del.m.repository, tag)
		switch {
		case errors.Is(err, drivers.ErrNotFound):
			return nil
		case err != nil:
			return err
		case stored.Value.Names(found):
			return fmt.Errorf("%w: %s names the manifest", ErrTagImmutable, tag)
		}
		return nil
	})
}

// tidy deletes the hinted tags that name the deleted manifest. They do not resolve any
// more, so the collector may do it instead: always for a manifest with more tags than
// hints, and if the store fails.
func (del *deletion) tidy(ctx context.Context, deleted catalog.Manifest) {
	if deleted.MoreHints {
		return
	}
	err := eachOf(ctx, deleted.Hints, func(ctx context.Context, tag string) error {
		stored, err := del.m.s.catalog.ReadTag(ctx, del.m.repository, tag)
		if err == nil && stored.Value.Names(deleted) {
			err = del.m.s.catalog.DeleteTag(ctx, del.due, stored)
		}
		if errors.Is(err, drivers.ErrNotFound) || errors.Is(err, drivers.ErrChanged) {
			return nil
		}
		return err
	})
	if err != nil {
		del.m.s.cfg.Log.WarnContext(ctx, "a tag of a deleted manifest is left to the collector", "digest", del.digest, "error", err)
	}
}
