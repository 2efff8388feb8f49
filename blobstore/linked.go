package blobstore

import (
	"context"
	"errors"
	"iter"

	"github.com/berthhq/berth/drivers"
)

// LinkedBlob is a blob and the repositories that have it.
type LinkedBlob struct {
	Descriptor

	// Repositories are the repositories that have a link to the blob, also to a damaged
	// one, in the order of the links' keys.
	Repositories []string
}

// Linked returns the blobs that at least one repository has, in ascending order of their
// digests. It reads as the caller iterates, without the cache, and ends with the first
// error. A push or a deletion that runs at the same time may be missed.
//
// It sends one request for every 1,000 links, and one for each blob. Its memory does not
// grow with the number of blobs: it holds a few blobs at a time, with the names of their
// repositories.
func (s *Store) Linked(ctx context.Context) iter.Seq2[LinkedBlob, error] {
	return func(yield func(LinkedBlob, error) bool) {
		for blob, err := range inOrder(ctx, s.listReads, s.holdersOfAll(ctx), s.describeLinked) {
			if err != nil {
				yield(LinkedBlob{}, publicError(err))
				return
			}
			if len(blob.Repositories) > 0 && !yield(blob, nil) {
				return
			}
		}
	}
}

// holdersOfAll returns the blobs that have links, without their sizes.
func (s *Store) holdersOfAll(ctx context.Context) iter.Seq2[LinkedBlob, error] {
	return func(yield func(LinkedBlob, error) bool) {
		var next LinkedBlob
		for link, err := range s.catalog.Links(ctx) {
			if err != nil {
				yield(LinkedBlob{}, err)
				return
			}
			if link.Digest != next.Digest {
				if next.Digest != "" && !yield(next, nil) {
					return
				}
				next = LinkedBlob{Descriptor: Descriptor{Digest: link.Digest}}
			}
			next.Repositories = append(next.Repositories, link.Repository)
		}
		if next.Digest != "" {
			yield(next, nil)
		}
	}
}

// describeLinked adds what a link states about the blob. The result has no repositories
// if all links were deleted since they were listed.
func (s *Store) describeLinked(ctx context.Context, blob LinkedBlob) (LinkedBlob, error) {
	for _, repository := range blob.Repositories {
		link, err := s.catalog.ReadLink(ctx, blob.Digest, repository)
		if errors.Is(err, drivers.ErrNotFound) {
			continue
		}
		blob.Descriptor = descriptorOf(link.Value)
		return blob, err
	}
	return LinkedBlob{}, nil
}
